"""One curve minus another, with 95% intervals that say how they were made.

    differences(align_experiments(sides), "side", "1", "2", x="tokens", value="nll_mean", facet="replicate")
 Where both have the same draws at the same place the difference is taken draw by draw ("paired"):
common noise cancels. Else the means are subtracted and the interval is Welch's. A base has no
draws: it is paired by blocks of windows of the text. Curves that share no place are compared at the
places of the coarser one, the other being interpolated draw by draw between its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ucurve.analysis.statistics import Array, blocks, mean_interval, t_quantile
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
    """A minus B for every `change` and `facet` that both have: rows of x, y, low, high, `num_draws` and `how`.

    field: the column that tells A from B. Rows at which a mean is not finite are "edge". log: x is
    interpolated in its logarithm.
    """
    found: list[dict[str, Any]] = []
    if table.empty or value not in table:
        return found
    done = table[(table["state"] == "done") & table[x].notna()]
    for key, group in done.groupby(["change", facet], sort=False):
        change, part = cast(tuple[str, Any], key)
        curves = [_curve(group[group[field] == one], x, value) for one in (a, b)]
        if all(curves):
            fixed = {"change": change, facet: part}
            found += [
                {**fixed, x: at, **row}
                for at, row in _along(*curves, raw=value == "nll_mean", log=log)
            ]
    return found


def _curve(rows: pd.DataFrame, x: str, value: str) -> dict[float, dict[str, Any]]:
    """{x: {"draws": {draw: value}, "windows": of a base}}; a draw that was measured by several counts once."""
    curve: dict[float, dict[str, Any]] = {}
    for row in rows.drop_duplicates([x, "draw", "measurement"]).to_dict(orient="records"):
        place = curve.setdefault(
            float(row[x]), {"draws": {}, "windows": row["windows"] if row["unchanged"] else None}
        )
        place["draws"].setdefault(row["draw"], float(row[value]))
    return curve


def _along(
    a: dict[float, dict[str, Any]], b: dict[float, dict[str, Any]], *, raw: bool, log: bool
) -> list[tuple[float, dict[str, Any]]]:
    """The difference at every place that both have, else at those of the coarser within the reach of the finer."""
    shared = sorted(set(a) & set(b))
    if shared:
        return [
            (at, _row(subtracted(a[at]["draws"], b[at]["draws"], *_windows(a[at], b[at], raw))))
            for at in shared
        ]
    coarse, fine = (a, b) if len(a) <= len(b) else (b, a)
    rows = []
    for at in sorted(coarse):
        between = interpolated({place: one["draws"] for place, one in fine.items()}, at, log)
        if between:
            pair = (coarse[at]["draws"], between) if coarse is a else (between, coarse[at]["draws"])
            difference, low, high, num, how = subtracted(*pair)
            rows.append(
                (
                    at,
                    _row(
                        (
                            difference,
                            low,
                            high,
                            num,
                            f"{how}; {'B' if coarse is a else 'A'} interpolated",
                        )
                    ),
                )
            )
    return rows


def _windows(a: dict[str, Any], b: dict[str, Any], raw: bool) -> tuple[Array | None, Array | None]:
    """Losses of two bases in blocks of the same windows; None where they cannot be paired."""
    found = [one["windows"] for one in (a, b)]
    if not raw or not all(one and one[0] and one[1] for one in found) or found[0][1] != found[1][1]:
        return None, None
    made = [
        blocks(np.array([nll], dtype=float), np.array(num, dtype=float))[0] for nll, num in found
    ]
    return made[0], made[1]


def subtracted(
    a: dict[str, float],
    b: dict[str, float],
    blocks_a: Array | None = None,
    blocks_b: Array | None = None,
) -> Interval:
    """A minus B at one place, from each one's values by draw: its 95% interval, and how that was made."""
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
    one, two = np.array(list(a.values())), np.array(list(b.values()))
    if len(one) > 1 and len(two) > 1:
        return welch(one, two)
    return (
        float(one.mean() - two.mean()),
        None,
        None,
        min(len(one), len(two)),
        "one draw: no interval",
    )


def welch(a: Array, b: Array) -> Interval:
    """Difference of means of independent draws with unequal variances (Welch 1947)."""
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
    """Each draw's value at a place between its neighbouring ones, linearly; empty outside of them."""
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


def _row(found: Interval) -> dict[str, Any]:
    difference, low, high, num, how = found
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
