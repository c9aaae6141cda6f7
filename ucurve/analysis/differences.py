"""One curve minus another, with 95% intervals and how they were computed.

    differences(table, "side", "1", "2", x="tokens", value="nll_mean", facet="replicate")
Where both have the same draws at the same x, the difference is taken draw by draw ("paired"):
common noise cancels. Else the means are subtracted and the interval is Welch's. An unperturbed
model has no draws: it is paired by blocks of evaluation windows. Curves that share no x are
compared at the x of the coarser one; the other is interpolated linearly, draw by draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis.statistics import Array, blocks, long_blocks, mean_interval, t_quantile
from ucurve.formatting import INFINITY

if TYPE_CHECKING:
    import pandas as pd

Interval = tuple[
    float, float | None, float | None, int, str
]  # difference, low, high, number of pairs or draws, how


def differences(
    table: pd.DataFrame,
    field: str,
    a: str,
    b: str,
    *,
    x: str,
    value: str,
    facet: str = "replicate",
    log: bool = True,
) -> list[dict[str, Any]]:
    """Return A minus B for every `change` and `facet` that both have.

    Rows have x, y, low, high, `num_draws` and `how`; those whose mean is not finite are "edge".
    field: the column that tells A from B. log: interpolate in the logarithm of x.
    """
    rows: list[dict[str, Any]] = []
    if table.empty or value not in table:
        return rows
    done = table[(table["state"] == "done") & table[x].notna()]
    for key, group in done.groupby(["change", facet], sort=False):
        change, part = cast(tuple[str, Any], key)
        curves = [_curve(group[group[field] == side], x, value) for side in (a, b)]
        if all(curves):
            fixed = {"change": change, facet: part}
            rows += [
                {**fixed, x: at, **row}
                for at, row in _subtract(*curves, raw=value == "nll_mean", log=log)
            ]
    return rows


def _curve(rows: pd.DataFrame, x: str, value: str) -> dict[float, dict[str, Any]]:
    """Return {x: {"draws": {draw: value}, "windows": of a base}}; equal draws count once."""
    curve: dict[float, dict[str, Any]] = {}
    for row in rows.drop_duplicates([x, "draw", "measurement"]).to_dict(orient="records"):
        place = curve.setdefault(
            float(row[x]), {"draws": {}, "windows": row["windows"] if row["unchanged"] else None}
        )
        place["draws"].setdefault(row["draw"], float(row[value]))
    return curve


def _subtract(
    a: dict[float, dict[str, Any]], b: dict[float, dict[str, Any]], *, raw: bool, log: bool
) -> list[tuple[float, dict[str, Any]]]:
    """Return the difference at every shared x, else at those of the coarser curve.

    raw: the values are losses, so unperturbed models can be paired by windows.
    """
    shared = sorted(set(a) & set(b))
    if shared:
        return [
            (at, _row(difference_at(a[at]["draws"], b[at]["draws"], *_windows(a[at], b[at], raw))))
            for at in shared
        ]
    coarse, fine = (a, b) if len(a) <= len(b) else (b, a)
    rows = []
    for at in sorted(coarse):
        draws = {place: point["draws"] for place, point in fine.items()}
        between = interpolated(draws, at, log)
        if between:
            pair = (coarse[at]["draws"], between) if coarse is a else (between, coarse[at]["draws"])
            difference, low, high, num, how = difference_at(*pair)
            how += f"; {'B' if coarse is a else 'A'} interpolated"
            rows.append((at, _row((difference, low, high, num, how))))
    return rows


def _windows(a: dict[str, Any], b: dict[str, Any], raw: bool) -> tuple[Array | None, Array | None]:
    """Return the losses of two bases in blocks of the same windows; None if they do not pair."""
    first, second = a["windows"], b["windows"]
    if not raw or not all(windows and windows[0] and windows[1] for windows in (first, second)):
        return None, None
    if first[1] != second[1]:
        return None, None
    losses = [
        long_blocks(blocks(np.array([nll], dtype=float), np.array(num, dtype=float))[0])
        for nll, num in (first, second)
    ]
    return losses[0], losses[1]


def difference_at(
    a: dict[str, float],
    b: dict[str, float],
    blocks_a: Array | None = None,
    blocks_b: Array | None = None,
) -> Interval:
    """Return A minus B at one x from the values by draw: its 95% interval and its method.

    blocks_a, blocks_b: losses of unperturbed models in blocks of the same windows, [num_blocks].
    """
    common = [draw for draw in a if draw in b]
    if not np.isfinite([*a.values(), *b.values()]).all():
        return np.nan, None, None, len(common), "not finite"
    if (
        blocks_a is not None
        and blocks_b is not None
        and len(blocks_a) > 1
        and len(common) == len(a) == len(b) == 1
    ):
        difference, low, high = mean_interval(blocks_a - blocks_b)
        return difference, low, high, len(blocks_a), f"paired by {len(blocks_a)} blocks of windows"
    if len(common) > 1:
        difference, low, high = mean_interval(np.array([a[draw] - b[draw] for draw in common]))
        return difference, low, high, len(common), f"paired by draw, n = {len(common)}"
    first, second = np.array(list(a.values())), np.array(list(b.values()))
    if len(first) > 1 and len(second) > 1:
        return welch(first, second)
    difference, num = float(first.mean() - second.mean()), min(len(first), len(second))
    return difference, None, None, num, "one draw: no interval"


def welch(a: Array, b: Array) -> Interval:
    """Return the difference of independent means with unequal variances (Welch 1947)."""
    errors = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    total, difference = errors.sum(), float(a.mean() - b.mean())
    weights = errors**2 / np.array([len(a) - 1, len(b) - 1])
    degrees = total**2 / weights.sum() if total > 0 else len(a) + len(b) - 2
    half = t_quantile(0.975, degrees) * float(np.sqrt(total))
    return (
        difference,
        difference - half,
        difference + half,
        len(a) + len(b),
        f"unpaired (Welch), n = {len(a)} and {len(b)}",
    )


def interpolated(curve: dict[float, dict[str, float]], at: float, log: bool) -> dict[str, float]:
    """Interpolate each draw linearly at an x between its neighbours; empty outside."""
    places = sorted(place for place in curve if not (log and place <= 0))
    below = [place for place in places if place <= at]
    above = [place for place in places if place >= at]
    if not below or not above or (log and at <= 0):
        return {}
    low, high = below[-1], above[0]
    scale = np.log if log else float
    share = 0.0 if low == high else (scale(at) - scale(low)) / (scale(high) - scale(low))
    return {
        draw: (1 - share) * curve[low][draw] + share * curve[high][draw]
        for draw in curve[low]
        if draw in curve[high]
    }


def _row(interval: Interval) -> dict[str, Any]:
    difference, low, high, num, how = interval
    if not np.isfinite(difference):
        return {"what": "edge", "label": INFINITY, "how": how, "slot": 0}
    bounded = low is not None and np.isfinite(low)
    return {
        "what": "mean",
        "y": difference,
        "low": low if bounded else None,
        "high": high if bounded else None,
    } | {
        "num_draws": num,
        "how": how,
    }
