"""From the table of an experiment to the rows that a chart of curves draws: means, bands, draws, and what is missing.

The rows of a curve carry `what`: "mean" (with low, high: 95% over draws), "draw", "edge" (not finite or failed: a mark
at the top with a count), "waiting" (a tick at the foot), "bottom" (of a U: x and its interval x_low, x_high),
"reference" (a published or closed-form value), "note" (a line of text).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.schemas.measurements import finite_or_none

if TYPE_CHECKING:
    import pandas as pd


def curve_rows(
    table: pd.DataFrame,
    x: str,
    value: str,
    by: Sequence[str],
    *,
    facets: Sequence[str] = (),
    shown: Callable[[pd.Series, pd.DataFrame], Any] | None = None,
    y: str = "y",
) -> list[dict[str, Any]]:
    """The rows that `curves` draws: means with bands, draws, edge marks, waiting ticks and a note.

    table: one row per measurement with `state`, `measurement`, `x`, `by` (whatever tells the curves apart, and whatever
        `shown` needs), `facets` and, once measured, `value`.
    shown: from the mean (or low, high, one draw) of `value` and the rows it belongs to, to what the y axis shows. The
        mean is taken before: on the loss, not on perplexity. Default: the value itself.
    The band is the 95% t interval of the mean over draws; none with fewer than two draws (see `cut`). A mean with any draw
    that is not finite is not finite: it is left out of the line and counted at the edge.
    """
    if table.empty:
        return []
    keys = [x, *facets, *by]
    table = table.assign(value=table[value].astype(float) if value in table else np.nan)
    placed = table[table[x].notna()]
    means, draws = _means(placed, keys), placed[placed["state"] == "done"].copy()
    shown = shown or (lambda values, rows: values)
    measured = np.isfinite(means["mean"])
    with np.errstate(over="ignore", invalid="ignore"):
        for column in ("mean", "low", "high"):
            means[column] = shown(means[column], means)
        draws[y] = shown(draws["value"], draws)
    finite = means[np.isfinite(means["mean"])].rename(columns={"mean": y})
    means["off_scale"] = measured & ~np.isfinite(
        means["mean"]
    )  # exp of a loss of thousands of nats
    troubled = means[
        (means["num_nonfinite"] > 0) | (means["num_failed"] > 0) | means["off_scale"]
    ].copy()
    troubled["slot"] = (
        troubled.groupby([x, *facets], dropna=False).cumcount() if len(troubled) else 0
    )
    counts = zip(
        troubled["num_nonfinite"], troubled["num_failed"], troubled["off_scale"], strict=True
    )
    troubled["label"] = [_trouble(*count) for count in counts]
    waiting = means[means["num_waiting"] > 0]
    dots = draws.loc[np.isfinite(draws[y]), [*keys, y, "measurement"]]
    return (
        cut(
            to_rows("mean", finite[[*keys, y, "low", "high", "num_draws"]]) + to_rows("draw", dots),
            y,
        )
        + to_rows(
            "edge", troubled[[*keys, "num_nonfinite", "num_failed", "measurement", "label", "slot"]]
        )
        + to_rows("waiting", waiting[[*keys, "num_waiting"]])
        + _notes(table, facets)
    )


def cut(rows: list[dict[str, Any]], y: str = "y") -> list[dict[str, Any]]:
    """Bands that reach far beyond every point are drawn up to a margin around the points (`band_low`, `band_high`): one condition
    with heavy draws would flatten all others. `low` and `high` keep the interval."""
    seen = [row[y] for row in rows if row.get(y) is not None]
    if not seen:
        return rows
    least, most = min(seen), max(seen)
    least, most = (
        (least / 1.3, most * 1.3)
        if least > 0
        else (least - (most - least) / 4, most + (most - least) / 4)
    )

    def one(row: dict[str, Any]) -> dict[str, Any]:
        low, high = row.get("low"), row.get("high")
        if (
            row["what"] != "mean"
            or low is None
            or (low >= least and high is not None and high <= most)
        ):
            return row
        return {
            **row,
            "band_low": max(low, least),
            "band_high": min(most if high is None else high, most),
        }

    return [one(row) for row in rows]


def _means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean, 95% t interval and counts over the draws of each curve point."""
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
        )
        .reset_index()
    )
    num = means["num_draws"].to_numpy(dtype=float)
    means["mean"] = means["mean"].where(means["num_nonfinite"] == 0)
    half = stdtrit(np.maximum(num - 1, 1), 0.975) * means["std"] / np.sqrt(np.maximum(num, 1))
    return means.assign(low=means["mean"] - half, high=means["mean"] + half)


def _trouble(num_nonfinite: int, num_failed: int, off_scale: bool) -> str:
    parts = [
        f"{num_nonfinite}×∞" if num_nonfinite else "",
        f"{num_failed} failed" if num_failed else "",
    ]
    parts += ["off the scale"] if off_scale else []
    return ", ".join(part for part in parts if part)


def _notes(table: pd.DataFrame, facets: Sequence[str]) -> list[dict[str, Any]]:
    """One line of text per facet: how much is still missing, failed or not finite."""
    groups = table.groupby(list(facets), dropna=False) if facets else [((), table)]
    notes = []
    for key, group in groups:
        counts = {
            "still to come": int((~group["state"].isin(["done", "failed"])).sum()),
            "failed": int((group["state"] == "failed").sum()),
            "not finite": int(((group["state"] == "done") & ~np.isfinite(group["value"])).sum()),
        }
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


def to_rows(what: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain JSON rows: numpy scalars become Python's, anything that is not a finite number becomes None."""
    return [
        {"what": what, **{str(name): _plain(value) for name, value in record.items()}}
        for record in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return finite_or_none(value) if isinstance(value, float) else value
