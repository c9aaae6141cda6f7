"""The power law of the linear model's loss increase, with the closed form drawn over it.

    law_figures(table, verdicts, "fixed", [0.04, 0.08])     # {"law_fixed_noise": Figure, ...}

The closed form is the linear model's own prediction, from the weights of the snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.linear_model import Curve, curve_of, select
from ucurve.analysis.loss_increase_law import CLAIM
from ucurve.figures import charts, loss_increase_law
from ucurve.figures.axes import Axis
from ucurve.figures.colours import NEUTRAL, LineEncoding
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

FEATURES = Axis("tokens", "features learned")  # the field of all laws' rows
INCREASE = Axis("y", "loss increase", "symlog", constant=0.01)
ONSET = Axis("y", "features learned where the U begins")
CLOSED_FORM = "closed form"


def law_figures(
    table: pd.DataFrame, verdicts: Sequence[Verdict], scale: str, gammas: Sequence[float]
) -> dict[str, Figure]:
    """Return the law against the simulated points, and where the U begins, of one noise scale.

    table: joined. Both have the closed form as dashes.
    """
    labels = {"part": "noise", "scale": scale}
    part = select(table, labels)
    curves = {gamma: curve_of(part, {"gamma": gamma}) for gamma in gammas}
    laws = [
        verdict.law
        for verdict in verdicts
        if verdict.claim == CLAIM and verdict.law and verdict.labels == labels
    ]
    lines = LineEncoding("gamma", "γ", list(gammas))
    fitted = [row for law in laws for row in loss_increase_law.fitted_rows({}, law, lines)]
    onsets = [row for law in laws for row in loss_increase_law.onset_rows({}, law)]
    if laws:
        fitted += [row for gamma, curve in curves.items() for row in _increases(gamma, curve)]
        onsets += [row for gamma, curve in curves.items() for row in _minima(gamma, curve)]
    return {
        f"law_{scale}_noise": Figure(
            f"Power law of the loss increase under {scale} noise",
            "Crosses with 95% intervals: simulated mean. Lines: c gamma^a features^b, one law for "
            "all points. Dashes: closed form, the prediction of the linear model.",
            _fitted_chart(tuple(gammas)),
            {"curves": fitted},
        ),
        f"law_onset_{scale}_noise": Figure(
            f"Where the U begins under {scale} noise, by the law",
            "Features learned at which loss before noise plus law is lowest, with a 95% band over "
            "noise seeds that takes the law as exact. Dashes: minimum of the closed form.",
            _onset_chart(),
            {"curves": onsets},
        ),
    }


def _increases(gamma: float, curve: Curve) -> list[dict[str, Any]]:
    """Return the closed form of the loss increase; no power law is asked at 0 features."""
    values = curve.numbers["closed_form"] - curve.numbers["base_mse"]
    used = np.isfinite(values) & (curve.features > 0)
    pairs = zip(curve.features[used], values[used], strict=True)
    return [
        {"what": CLOSED_FORM, "gamma": gamma, "tokens": float(x), "y": float(y)} for x, y in pairs
    ]


def _minima(gamma: float, curve: Curve) -> list[dict[str, Any]]:
    """Return the minimum of the closed form, once all snapshots are measured."""
    losses = curve.numbers["closed_form"]
    if not len(losses) or not np.isfinite(losses).all():
        return []
    lowest = float(curve.features[losses.argmin()])
    return [{"what": CLOSED_FORM, "line": loss_increase_law.BY_LAW, "size": gamma, "y": lowest}]


@lru_cache(maxsize=100)
def _fitted_chart(gammas: tuple[float, ...]) -> dict[str, Any]:
    return _with_dashes(charts.curves(FEATURES, INCREASE, LineEncoding("gamma", "γ", gammas)))


@lru_cache(maxsize=1)
def _onset_chart() -> dict[str, Any]:
    lines = LineEncoding("line", "", (loss_increase_law.BY_LAW,), ordered=False)
    return _with_dashes(charts.curves(Axis("size", "γ", "log"), ONSET, lines))


def _with_dashes(chart: dict[str, Any]) -> dict[str, Any]:
    """Return the chart with grey dashes through rows of `what` "closed form"."""
    (line,) = [layer for layer in chart["layer"] if layer["mark"]["type"] == "line"]
    dashed = {
        **line,
        "transform": [{"filter": f"datum.what === '{CLOSED_FORM}'"}],
        "mark": {**line["mark"], "strokeDash": [5, 4], "color": NEUTRAL},
    }
    return {**chart, "layer": [*chart["layer"], dashed]}
