"""Rows that a chart of curves draws, from an experiment's table: means, bands, draws, and gaps.

The field `what` of a row says what it is: "mean" (with low, high: 95% over draws), "draw", "edge"
(not finite or failed: a mark at the top with a count), "waiting" (a tick at the bottom), "bottom"
and "open bottom" (the minimum of a U-curve: x and its interval x_low, x_high; open: the rise after
it is not established), "reference" (a published or closed-form value), "note" (a line of text).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import text_error
from ucurve.formatting import INFINITY
from ucurve.schemas.measurements import finite_or_none
from ucurve.schemas.results import Verdict

if TYPE_CHECKING:
    import pandas as pd

OF_EDGES = ("num_nonfinite", "num_failed", "measurement", "label", "slot")

YTransform = Callable[["pd.Series", "pd.DataFrame"], Any]


def curve_rows(
    table: pd.DataFrame,
    x: str,
    value: str,
    by: Sequence[str],
    *,
    facets: Sequence[str] = (),
    transform: YTransform | None = None,
    y: str = "y",
    blocks: str = "",
) -> list[dict[str, Any]]:
    """Return the rows that `charts.curves` draws: means with bands, draws, edge marks, ticks.

    table: one row per measurement with `state`, `measurement`, `x`, `by` (labels of the curves,
        and columns that `transform` needs), `facets` and, once measured, `value`.
    transform: from the mean (or low, high, one draw) of `value` and its rows to the y axis. The
        mean is taken before: on the loss, not on perplexity. Default: the value itself.
    blocks: a column of the value in blocks of the text, or None: bands have its error too.

    The band is the 95% t interval of the mean over draws; none with fewer than two draws (see
    `clip_bands`). A mean with any non-finite draw is not finite: it is left out of the line and
    counted at the edge.
    """
    if table.empty:
        return []
    keys = [x, *facets, *by]
    table = table.assign(
        value=table[value].astype(float) if value in table else np.nan, blocks=table.get(blocks)
    )
    placed = table[table[x].notna()]
    transform = transform or (lambda values, rows: values)
    means, draws = _means(placed, keys), placed[placed["state"] == "done"].copy()
    means["measured"] = np.isfinite(means["mean"])
    with np.errstate(over="ignore", invalid="ignore"):
        for column in ("mean", "low", "high"):
            means[column] = transform(means[column], means)
        draws[y] = transform(draws["value"], draws)
    finite = means[np.isfinite(means["mean"])].rename(columns={"mean": y})
    waiting = means[means["num_waiting"] > 0]
    dots = draws.loc[np.isfinite(draws[y]), [*keys, y, "measurement"]]
    edges = _not_drawn(means, [x, *facets])[[*keys, *OF_EDGES]]
    return (
        clip_bands(
            to_rows("mean", finite[[*keys, y, "low", "high", "num_draws"]]) + to_rows("draw", dots),
            y,
        )
        + to_rows("edge", edges)
        + to_rows("waiting", waiting[[*keys, "num_waiting"]])
        + _notes(table, x, facets)
    )


def _not_drawn(means: pd.DataFrame, panel: list[str]) -> pd.DataFrame:
    """Return the curve points whose mean is not finite, with a label and a slot in their panel."""
    # Off the scale: the exp of a loss of thousands of nats.
    off_scale = means["measured"] & ~np.isfinite(means["mean"])
    means = means.assign(off_scale=off_scale)
    edges: pd.DataFrame = means[
        (means["num_nonfinite"] > 0) | (means["num_failed"] > 0) | off_scale
    ].copy()
    edges["slot"] = edges.groupby(panel, dropna=False).cumcount() if len(edges) else 0
    words = ["off the scale"] * len(edges)
    if "base" in edges:  # what is subtracted may be why there is no difference
        words = [_why_not(base) for base in edges["base"]]
    missing = [word if off else "" for word, off in zip(words, edges["off_scale"], strict=True)]
    counts = zip(edges["num_nonfinite"], edges["num_failed"], missing, strict=True)
    edges["label"] = [_trouble(*count) for count in counts]
    return edges


def _why_not(base: float) -> str:
    """Return why a difference from an unperturbed loss is not drawn."""
    if np.isfinite(base):
        return "off the scale"
    return "unperturbed: not measured" if np.isnan(base) else "unperturbed: not finite"


def minimum_rows(
    verdicts: Sequence[Verdict], labels: Sequence[str], x: str, transform: Callable[[float], float]
) -> list[dict[str, Any]]:
    """Return a mark per minimum of a loss (y) with its interval, as the inflection points hold it.

    "bottom" where the rise after the minimum is established, else "open bottom"; no mark at the
    last checkpoint. labels: names of the labels that place a row; x: field of the x axis.
    """
    rows = []
    for verdict in verdicts:
        minimum = verdict.minimum
        if minimum is None or minimum.loss is None or minimum.x == verdict.x[-1]:
            continue
        if not verdict.labels.keys() >= set(labels):
            continue
        rows.append(
            {
                "what": "bottom" if verdict.answer == "yes" else "open bottom",
                **{name: verdict.labels[name] for name in labels},
                x: minimum.x,
                "y": float(transform(minimum.loss)),
                "x_low": minimum.low,
                "x_high": minimum.high,
                "label": verdict.sentence,
            }
        )
    return [row for row in rows if np.isfinite(row["y"])]


def clip_bands(rows: list[dict[str, Any]], y: str = "y") -> list[dict[str, Any]]:
    """Clip bands that reach far beyond every point (`band_low`, `band_high`).

    Otherwise one condition with heavy-tailed draws would flatten all others. Bands are clipped at a
    margin around the points; `low` and `high` keep the interval.
    """
    values = [row[y] for row in rows if row.get(y) is not None]
    if not values:
        return rows
    least, most = min(values), max(values)
    margin = (most - least) / 4
    least, most = (least / 1.3, most * 1.3) if least > 0 else (least - margin, most + margin)

    def clip(row: Mapping[str, Any]) -> dict[str, Any]:
        low, high = row.get("low"), row.get("high")
        inside = low is not None and low >= least and high is not None and high <= most
        if row["what"] != "mean" or low is None or inside:
            return dict(row)
        return {
            **row,
            "band_low": max(low, least),
            "band_high": min(most if high is None else high, most),
        }

    return [clip(row) for row in rows]


def _means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return mean, 95% t interval and counts over the draws of each curve point."""
    from scipy.special import stdtrit

    done, failed = table["state"] == "done", table["state"] == "failed"
    finite = done & np.isfinite(table["value"])
    trouble = (done & ~finite) | failed
    marked = table.assign(
        finite=table["value"].where(finite),
        done=done,
        nonfinite=done & ~finite,
        failed=failed,
        waiting=~(done | failed),
        trouble=table["measurement"].where(trouble),
    )
    means = (
        marked.groupby(keys, dropna=False, sort=True)
        .agg(
            mean=("finite", "mean"),
            std=("finite", "std"),
            num_draws=("done", "sum"),
            num_nonfinite=("nonfinite", "sum"),
            num_failed=("failed", "sum"),
            num_waiting=("waiting", "sum"),
            measurement=("trouble", "first"),
            blocks=("blocks", list),
        )
        .reset_index()
    )
    num = means["num_draws"].to_numpy(dtype=float)
    means["mean"] = means["mean"].where(means["num_nonfinite"] == 0)
    half = stdtrit(np.maximum(num - 1, 1), 0.975) * means["std"] / np.sqrt(np.maximum(num, 1))
    half = np.hypot(half, [text_error.half_of(found) for found in means["blocks"]])
    return means.assign(low=means["mean"] - half, high=means["mean"] + half)


def _trouble(num_nonfinite: int, num_failed: int, missing: str) -> str:
    parts = [
        f"{num_nonfinite}×{INFINITY}" if num_nonfinite else "",
        f"{num_failed} failed" if num_failed else "",
    ]
    parts += [missing]
    return ", ".join(part for part in parts if part)


def _notes(table: pd.DataFrame, x: str, facets: Sequence[str]) -> list[dict[str, Any]]:
    """Return one line of text per facet: how many points are missing, failed, not finite, or have
    no place on the axis of tokens.
    """
    groups = table.groupby(list(facets), dropna=False) if facets else [((), table)]
    notes = []
    for key, group in groups:
        counts = {
            "not measured yet": int((~group["state"].isin(["done", "failed"])).sum()),
            "failed": int((group["state"] == "failed").sum()),
            "not finite": int(((group["state"] == "done") & ~np.isfinite(group["value"])).sum()),
        }
        if x == "tokens":  # of a training phase that counts its own steps, for example
            counts["at unknown tokens"] = int(group[x].isna().sum())
        text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        if text:
            notes.append(
                {
                    "what": "note",
                    **dict(zip(facets, key, strict=True)),
                    "label": f"of {len(group)}: {text}",
                }
            )
    return notes


def to_rows(row_type: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return plain JSON rows: numpy scalars become Python's, non-finite numbers become None."""
    return [
        {"what": row_type, **{str(name): _plain(value) for name, value in record.items()}}
        for record in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return finite_or_none(value) if isinstance(value, float) else value
