"""Numbers of noise on one layer at a time: the loss increase over tokens and depth, cell by cell.

    rows = cells(table)     # [{"tokens": 7e6, "part": "layer 0", "depth": 0, "y": 0.12, ...}, ...]

The table is that of `ucurve.analysis.gaussian_perturbation`, prepared, with a column
`increase_blocks`. Nothing is tested: every cell has an interval of its own, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ucurve.analysis.curve_rows import curve_rows
from ucurve.formatting import INFINITY
from ucurve.registry.tensors.tensor_selection import AFTER_LAYERS, BEFORE_LAYERS, depth_of

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("scale", "replicate", "tokens")
WAITING, NO_NOISE = "…", "–"
NUMBER = ".2g"


def is_part(group: object) -> bool:
    """Return whether the label `group` of a point names a part of the model by depth."""
    return isinstance(group, str) and (
        group.startswith("layer ") or group in (*BEFORE_LAYERS, *AFTER_LAYERS)
    )


def cells(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per noise scale, pre-training seed, tokens and part of the model.

    Fields: `y`, the mean loss increase in nats, None where it is not finite or not measured, with
    `low`, `high` (95%, None for one noise seed) and `num_draws`; `label`, the number with half the
    width of its interval, or why there is none; `mark`, the same in few letters: the number, "±"
    where the interval includes zero, in brackets where there is no interval.
    """
    rows = table[(table["gamma"] > 0) & table["group"].map(is_part).astype(bool)]
    found = curve_rows(
        rows,
        "tokens",
        "nll_mean",
        ["group", "phase", "base"],
        facets=("scale", "replicate"),
        transform=lambda loss, row: loss - row["base"],
        blocks="increase_blocks",
    )
    by_cell: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found:
        if row["what"] not in ("mean", "waiting", "edge"):
            continue
        key = (*(row[name] for name in PLACE), row["group"])
        if row["what"] != "waiting" or key not in by_cell:
            by_cell[key] = _cell(row)
    return _without_gaps(by_cell)


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    """Return the cell of one row: a mean, evaluations without one, or evaluations to come."""
    cell = {
        **{name: row[name] for name in PLACE},
        "part": row["group"],
        "depth": depth_of(row["group"]),
        "y": row.get("y"),
        "low": row.get("low"),
        "high": row.get("high"),
        "num_draws": row.get("num_draws"),
    }
    if row["what"] == "waiting":
        return {**cell, "label": "not measured yet", "mark": WAITING}
    if row["what"] == "edge":
        return {**cell, "label": row["label"], "mark": _trouble(row)}
    number, low, high = format(row["y"], NUMBER), row["low"], row["high"]
    if low is None or high is None:
        seeds = "one noise seed" if row["num_draws"] == 1 else "the interval is not finite"
        return {**cell, "label": f"{number} ({seeds}: no interval)", "mark": f"({number})"}
    settled = not low <= 0 <= high
    label = f"{number} ±{(high - low) / 2:.2g}" + ("" if settled else ", includes 0")
    return {**cell, "label": label, "mark": number if settled else "±"}


def _trouble(row: dict[str, Any]) -> str:
    """Return in a few letters why a cell has no mean."""
    if row["num_nonfinite"]:
        return INFINITY
    return "failed" if row["num_failed"] else "no base"


def _without_gaps(by_cell: dict[tuple[Any, ...], dict[str, Any]]) -> list[dict[str, Any]]:
    """Add a cell where a noise scale leaves a part as it is, such as norms under init_std."""
    places = list(dict.fromkeys(key[:-1] for key in by_cell))
    parts = sorted({key[-1] for key in by_cell}, key=depth_of)
    missing = {
        **dict.fromkeys(("y", "low", "high", "num_draws")),
        "label": "gets no noise under this noise scale",
        "mark": NO_NOISE,
    }
    return [
        by_cell.get((*place, part))
        or {
            **dict(zip(PLACE, place, strict=True)),
            "part": part,
            "depth": depth_of(part),
            **missing,
        }
        for place in places
        for part in parts
    ]
