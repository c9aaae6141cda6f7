"""The figures of measured noise beside the Hessian: what it predicts, and where it stops to.

    noise_figures(table, sigmas=[0.001], gammas=[0.05, 0.1])

The table is that of `ucurve.analysis.sharpness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ucurve.analysis.curve_rows import clip_bands, curve_rows
from ucurve.analysis.sharpness import LIMIT, curves, departures, growth, regimes
from ucurve.analysis.sharpness_noise import (
    HESSIAN,
    SCALES,
    NoiseCost,
    estimates,
    noise_costs,
    noise_curves,
)
from ucurve.analysis.sharpness_rows import departure_rows, regime_rows
from ucurve.figures import charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.formatting import tokens
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

TOKENS = tokens_axis()
PREDICTED = "Hessian"
ON_THIS_TEXT = "Bands: 95% t intervals over noise seeds, on this text and this pre-training run."


def noise_figures(
    table: pd.DataFrame, sigmas: Sequence[float], gammas: Sequence[float]
) -> dict[str, Figure]:
    """Return the figures of noise of these gammas by name; none without gammas."""
    if not gammas:
        return {}
    estimated = estimates(table, gammas)
    costs = noise_costs(estimated)
    problems = dict.fromkeys(cost.problem for cost in costs if cost.problem)
    missing = "".join(f" Missing values: {problem}." for problem in problems)
    return {
        "noise_cost": _cost(estimated, gammas, missing),
        "growth": _growth(table, sigmas, gammas),
        "noise_departure": _departure(costs, missing),
        **({"noise_regime": _regime(costs, missing)} if len(gammas) > 1 else {}),
    }


def _name_of(gamma: float) -> str:
    return f"γ {gamma:g}" if gamma != HESSIAN else PREDICTED


def _cost(estimated: pd.DataFrame, gammas: Sequence[float], missing: str) -> Figure:
    """Return what the Hessian predicts and what noise costs, over tokens."""
    usable = estimated[estimated["problem"] == ""]
    rows = curve_rows(
        usable.assign(estimate=[_name_of(gamma) for gamma in usable["gamma"]]),
        "tokens",
        "value",
        ["estimate"],
        facets=["replicate", "scale"],
    )
    names = [PREDICTED, *map(_name_of, gammas)]
    return Figure(
        "Predicted and measured cost of noise",
        "The Hessian predicts that noise of standard deviation γσᵢ on the weights of tensor i "
        "costs γ²/2 · Σ σᵢ² tr Hᵢᵢ nats. Drawn are that sum, estimated along directions of ±1, and "
        "the measured loss increase over γ²/2 under Gaussian noise of the same seeds, both on the "
        "windows of the Hessian: they coincide as long as curvature explains the cost. Bands: 95% "
        "t intervals over directions or noise seeds, on this text and this pre-training run, "
        f"clipped near the outermost point.{missing}",
        charts.curves(
            TOKENS,
            Axis("y", "cost / (γ²/2) / nats", zero=True),
            LineEncoding("estimate", "from", names, ordered=False),
            row="replicate",
            column="scale",
        ),
        {"curves": rows},
    )


def _growth(table: pd.DataFrame, sigmas: Sequence[float], gammas: Sequence[float]) -> Figure:
    """Return the trace and the cost of noise relative to the first checkpoint, over tokens."""
    gamma = gammas[0]
    series = {}
    for replicate, curve in curves(table).items():
        series[replicate, PREDICTED] = (curve.x, curve.forms)
        if curve.rises:
            smallest = min(curve.rises)
            series[replicate, f"σ {smallest:g}"] = (curve.x, curve.rises[smallest])
    for (replicate, scale), (x, increases) in noise_curves(table, gammas).items():
        series[replicate, f"γ {gamma:g}, {scale}"] = (x, increases)
    rows = [
        {
            "what": "mean",
            "replicate": replicate,
            "estimate": name,
            "tokens": point.tokens,
            "y": point.value,
            "low": point.low,
            "high": point.high,
            "num_draws": point.num_draws,
        }
        for (replicate, name), values in series.items()
        for point in growth(*values)
    ]
    names = [PREDICTED, *([f"σ {min(sigmas):g}"] if sigmas else [])]
    names += [f"γ {gamma:g}, {scale}" for scale in SCALES]
    return Figure(
        "Growth of sharpness and of the cost of noise",
        "Each relative to its first checkpoint: the trace, the loss increase along the directions "
        f"of ±1, and that under Gaussian noise of γ {gamma:g} on the whole evaluation set. Noise "
        "of one size (init_std, σ) grows as the trace does as long as curvature explains it; "
        "under current_std the growth of the weights comes on top. Bands: 95% intervals of the "
        "ratio over directions or noise seeds; they have neither the text's error nor variation "
        "between pre-training runs.",
        charts.curves(
            TOKENS,
            Axis("y", "relative to the first checkpoint", "log"),
            LineEncoding("estimate", "of", names, ordered=False),
            row="replicate",
        ),
        {"curves": clip_bands(rows)},
    )


def _departure(costs: Sequence[NoiseCost], missing: str) -> Figure:
    """Return how far the cost of noise is from the Hessian's prediction, over gamma."""
    rows: list[dict[str, Any]] = []
    for cost in costs:
        place = {"replicate": cost.replicate, "scale": cost.scale}
        rows += departure_rows(departures(cost.curve), "gamma", place)
    rows = [{**row, "checkpoint": tokens(row["tokens"])} for row in rows]
    places = sorted({float(at) for cost in costs for at in cost.curve.x})
    names = list(dict.fromkeys(map(tokens, places)))
    return Figure(
        "Departure from the Hessian's prediction over γ",
        "Measured loss increase under Gaussian noise over γ²/2 · Σ σᵢ² (vᵀHv)ᵢ of the same seeds, "
        "minus 1. At small γ the slope of the loss along the noise, whose mean is 0, widens the "
        f"bands; more noise seeds narrow them. {ON_THIS_TEXT}{missing}",
        charts.curves(
            Axis("gamma", "γ", "log"),
            Axis("y", "departure", "symlog", constant=0.01),
            LineEncoding("checkpoint", "tokens", names, ordered=bool(names)),
            row="replicate",
            column="scale",
            zero_line=True,
        ),
        {"curves": clip_bands(rows)},
    )


def _regime(costs: Sequence[NoiseCost], missing: str) -> Figure:
    """Return the gamma at which the departure reaches the limit, over tokens."""
    rows: list[dict[str, Any]] = []
    for cost in costs:
        place = {"replicate": cost.replicate, "scale": cost.scale}
        slot = SCALES.index(cost.scale)
        rows += regime_rows(regimes(departures(cost.curve)), "γ", place, slot)
    return Figure(
        "End of the quadratic regime under noise",
        f"The γ at which the departure reaches {LIMIT:.0%} for good, by straight lines between "
        "logarithms. Bands: where the ends of the departure's 95% interval reach it; an end beyond "
        f"the measured γ has none. Triangles at the top: not reached within them; open where the "
        f"interval at the smallest γ does not say whether it is.{missing}",
        charts.curves(
            TOKENS,
            Axis("y", f"γ at a departure of {LIMIT:.0%}", "log"),
            LineEncoding("scale", "noise scale", list(SCALES), ordered=False),
            row="replicate",
        ),
        {"curves": clip_bands(rows)},
    )
