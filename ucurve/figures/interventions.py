"""The figures of interventions: losses over tokens by intervention, and the plane of both changes.

figures(table, branches=["none", "constant"], scales=["init_std"], gammas=[0.3])

The table is that of `ucurve.analysis.interventions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ucurve.analysis.curve_rows import curve_rows
from ucurve.analysis.interventions import Branches, noise_losses, plane
from ucurve.figures import charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.change_plane import change_plane
from ucurve.figures.colours import LineEncoding
from ucurve.figures.tabs import placed
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

BANDS = (
    "Dots: pre-training seeds. Bands: 95% t intervals over them, on this evaluation text, clipped "
    "near the outermost point."
)
BASE_CHANGE = Axis("x", "change of the unperturbed loss / nats")
INCREASE_CHANGE = Axis("y", "change of the loss increase / nats")
PLACES = {
    "base": ("Over tokens", "unperturbed"),
    "loss": ("Over tokens", "after noise"),
    "increase": ("Over tokens", "increase"),
    "plane": ("Both changes",),
}


def figures(
    table: pd.DataFrame, branches: Sequence[str], scales: Sequence[str], gammas: Sequence[float]
) -> dict[str, Figure]:
    """Return all figures by name, of the rows measured so far."""
    noisy = _after_noise(table, scales, gammas)
    lines = LineEncoding("intervention", "intervention", list(branches), ordered=False)
    row = "scale" if len(scales) > 1 else None
    stopped = " early_stop has read fewer tokens." if "early_stop" in branches else ""

    def over_tokens(name: str, title: str) -> Figure:
        return Figure(
            title,
            f"By intervention, after the same noise for all branches of a seed. {BANDS}{stopped}",
            charts.curves(
                tokens_axis(),
                Axis("y", f"{name} / nats"),
                lines,
                row=row,
                column="gamma",
                width=300,
            ),
            {
                "curves": curve_rows(
                    noisy, "tokens", name, ["intervention"], facets=["scale", "gamma"]
                )
            },
        )

    every_figure = {
        "base": Figure(
            "Unperturbed loss over tokens",
            f"By intervention. {BANDS}{stopped}",
            charts.curves(tokens_axis(), Axis("y", "loss / nats"), lines),
            {"curves": curve_rows(table, "tokens", "nll_mean", ["intervention"])},
        ),
        "loss": over_tokens("loss after noise", "Loss after noise over tokens"),
        "increase": over_tokens("loss increase", "Loss increase over tokens"),
        "plane": Figure(
            "Does it keep the base and lower the loss increase?",
            "At the largest budget, an intervention minus the control: right of zero the base is "
            "worse, below zero the model is less fragile. Bars: 95% t intervals of differences "
            f"within pre-training seeds.{stopped}",
            change_plane(BASE_CHANGE, INCREASE_CHANGE, lines, row=row, column="gamma"),
            {"curves": list(plane(Branches.of(table), branches))},
        ),
    }
    return placed(every_figure, PLACES)


def _after_noise(
    table: pd.DataFrame, scales: Sequence[str], gammas: Sequence[float]
) -> pd.DataFrame:
    """Return a row per branch, noise scale and gamma; branches not measured yet have no losses."""
    import pandas as pd

    if table.empty or "budget" not in table:
        return pd.DataFrame()
    labels = ("intervention", "tokens", "replicate", "state", "measurement")
    rows = []
    for row in table.to_dict("records"):
        losses = noise_losses(row["series"]) if row["state"] == "done" else {}
        for scale in scales:
            for gamma in gammas:
                after = losses.get((scale, gamma), np.array([np.nan])).mean()
                rows.append(
                    {
                        **{name: row[name] for name in labels},
                        "scale": scale,
                        "gamma": gamma,
                        "loss after noise": float(after),
                        "loss increase": float(after) - float(row.get("nll_mean") or np.nan),
                    }
                )
    return pd.DataFrame(rows)
