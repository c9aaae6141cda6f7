"""Numbers and verdicts of the linear model: its table as curves over features learned.

    curve = curve_of(table, {"part": "noise", "scale": "fixed", "gamma": 0.08})
    curve.condition                       # what `ucurve.analysis.condition_verdicts` takes
    verdicts(table, [{"part": "noise", "scale": "fixed", "gamma": 0.08}])
 The table has a row per modification, snapshot and block of draws, with mse_mean (mean loss after
it), base_mse (before), the closed forms, and the series draws (one loss per draw).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import (
    combined_verdicts,
    condition_verdicts,
    loss_increase_law,
    statistics,
)
from ucurve.analysis.conditions import Condition
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Verdict

if TYPE_CHECKING:
    import pandas as pd

Labels = Mapping[str, Any]
NUMBERS = (
    "base_mse",
    "mse_mean",
    "mse_se",
    "closed_form",
    "closed_form_ideal",
    "base_ideal",
    "tuning_loss_mean",
)
SUMMARIZED = ("progressive sensitivity", "catastrophic overtraining")


@dataclass(frozen=True)
class Curve:
    """One modification over all snapshots; NaN and measured False where there is no number yet."""

    name: str
    features: Array  # [num_snapshots]
    draws: Array  # [num_snapshots, num_draws]: loss after the modification
    measured: NDArray[np.bool_]  # [num_snapshots]
    numbers: Mapping[str, Array]  # [num_snapshots] each
    labels: Labels = field(default_factory=dict)

    @property
    def condition(self) -> Condition:
        """The condition for verdicts; the smallest effect of interest is 1% of the lowest loss."""
        lowest = np.nanmin(self.numbers["mse_mean"]) if self.measured.any() else 1.0
        return Condition(
            self.name,
            self.features,
            self.draws,
            self.numbers["base_mse"][:, None],
            np.repeat(self.measured[:, None], self.draws.shape[1], axis=1),
            smallest_effect=float(0.01 * lowest),
            x_name="features",
            unit="MSE",
            draw_name="targets" if "fine-tuning" in self.name else "noise seeds",
            labels=self.labels,
        )


def joined(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per modification and snapshot, joining blocks of draws measured separately."""
    import pandas as pd

    if "draw" not in table:  # one block each
        return table
    keys = [name for name in ("part", "scale", "gamma", "l2_sp", "features") if name in table]
    groups = table.fillna({"draw": 0}).sort_values("draw").groupby(keys, dropna=False, sort=False)
    return pd.DataFrame([_join(blocks) for _, blocks in groups])


def _join(blocks: pd.DataFrame) -> dict[str, Any]:
    """Join the blocks measured so far without a gap: draws are paired over snapshots by number."""
    states = list(blocks["state"])
    num_done = next((i for i, state in enumerate(states) if state != "done"), len(states))
    if not num_done or "failed" in states:
        missing: dict[str, Any] = {"series": {}, **dict.fromkeys(NUMBERS, np.nan)}
        row = blocks.iloc[states.index("failed") if "failed" in states else 0]
        return _fields(row) | missing
    blocks = blocks.iloc[:num_done]
    series = {
        name: [value for block in blocks["series"] for value in block[name]]
        for name in blocks["series"].iloc[0]
    }
    losses = _with_infinity(series["draws"])
    with np.errstate(invalid="ignore"):
        numbers = {
            "mse_mean": float(losses.mean()),
            "mse_se": float(losses.std(ddof=1) / np.sqrt(len(losses))),
        }
    if "tuning_loss" in series:
        numbers["tuning_loss_mean"] = float(np.mean(_with_infinity(series["tuning_loss"])))
    return {**_fields(blocks.iloc[0]), "series": series, **numbers}


def _with_infinity(values: Sequence[float | None]) -> Array:
    """Return the values of a series; None (not finite) becomes inf."""
    return np.array([np.inf if value is None else value for value in values])


def _fields(row: pd.Series) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def select(table: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """Return the rows with these labels."""
    for name, value in labels.items():
        table = table[table[name] == value] if name in table else table[:0]
    return table


def curve_of(table: pd.DataFrame, labels: Labels, name: str = "") -> Curve:
    """Return the curve of one modification from the joined table."""
    rows = select(table, labels)
    rows = rows.sort_values("features") if len(rows) else rows.assign(features=0.0)
    series = [row.get("draws", []) if isinstance(row, dict) else [] for row in rows["series"]]
    measured = np.array([state == "done" for state in rows["state"]], bool)
    num_draws = min(
        (len(values) for values in series if values), default=0
    )  # that all snapshots measured so far have
    draws = np.full((len(rows), num_draws), np.nan)
    for index, values in enumerate(series):
        draws[index, : len(values)] = _with_infinity(values[:num_draws])
    numbers = {
        key: rows[key].to_numpy(dtype=float) if key in rows else np.full(len(rows), np.nan)
        for key in NUMBERS
    }
    return Curve(name, rows["features"].to_numpy(dtype=float), draws, measured, numbers, labels)


def verdicts(table: pd.DataFrame, modifications: Sequence[Labels], look: int = 1) -> list[Verdict]:
    """Return the claims of a real suite, and whether the simulation matches the closed form.

    modifications: labels of every modification ({"part": "noise", "scale": "fixed", "gamma": 0.08}
    or {"part": "fine-tuning", "l2_sp": 0.1}); look: number of this interim analysis.
    """
    table = joined(table)
    families: dict[str, list[Curve]] = {}
    for labels in modifications:
        if labels["part"] == "noise":
            family = f"{labels['scale']} noise"
            name = f"gamma {labels['gamma']:g}, {family}"
        else:
            family = "misaligned fine-tuning"
            name = f"L2-SP {labels['l2_sp']:g}, {family}"
        families.setdefault(family, []).append(curve_of(table, labels, name))
    result: list[Verdict] = []
    for index, (family, curves) in enumerate(families.items()):
        result += _family_verdicts(family, curves, look, with_base=index == 0)
    return result


def _family_verdicts(
    family: str, curves: Sequence[Curve], look: int, with_base: bool
) -> list[Verdict]:
    """Return summaries of one family, its details, and the closed form's verdicts for noise."""
    base, *details = condition_verdicts.all_verdicts(
        [replace(curve.condition, look=look) for curve in curves]
    )
    summaries = []
    for claim in SUMMARIZED:
        sizes = [
            verdict.model_copy(update={"scope": verdict.scope.split(",")[0]})
            for verdict in details
            if verdict.claim == claim
        ]
        summaries.append(combined_verdicts.over_conditions(sizes, f"under {family}"))
    closed_form = closed_form_verdicts(curves, family) if family.endswith("noise") else []
    if closed_form:
        conditions = [replace(curve.condition, look=look) for curve in curves]
        law = loss_increase_law.law_verdict(conditions, "gamma", "gamma", f"under {family}")
        closed_form.append(law)
    return [*summaries, *([base] if with_base else []), *details, *closed_form]


def closed_form_verdicts(curves: Sequence[Curve], scope: str, seed: int = 0) -> list[Verdict]:
    """Test whether the simulation matches the closed form on its own weights.

    Point by point, and at the minimum of every curve.
    """
    usable = [curve for curve in curves if curve.measured.any() and curve.draws.shape[1] > 1]
    if not usable:
        return []
    z = np.concatenate([_z(curve) for curve in usable])
    num_draws = usable[0].draws.shape[1]
    limit = statistics.t_quantile(1 - 0.025 / len(z), num_draws - 1)
    worst, rms = float(np.abs(z).max()), float(np.sqrt(np.square(z).mean()))
    points = Verdict(
        claim="simulation matches the closed form",
        scope=scope,
        answer="yes" if worst < limit else "no",
        sentence=f"The largest of {len(z)} deviations from the closed form on the simulated "
        "weights "
        f"is {worst:.2f} standard errors (limit {limit:.2f}).",
        effect=worst,
        effect_name="largest deviation in standard errors",
        test=f"t-test per point, Bonferroni-corrected over {len(z)}",
        num_draws=num_draws,
        draw_name="noise seeds",
        evidence={
            "rms_z": rms,
            "limit": limit,
            "note": "points share their noise, so rms_z varies widely around 1",
        },
    )
    return [points, *(_minimum_verdict(curve, len(usable), seed) for curve in usable)]


def _minimum_verdict(curve: Curve, num_curves: int, seed: int) -> Verdict:
    """Test whether the closed form's minimum is inside the simulated minimum's interval."""
    losses = statistics.capped(curve.draws[curve.measured])
    features = curve.features[curve.measured]
    indices = statistics.minimum_interval(
        losses, np.random.default_rng(seed), 1 - 0.05 / num_curves
    )
    minimum, low, high = (float(features[index]) for index in indices)
    expected = float(features[curve.numbers["closed_form"][curve.measured].argmin()])
    ideal = float(features[curve.numbers["closed_form_ideal"][curve.measured].argmin()])
    return Verdict(
        claim="minimum matches the closed form",
        scope=curve.name,
        answer="yes" if low <= expected <= high else "no",
        sentence=f"The simulated loss is lowest at {minimum:g} features ({low:g} to {high:g}); the "
        f"closed form predicts {expected:g} on these weights and {ideal:g} on exact k-feature "
        "states.",
        effect=minimum,
        effect_name="minimum, features learned",
        interval=(low, high),
        test=f"bootstrap over noise seeds, Bonferroni-corrected over {num_curves} curves",
        num_draws=curve.draws.shape[1],
        draw_name="noise seeds",
        labels=dict(curve.labels),
        evidence={"closed_form": expected, "ideal": ideal},
    )


def _z(curve: Curve) -> Array:
    """Return deviations from the closed form in standard errors; 0 where equal up to rounding."""
    measured = curve.measured
    expected = curve.numbers["closed_form"][measured]
    off = (curve.numbers["mse_mean"] - curve.numbers["closed_form"])[measured]
    rounding = 1e-9 * expected
    error = np.maximum(curve.numbers["mse_se"][measured], rounding)
    z: Array = np.where(np.abs(off) < rounding, 0.0, off / error)
    return z
