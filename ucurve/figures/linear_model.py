"""The linear model's table as curves over features learned: rows for figures 6, 7, 8, and verdicts against the closed form.

curve_of(table, {"part": "noise", "scale": "fixed", "gamma": 0.08}).condition  # what `ucurve.analysis.claims` takes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import claims, statistics
from ucurve.analysis.statistics import Array
from ucurve.figures import charts
from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

FEATURES = charts.Axis("features", "features learned")
NUMBERS = (
    "base_mse",
    "mse_mean",
    "mse_se",
    "closed_form",
    "closed_form_ideal",
    "base_ideal",
    "tuning_loss_mean",
)


@dataclass(frozen=True)
class Curve:
    """One change over all snapshots; NaN and measured False where there is no number yet."""

    name: str
    features: Array  # [num_snapshots]
    draws: Array  # [num_snapshots, num_draws]: loss after the change
    measured: NDArray[np.bool_]  # [num_snapshots]
    numbers: Mapping[str, Array]  # [num_snapshots] each

    @property
    def condition(self) -> claims.Condition:
        """For the verdicts; an effect of 1% of the lowest loss is relevant."""
        lowest = np.nanmin(self.numbers["mse_mean"]) if self.measured.any() else 1.0
        return claims.Condition(
            self.name,
            self.features,
            self.draws,
            self.numbers["base_mse"][:, None],
            np.repeat(self.measured[:, None], self.draws.shape[1], axis=1),
            relevant=float(0.01 * lowest),
            x_name="features",
            unit="MSE",
            draw_name="targets" if "fine-tuning" in self.name else "draws",
        )


def joined(table: pd.DataFrame) -> pd.DataFrame:
    """A row per change and snapshot, of the blocks of draws that were measured apart."""
    import pandas as pd

    if "draw" not in table:  # one block each
        return table
    keys = [name for name in ("part", "scale", "gamma", "l2_sp", "features") if name in table]
    groups = table.fillna({"draw": 0}).sort_values("draw").groupby(keys, dropna=False, sort=False)
    return pd.DataFrame([_together(blocks) for _, blocks in groups])


def _together(blocks: pd.DataFrame) -> dict[str, Any]:
    """Of the blocks measured so far, without a gap: draws are paired over snapshots by their number."""
    states = list(blocks["state"])
    num_done = next((i for i, state in enumerate(states) if state != "done"), len(states))
    if not num_done or "failed" in states:
        missing: dict[str, Any] = {"series": {}, **dict.fromkeys(NUMBERS, np.nan)}
        return _fields(blocks.iloc[states.index("failed") if "failed" in states else 0]) | missing
    blocks = blocks.iloc[:num_done]
    series = {
        name: [value for one in blocks["series"] for value in one[name]]
        for name in blocks["series"].iloc[0]
    }
    losses = np.array([np.inf if value is None else value for value in series["draws"]])
    with np.errstate(invalid="ignore"):
        numbers = {
            "mse_mean": float(losses.mean()),
            "mse_se": float(losses.std(ddof=1) / np.sqrt(len(losses))),
        }
    if "tuning_loss" in series:
        numbers["tuning_loss_mean"] = float(
            np.mean([np.inf if value is None else value for value in series["tuning_loss"]])
        )
    return {**_fields(blocks.iloc[0]), "series": series, **numbers}


def _fields(row: pd.Series) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def chosen(table: pd.DataFrame, labels: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of one change."""
    for name, value in labels.items():
        table = table[table[name] == value] if name in table else table[:0]
    return table


def curve_of(table: pd.DataFrame, labels: Mapping[str, Any], name: str = "") -> Curve:
    """The curve of one change from the experiment's table."""
    rows = chosen(table, labels)
    rows = rows.sort_values("features") if len(rows) else rows.assign(features=0.0)
    series = [row.get("draws", []) if isinstance(row, dict) else [] for row in rows["series"]]
    measured = np.array([state == "done" for state in rows["state"]], bool)
    num_draws = min(
        (len(values) for values in series if values), default=0
    )  # that all snapshots measured so far have
    draws = np.full((len(rows), num_draws), np.nan)
    for index, values in enumerate(series):
        draws[index, : len(values)] = [
            np.inf if value is None else value for value in values[:num_draws]
        ]
    numbers = {
        key: rows[key].to_numpy(dtype=float) if key in rows else np.full(len(rows), np.nan)
        for key in NUMBERS
    }
    return Curve(name, rows["features"].to_numpy(dtype=float), draws, measured, numbers)


def figure(
    table: pd.DataFrame,
    y: charts.Axis,
    lines: charts.Lines,
    labels: Mapping[str, Any],
    *,
    value: str = "mse_mean",
    minus_base: bool = False,
    theory: str | None = "closed_form",
    bottoms: bool = False,
    title: str,
    caption: str,
) -> Figure:
    """Dots with a band per value of `lines.field`, and the closed form as a line; simulated lines where there is none.

    theory: the column that holds the closed form. bottoms: mark the lowest point of each line with its bootstrap interval.
    """
    part = chosen(table, labels)
    rows = _points(part, lines, value, minus_base)
    for line in lines.values:
        curve = curve_of(part, {lines.field: line})
        if not curve.measured.any():
            continue
        base = curve.numbers["base_mse"] if minus_base else np.zeros(len(curve.features))
        if theory:
            rows += _line(
                lines.field, line, curve.features, curve.numbers[theory] - base, "closed form"
            )
        if bottoms:
            rows += _bottom(lines.field, line, curve)
    lines = replace(lines, values=tuple(lines.values), neutral=tuple(lines.neutral))
    return Figure(
        title, caption, _chart(y, lines, theory is not None, minus_base), {"curves": rows}
    )


def base_rows(
    table: pd.DataFrame, labels: Mapping[str, Any], field: str, line: str
) -> list[dict[str, Any]]:
    """The loss before any change as one more line, and its closed form 1/2 sum of the s_i^2 not yet learned."""
    curve = curve_of(table, labels)
    return [
        *_line(field, line, curve.features, curve.numbers["base_mse"], "mean"),
        *_line(field, line, curve.features, curve.numbers["base_ideal"], "closed form"),
    ]


def closed_form_verdicts(curves: Sequence[Curve], scope: str, seed: int = 0) -> list[Verdict]:
    """Does the simulation agree with the closed form on its own weights, point by point and at the bottom?"""
    known = [curve for curve in curves if curve.measured.any() and curve.draws.shape[1] > 1]
    if not known:
        return []
    z = np.concatenate([_z(curve) for curve in known])
    num_draws = known[0].draws.shape[1]
    limit = statistics.t_quantile(1 - 0.025 / len(z), num_draws - 1)
    worst, rms = float(np.abs(z).max()), float(np.sqrt(np.square(z).mean()))
    agrees = worst < limit
    points = Verdict(
        claim="simulation agrees with the closed form",
        scope=scope,
        answer="yes" if agrees else "no",
        sentence=f"{'yes' if agrees else 'no'}: of {len(z)} points the worst is {worst:.2f} standard errors off the "
        f"closed form on its own weights (limit {limit:.2f}).",
        effect=worst,
        effect_name="largest deviation in standard errors",
        test=f"t test per point, Bonferroni over {len(z)}",
        num_draws=num_draws,
        evidence={
            "rms_z": rms,
            "limit": limit,
            "note": "points share their draws, so rms_z scatters widely around 1",
        },
    )
    return [points, *(_bottom_verdict(curve, len(known), seed) for curve in known)]


def _bottom_verdict(curve: Curve, num_curves: int, seed: int) -> Verdict:
    """Is the closed form's bottom inside the simulated one's interval?"""
    bottom, low, high = _bottom_of(curve, 1 - 0.05 / num_curves, seed)
    features = curve.features[curve.measured]
    expected = float(features[curve.numbers["closed_form"][curve.measured].argmin()])
    ideal = float(features[curve.numbers["closed_form_ideal"][curve.measured].argmin()])
    inside = low <= expected <= high
    return Verdict(
        claim="bottom where the closed form puts it",
        scope=curve.name,
        answer="yes" if inside else "no",
        sentence=f"{'yes' if inside else 'no'}: the simulated loss is lowest at {bottom:g} features ({low:g} to {high:g}); "
        f"the closed form says {expected:g} on these weights and {ideal:g} on exact k-feature states.",
        effect=bottom,
        effect_name="bottom, features learned",
        interval=(low, high),
        test=f"bootstrap over draws, Bonferroni over {num_curves} curves",
        num_draws=curve.draws.shape[1],
        evidence={"closed_form": expected, "ideal": ideal},
    )


def _z(curve: Curve) -> Array:
    """Deviation from the closed form in standard errors; 0 where both are equal to rounding."""
    off = (curve.numbers["mse_mean"] - curve.numbers["closed_form"])[curve.measured]
    rounding = 1e-9 * curve.numbers["closed_form"][curve.measured]
    z: Array = np.where(
        np.abs(off) < rounding,
        0.0,
        off / np.maximum(curve.numbers["mse_se"][curve.measured], rounding),
    )
    return z


def _bottom_of(curve: Curve, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Features at the simulated bottom and its interval."""
    losses = statistics.capped(curve.draws[curve.measured])
    found = statistics.bottom_interval(losses, np.random.default_rng(seed), level)
    bottom, low, high = (float(curve.features[curve.measured][index]) for index in found)
    return bottom, low, high


def _points(
    part: pd.DataFrame, lines: charts.Lines, value: str, minus_base: bool
) -> list[dict[str, Any]]:
    """Rows for `charts.curves`: simulated means with their 95% t bands, what is not finite or failed, what is to come."""
    rows: list[dict[str, Any]] = []
    counts = {"still to come": 0, "failed": 0, "not finite": 0}
    for record in part.to_dict(orient="records"):
        key = {lines.field: record[lines.field], "features": record["features"]}
        found = {"measurement": record["measurement"]}
        y = float(record.get(value, np.nan))
        if record["state"] == "done" and np.isfinite(y):
            num_draws = len(record["series"]["draws"])
            y -= record["base_mse"] if minus_base else 0.0
            half = (
                statistics.t_quantile(0.975, num_draws - 1) * record["mse_se"]
                if value == "mse_mean"
                else 0.0
            )
            rows.append(
                {
                    "what": "mean",
                    **key,
                    "y": y,
                    "low": y - half,
                    "high": y + half,
                    "num_draws": num_draws,
                }
            )
            rows.append({"what": "draw", **key, "y": y, **found})  # the mark that a click picks
        elif record["state"] in ("done", "failed"):
            label = "failed" if record["state"] == "failed" else "not finite"
            counts[label] += 1
            rows.append(
                {
                    "what": "edge",
                    **key,
                    "label": label,
                    "slot": lines.values.index(key[lines.field]),
                    **found,
                }
            )
        else:
            counts["still to come"] += 1
            rows.append({"what": "waiting", **key, "num_waiting": 1})
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return [*rows, {"what": "note", "label": f"of {len(part)}: {text}"}] if text else rows


def _line(field: str, line: Any, x: Array, y: Array, what: str) -> list[dict[str, Any]]:
    known = np.isfinite(y)
    pairs = zip(x[known], y[known], strict=True)
    return [{"what": what, field: line, "features": float(a), "y": float(b)} for a, b in pairs]


def _bottom(field: str, line: Any, curve: Curve) -> list[dict[str, Any]]:
    """The bottom of the simulated line and its interval, as one row."""
    if curve.draws.shape[1] < 2:
        return []
    bottom, low, high = _bottom_of(curve)
    y = float(curve.numbers["mse_mean"][curve.features == bottom][0])
    if not np.isfinite(y):
        return []
    label = f"{bottom:g} features (95%: {low:g} to {high:g})"
    return [
        {
            "what": "bottom",
            field: line,
            "features": bottom,
            "x_low": low,
            "x_high": high,
            "y": y,
            "label": label,
        }
    ]


@cache
def _chart(y: charts.Axis, lines: charts.Lines, theory: bool, zero_line: bool) -> dict[str, Any]:
    """The chart of one figure: with theory, dots are simulated and lines are rows of `what` "closed form"; without, such
    rows are grey dashes. Cached: building it takes half a second, and a page asks at every new result."""
    chart = charts.curves(FEATURES, y, lines, zero_line=zero_line)
    only = {"transform": [{"filter": "datum.what === 'closed form'"}]}
    (line,) = [layer for layer in chart["layer"] if layer["mark"]["type"] == "line"]
    if theory:
        return {
            **chart,
            "layer": [{**layer, **only} if layer is line else layer for layer in chart["layer"]],
        }
    dashed = {
        **line,
        **only,
        "mark": {**line["mark"], "strokeDash": [5, 4], "color": charts.NEUTRAL},
    }
    return {**chart, "layer": [*chart["layer"], dashed]}
