"""The figures of the linear model: figures 6, 7 and 8 over features learned, with the closed form.

figures(table, verdicts, design)        # {"8_loss_fixed_noise": Figure, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.linear_model import Curve, curve_of, joined, select
from ucurve.analysis.statistics import Array
from ucurve.figures import charts
from ucurve.figures.axes import Axis
from ucurve.figures.colours import NEUTRAL, LineEncoding
from ucurve.figures.linear_model_law import law_figures
from ucurve.figures.tabs import placed
from ucurve.schemas.results import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
FEATURES = Axis("features", "features learned")
BEFORE = "before"  # the line of the loss before fine-tuning
UNIT = "½ sum of squared errors"  # the normalisation of every loss here
MINIMA = "Triangles: minima with 95% bootstrap intervals."
PLACES = {
    "6_fine_tuning": ("Fine-tuning", "pre-training loss"),
    "6b_fine_tuning_loss": ("Fine-tuning", "fine-tuning loss"),
    **{
        name.format(scale): (tab, f"{scale} noise", shown)
        for scale in ("fixed", "relative")
        for name, tab, shown in (
            ("8_loss_{}_noise", "U-curve", "after"),
            ("7_change_{}_noise", "U-curve", "increase"),
            ("law_{}_noise", "Power law", "fit"),
            ("law_onset_{}_noise", "Power law", "onset of the U"),
        )
    },
}


@dataclass(frozen=True)
class Design:
    """What the figures need of a spec: noise sizes by scale, L2-SP strengths, repetitions."""

    gammas: Mapping[str, Sequence[float]]  # {"fixed": [0.08], "relative": [0.2]}
    l2_sp: Sequence[float]
    num_draws: int
    num_targets: int


def figures(table: pd.DataFrame, verdicts: Sequence[Verdict], design: Design) -> dict[str, Figure]:
    """Return figures 6, 7 and 8; the closed form is that of the snapshots' own weights.

    verdicts: their minima are marked.
    """
    table = joined(table)
    result: dict[str, Figure] = {}
    for scale, gammas in design.gammas.items():
        if gammas:
            result |= _noise(table, verdicts, scale, sorted(set(gammas)), design.num_draws)
            result |= law_figures(table, verdicts, scale, sorted(set(gammas)))
    if design.l2_sp:
        result |= _fine_tuning(table, verdicts, design)
    return placed(result, PLACES)


def _noise(
    table: pd.DataFrame,
    verdicts: Sequence[Verdict],
    scale: str,
    gammas: Sequence[float],
    num_draws: int,
) -> dict[str, Figure]:
    """Return figures 8 and 7 of one noise scale."""
    lines = LineEncoding("gamma", "γ", gammas)
    labels = {"part": "noise", "scale": scale}
    return {
        f"8_loss_{scale}_noise": _figure(
            table,
            # Linear: with the default gammas a logarithm flattens the rise after the minimum.
            Axis("y", f"loss after noise ({UNIT})"),
            lines,
            labels,
            verdicts=verdicts,
            title=f"Loss under {scale} noise (figure 8)",
            caption=f"Dots: simulation. Lines: closed form. {MINIMA}",
        ),
        f"7_change_{scale}_noise": _figure(
            table,
            Axis("y", f"loss increase ({UNIT})"),
            lines,
            labels,
            minus_base=True,
            title=f"Loss increase under {scale} noise (figure 7)",
            caption=f"Dots and bands: mean of {num_draws} noise seeds with 95% intervals. Lines: "
            "closed form, from the snapshots' weights.",
        ),
    }


def _fine_tuning(
    table: pd.DataFrame, verdicts: Sequence[Verdict], design: Design
) -> dict[str, Figure]:
    """Return figure 6: the pre-training loss before and after, and the fine-tuning loss."""
    strengths = sorted(set(design.l2_sp))
    labels = {"part": "fine-tuning"}
    main = _figure(
        table,
        Axis("y", f"pre-training loss ({UNIT})", zero=True),
        LineEncoding(
            "l2_sp", "after, L2-SP", [BEFORE, *strengths], ordered=False, neutral=[BEFORE]
        ),
        labels,
        theory=None,
        verdicts=verdicts,
        title="Pre-training loss before and after misaligned fine-tuning (figure 6)",
        caption=f"Bands: 95% intervals over {design.num_targets} targets. {MINIMA} Dashes: closed "
        "form of the loss before fine-tuning, half the sum of s² over features not yet learned.",
    )
    main.datasets["curves"].extend(
        _base_rows(table, {**labels, "l2_sp": strengths[0]}, "l2_sp", BEFORE)
    )
    task = _figure(
        table,
        Axis("y", f"fine-tuning loss ({UNIT})", zero=True),
        LineEncoding("l2_sp", "L2-SP", strengths, ordered=False),
        labels,
        value="tuning_loss_mean",
        theory=None,
        title="Fine-tuning loss",
        caption="L2-SP regularises towards the pre-trained weights: it preserves the old task at "
        "the expense of the new one.",
    )
    return {"6_fine_tuning": main, "6b_fine_tuning_loss": task}


def _figure(
    table: pd.DataFrame,
    y: Axis,
    lines: LineEncoding,
    labels: Mapping[str, Any],
    *,
    value: str = "mse_mean",
    minus_base: bool = False,
    theory: str | None = "closed_form",
    verdicts: Sequence[Verdict] = (),
    title: str,
    caption: str,
) -> Figure:
    """Return dots with a band per value of `lines.field`, and the closed form as a line.

    theory: the column that holds the closed form; None: simulated lines instead. verdicts: mark
    their minima.
    """
    part = select(table, labels)
    rows = _points(part, lines, value, minus_base)
    for line in lines.values:
        curve = curve_of(part, {lines.field: line})
        if not curve.measured.any():
            continue
        base = curve.numbers["base_mse"] if minus_base else np.zeros(len(curve.features))
        if theory:
            closed_form = curve.numbers[theory] - base
            rows += _line(lines.field, line, curve.features, closed_form, "closed form")
        rows += _minima(lines.field, line, curve, verdicts, {**labels, lines.field: line})
    lines = replace(lines, values=tuple(lines.values), neutral=tuple(lines.neutral))
    return Figure(
        title, caption, _chart(y, lines, theory is not None, minus_base), {"curves": rows}
    )


def _base_rows(table: pd.DataFrame, labels: Mapping[str, Any], field: str, line: str) -> list[Row]:
    """Return the loss before, and its closed form 1/2 sum of the s_i^2 not yet learned."""
    curve = curve_of(table, labels)
    return [
        *_line(field, line, curve.features, curve.numbers["base_mse"], "mean"),
        *_line(field, line, curve.features, curve.numbers["base_ideal"], "closed form"),
    ]


def _points(part: pd.DataFrame, lines: LineEncoding, value: str, minus_base: bool) -> list[Row]:
    """Return rows for `charts.curves`: means with 95% t bands, and what is missing."""
    rows: list[Row] = []
    counts = {"not measured yet": 0, "failed": 0, "not finite": 0}
    for record in part.to_dict(orient="records"):
        key = {lines.field: record[lines.field], "features": record["features"]}
        point = {**key, "measurement": record["measurement"]}
        y = float(record.get(value, np.nan))
        if record["state"] == "done" and np.isfinite(y):
            num_draws = len(record["series"]["draws"])
            y -= record["base_mse"] if minus_base else 0.0
            half = 0.0
            if value == "mse_mean":
                half = statistics.t_quantile(0.975, num_draws - 1) * record["mse_se"]
            band = {"low": y - half, "high": y + half, "num_draws": num_draws}
            rows.append({"what": "mean", **key, "y": y, **band})
            rows.append({"what": "draw", **point, "y": y})  # the mark that a click picks
        elif record["state"] in ("done", "failed"):
            label = "failed" if record["state"] == "failed" else "not finite"
            counts[label] += 1
            slot = lines.values.index(key[lines.field])
            rows.append({"what": "edge", **point, "label": label, "slot": slot})
        else:
            counts["not measured yet"] += 1
            rows.append({"what": "waiting", **key, "num_waiting": 1})
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [*rows, {"what": "note", "label": f"of {len(part)}: {text}"}] if text else rows


def _line(field: str, line: Any, x: Array, y: Array, row_type: str) -> list[Row]:
    finite = np.isfinite(y)
    pairs = zip(x[finite], y[finite], strict=True)
    return [{"what": row_type, field: line, "features": float(a), "y": float(b)} for a, b in pairs]


def _minima(
    field: str, line: Any, curve: Curve, verdicts: Sequence[Verdict], labels: Mapping[str, Any]
) -> list[Row]:
    """Return the minimum of the simulated line and its interval, if a verdict has it."""
    rows: list[Row] = []
    for verdict in verdicts:
        minimum = verdict.minimum
        if minimum is None or verdict.labels != labels:
            continue
        y = float(curve.numbers["mse_mean"][curve.features == minimum.x][0])
        if not np.isfinite(y):
            continue
        rows.append(
            {
                "what": "bottom",
                field: line,
                "features": minimum.x,
                "x_low": minimum.low,
                "x_high": minimum.high,
                "y": y,
                "label": f"{minimum.x:g} features (95% CI: {minimum.low:g} to {minimum.high:g})",
            }
        )
    return rows


@lru_cache(maxsize=100)
def _chart(y: Axis, lines: LineEncoding, theory: bool, zero_line: bool) -> dict[str, Any]:
    """Return the chart of one figure; cached, as building it takes half a second.

    With theory, dots are simulated and lines are rows of `what` "closed form"; without, such rows
    are grey dashes.
    """
    chart = charts.curves(FEATURES, y, lines, zero_line=zero_line)
    closed_form = {"transform": [{"filter": "datum.what === 'closed form'"}]}
    (line,) = [layer for layer in chart["layer"] if layer["mark"]["type"] == "line"]
    if theory:
        layers = [{**layer, **closed_form} if layer is line else layer for layer in chart["layer"]]
        return {**chart, "layer": layers}
    dashed = {
        **line,
        **closed_form,
        "mark": {**line["mark"], "strokeDash": [5, 4], "color": NEUTRAL},
    }
    return {**chart, "layer": [*chart["layer"], dashed]}
