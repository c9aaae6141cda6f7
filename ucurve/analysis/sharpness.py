"""Numbers and verdicts of sharpness: curvature over checkpoints, and where it stops to explain.

    for replicate, curve in curves(table).items():
        curve.forms                        # [num_checkpoints, num_draws]: v . H v
        departures(curve)                  # of the measured rise from sigma^2 / 2 v . H v

The table has a row per point: part "trace" (trace, trace_GROUP), "eigenvalue" (top_eigenvalue) or
"noise" (rise, curvature). Directions of one draw are the same for all parts and checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import statistics
from ucurve.analysis.conditions import paired
from ucurve.analysis.statistics import Array

if TYPE_CHECKING:
    import pandas as pd

LIMIT = 0.1  # the departure that ends the quadratic regime
COLUMNS = ("revision", "tokens", "replicate", "phase", "part", "group", "sigma", "draw", "state")
OF_NOISE = ("scale", "gamma", "series", "nll_mean")  # of measured noise, where that is planned
METRICS = ("trace", "num_tokens", "top_eigenvalue", "residual", "rise", "curvature")


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with all columns that figures and verdicts read."""
    names = (*COLUMNS, *OF_NOISE, "measurement")
    if table.empty or any(name not in table for name in names):
        table = table.reindex(columns=[*dict.fromkeys([*table.columns, *names])])
    for name in METRICS:
        if name not in table:
            table = table.assign(**{name: np.nan})
    if "text_blocks" not in table:
        table = table.reset_index(drop=True)
        table = table.assign(text_blocks=text_blocks(table.assign(index=table.index)))
    return table


@dataclass(frozen=True)
class Curve:
    """One pre-training run: NaN where nothing is measured, or where it is not finite.

    x: tokens [num_checkpoints]. forms: v . H v [num_checkpoints, num_draws]; measured: of these.
    rises: of every sigma, [num_checkpoints, num_draws]. blocks: what v . H v is in blocks of the
    text, [num_checkpoints, num_draws, num_blocks], by the rise under the smallest sigma; None where
    a row does not hold it.
    """

    x: Array
    forms: Array
    measured: NDArray[np.bool_]
    rises: Mapping[float, Array]
    blocks: Array | None = None


def text_blocks(table: pd.DataFrame) -> pd.Series:
    """Return the curvature of every row in blocks of the text, None where it is not known.

    Of v . H v it is 2 / sigma^2 times the rise along the same direction under the smallest sigma,
    which differs from it by terms of sigma^2.
    """
    import pandas as pd

    noise = table[(table["part"] == "noise") & table["sigma"].notna()]
    sigma = noise["sigma"].min()
    own: dict[Any, Array] = {}
    smallest: dict[tuple[Any, ...], Array] = {}
    for row in noise.to_dict("records"):
        series = row.get("series")
        rise = series.get("block_rise") if isinstance(series, Mapping) else None
        if rise and row["state"] == "done" and None not in rise:
            own[row["index"]] = 2 * np.array(rise, dtype=float) / row["sigma"] ** 2
            if row["sigma"] == sigma:
                smallest[row["revision"], row["draw"]] = own[row["index"]]
    return pd.Series(
        [
            smallest.get((row["revision"], row["draw"]))
            if row["part"] == "trace"
            else own.get(row["index"])
            for row in table.to_dict("records")
        ],
        index=table.index,
        dtype=object,
    )


def curves(table: pd.DataFrame) -> dict[int, Curve]:
    """Return the curve of every pre-training seed."""
    table = prepared(table)
    by_seed: dict[int, Curve] = {}
    for key, rows in table[table["tokens"].notna()].groupby("replicate"):
        probes = rows[rows["part"] == "trace"]
        if probes.empty:
            continue
        x, forms, measured = paired(probes, value="trace")
        draws = np.unique(probes["draw"].to_numpy(dtype=float))
        rises = {
            float(cast(float, sigma)): placed(group, x, draws)
            for sigma, group in rows[rows["part"] == "noise"].groupby("sigma")
        }
        blocks = _stacked(probes, x, draws)
        by_seed[int(cast(int, key))] = Curve(x, forms, measured, rises, blocks)
    return by_seed


def _stacked(probes: pd.DataFrame, x: Array, draws: Array) -> Array | None:
    """Return the blocks of all checkpoints and draws, None where one is missing."""
    found = {
        (row["tokens"], row["draw"]): row["text_blocks"]
        for row in probes.to_dict("records")
        if row["text_blocks"] is not None
    }
    cells = [[found.get((at, draw)) for draw in draws] for at in x]
    sizes = {None if cell is None else len(cell) for row in cells for cell in row}
    return np.array(cells, dtype=float) if len(sizes) == 1 and None not in sizes else None


def placed(rows: pd.DataFrame, x: Array, draws: Array) -> Array:
    """Return the rises at these checkpoints and draws, NaN where there is none."""
    at, values, measured = paired(rows, value="rise")
    full = np.full((len(x), len(draws)), np.nan)
    columns = np.searchsorted(draws, np.unique(rows["draw"].to_numpy(dtype=float)))
    full[np.ix_(np.searchsorted(x, at), columns)] = np.where(measured, values, np.nan)
    return full


@dataclass(frozen=True)
class Growth:
    """How large something is relative to its first checkpoint, with its 95% interval."""

    tokens: float
    value: float
    low: float
    high: float
    num_draws: int


def growth(x: Array, values: Array) -> list[Growth]:
    """Return means over draws [num_checkpoints, num_draws] relative to that of the first one.

    The ratio of means over the draws that both have, with the t interval of its linearisation;
    nothing where the first mean is not above 0.
    """
    result: list[Growth] = []
    for at, row in zip(x, values, strict=True):
        usable = np.isfinite(row) & np.isfinite(values[0])
        num = int(usable.sum())
        if num < 2 or np.isinf(row).any() or values[0][usable].mean() <= 0:
            continue
        first = float(values[0][usable].mean())
        ratio = float(row[usable].mean()) / first
        rest = (row - ratio * values[0])[usable] / first
        half = statistics.t_quantile(0.975, num - 1) * float(rest.std(ddof=1)) / np.sqrt(num)
        result.append(Growth(float(at), ratio, ratio - half, ratio + half, num))
    return result


@dataclass(frozen=True)
class Departure:
    """How far the mean rise is from sigma^2 / 2 v . H v at one checkpoint, with its 95% interval.

    Of the same directions: 0.1 is a tenth more than the Hessian says.
    """

    tokens: float
    sigma: float
    value: float
    low: float
    high: float
    num_draws: int


def departures(curve: Curve, level: float = 0.95) -> list[Departure]:
    """Return the departure of every checkpoint and sigma with at least two finite pairs.

    The ratio of means with the t interval of its linearisation; a checkpoint whose mean of v . H v
    is not above 0 has none.
    """
    ratios = []
    for sigma, rises in sorted(curve.rises.items()):
        predicted = curve.forms * sigma**2 / 2
        for at, rise, expected in zip(curve.x, rises, predicted, strict=True):
            usable = np.isfinite(rise) & np.isfinite(expected)
            num = int(usable.sum())
            if num < 2 or np.any(np.isinf(rise)) or expected[usable].mean() <= 0:
                continue
            mean = float(expected[usable].mean())
            ratio = float(rise[usable].mean()) / mean
            rest = (rise - ratio * expected)[usable] / mean
            half = (
                statistics.t_quantile(0.5 + level / 2, num - 1)
                * float(rest.std(ddof=1))
                / np.sqrt(num)
            )
            value = ratio - 1
            ratios.append(Departure(float(at), sigma, value, value - half, value + half, num))
    return ratios


@dataclass(frozen=True)
class Regime:
    """The sigma at which the departure reaches LIMIT, with its interval.

    None: not within the sigmas measured, so above the largest (value, high) or below the smallest
    (`below`: the smallest sigma has left already; value and low are that sigma).
    """

    tokens: float
    value: float | None
    low: float | None
    high: float | None
    below: bool


def regimes(measured: list[Departure]) -> list[Regime]:
    """Return the end of the quadratic regime at every checkpoint, from its departures.

    Straight lines between logarithms of sigma and departure. The ends of the interval are where the
    larger and the smaller end of the departure's interval reach the limit.
    """
    result = []
    for at in dict.fromkeys(departure.tokens for departure in measured):
        here = [departure for departure in measured if departure.tokens == at]
        sigmas = np.array([departure.sigma for departure in here])
        sizes = np.array([abs(departure.value) for departure in here])
        most = np.array([max(abs(departure.low), abs(departure.high)) for departure in here])
        least = np.array(
            [
                0.0
                if departure.low < 0 < departure.high
                else min(abs(departure.low), abs(departure.high))
                for departure in here
            ]
        )
        value, low, high = (_crossing(sigmas, line) for line in (sizes, most, least))
        result.append(Regime(at, value, low, high, bool((sizes > LIMIT).all())))
    return result


def _crossing(sigmas: Array, sizes: Array) -> float | None:
    """Return where the departure reaches the limit for good, the smallest sigma if it is above."""
    above = sizes > LIMIT
    if not above[-1]:
        return None
    first = int(np.flatnonzero(~above)[-1]) + 1 if not above.all() else 0
    if first == 0:
        return float(sigmas[0])
    below = max(float(sizes[first - 1]), 1e-6)
    share = np.log(LIMIT / below) / np.log(sizes[first] / below)
    return float(np.exp(np.interp(share, [0, 1], np.log(sigmas[first - 1 : first + 1]))))
