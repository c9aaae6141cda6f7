"""Numbers of interventions in pre-training, paired by pre-training seed.

    branches = Branches.of(table)
    change(branches.base, "constant")               # at the largest budget, by seed
    change_of_rise(branches.after["init_std", 0.3], "constant")

The table has a row per branch: labels intervention, replicate, step, tokens and budget, and once
measured nll_mean and the series noise_gamma and noise_loss_SCALE (by gamma, then by noise seed).
Pre-training seeds are the replicates. Numbers that are not measured yet are NaN, and those that are
not finite are infinite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import statistics
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd

CONTROL = "none"
SCALES = ("current_std", "init_std")
Condition = tuple[str, float]  # noise scale, gamma


@dataclass(frozen=True)
class Branches:
    """Losses by intervention, [num_budgets, num_seeds], budgets ascending.

    base: unperturbed. after: mean over noise seeds, by noise scale and gamma.
    """

    seeds: Sequence[int]
    budgets: Sequence[float]
    base: Mapping[str, Array]
    after: Mapping[Condition, Mapping[str, Array]]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Branches:
        """Return the losses of a table, in part NaN while it is being measured."""
        if table.empty or "budget" not in table:
            return cls([], [], {}, {})
        seeds, budgets = sorted(set(table["replicate"])), sorted(set(table["budget"]))
        shape = (len(budgets), len(seeds))
        base: dict[str, Array] = {}
        after: dict[Condition, dict[str, Array]] = {}
        for row in table.to_dict("records"):
            name = row["intervention"]
            place = budgets.index(row["budget"]), seeds.index(row["replicate"])
            own = base.setdefault(name, np.full(shape, np.nan))
            if row["state"] != "done":
                continue
            own[place] = _number(row.get("nll_mean"))
            for condition, losses in noise_losses(row["series"]).items():
                curves = after.setdefault(condition, {})
                curve = curves.setdefault(name, np.full(shape, np.nan))
                curve[place] = _number(losses.mean())
        return cls(seeds, budgets, base, after)

    def increase(self, condition: Condition) -> dict[str, Array]:
        """Return the loss after noise minus that before, by intervention."""
        return {
            name: _minus(after, self.base[name]) for name, after in self.after[condition].items()
        }


def _number(value: Any) -> float:
    """Return a measured loss; infinity for any that is not finite."""
    return float(value) if value is not None and np.isfinite(value) else np.inf


def _minus(a: Array, b: Array) -> Array:
    """Return a - b; NaN where either is not measured, else infinity where either is not finite."""
    difference = np.full(a.shape, np.inf)
    usable = np.isfinite(a) & np.isfinite(b)
    difference[usable] = a[usable] - b[usable]
    difference[np.isnan(a) | np.isnan(b)] = np.nan
    return difference


def noise_losses(series: Mapping[str, Sequence[float | None]]) -> dict[Condition, Array]:
    """Return the losses after noise by scale and gamma, [num_noise_seeds]."""
    gammas = series.get("noise_gamma", [])
    by_condition: dict[Condition, Array] = {}
    for scale in SCALES:
        if losses := series.get(f"noise_loss_{scale}"):
            rows = np.array(losses, dtype=float).reshape(len(gammas), -1)
            by_condition |= {
                (scale, float(g)): row for g, row in zip(gammas, rows, strict=True) if g
            }
    return by_condition


def change(curves: Mapping[str, Array], name: str) -> Array:
    """Return the value at the largest budget minus that of the control, by measured seed."""
    if name not in curves or CONTROL not in curves:
        return np.array([])
    return measured_only(_minus(curves[name][-1], curves[CONTROL][-1]))


def rises(curves: Mapping[str, Array], name: str) -> Array:
    """Return the rise from the minimum to the largest budget, by seed; NaN where not measured.

    The minimum of a seed is where the mean curve of the control over all other seeds is lowest:
    the numbers that choose it are not those that are judged. NaN with one seed or one budget.
    """
    control = curves.get(CONTROL, np.full((0, 0), np.nan))
    num_budgets, num_seeds = control.shape
    result = np.full(num_seeds, np.nan)
    if num_budgets < 2 or name not in curves:
        return result
    for seed in range(num_seeds):
        others = np.delete(control[:-1], seed, axis=1)
        others = others[:, np.isfinite(others).all(axis=0)]
        if others.shape[1]:
            minimum = int(others.mean(axis=1).argmin())
            curve = curves[name][:, seed]
            result[seed] = _minus(curve[-1:], curve[minimum : minimum + 1])[0]
    return result


def change_of_rise(curves: Mapping[str, Array], name: str) -> Array:
    """Return the rise minus that of the control, by measured seed."""
    return measured_only(_minus(rises(curves, name), rises(curves, CONTROL)))


def p_below(values: Array, limit: float) -> float:
    """Return the one-sided p-value of a t-test that the mean is below a limit.

    1 for fewer than two values, and where one is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return 1.0
    error = max(float(values.std(ddof=1)) / np.sqrt(len(values)), 1e-12)
    t = np.array([(limit - values.mean()) / error])
    return float(statistics.t_survival(t, len(values) - 1)[0])


def measured_only(values: Array) -> Array:
    """Return the values without those that are not measured."""
    measured: Array = values[~np.isnan(values)]
    return measured


def interval_of(values: Array) -> tuple[float, float, float]:
    """Return the mean and its 95% t interval; NaN and no limits without finite values."""
    if not len(values) or not np.isfinite(values).all():
        return np.nan, -np.inf, np.inf
    return statistics.mean_interval(values)


def plane(measured: Branches, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row per intervention, noise scale and gamma: both changes with their intervals."""
    for name in names:
        base = change(measured.base, name)
        for condition in sorted(measured.after):
            values = change(measured.increase(condition), name)
            x, x_low, x_high = interval_of(base)
            y, low, high = interval_of(values)
            if name == CONTROL or not np.isfinite([x, y]).all():
                continue
            wide = min(len(base), len(values)) > 1
            yield {
                "what": "mean",
                "intervention": name,
                "scale": condition[0],
                "gamma": condition[1],
                "x": x,
                "x_low": x_low if wide else None,
                "x_high": x_high if wide else None,
                "y": y,
                "low": low if wide else None,
                "high": high if wide else None,
                "num_draws": len(values),
            }
