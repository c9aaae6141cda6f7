"""Axes of charts: their scales, ticks and titles.

chart.encode(encoded_x(tokens_axis()), encoded_y(Axis("y", "loss / nats")))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from ucurve.figures.ticks import TICK_LABEL, TICKS

Scale = Literal["linear", "log", "symlog"]


COMPACT = (
    "datum.value == 0 ? '0' : datum.value >= 1e12 ? format(datum.value / 1e12, '.3~r') + 'T'"
    " : datum.value >= 1e9 ? format(datum.value / 1e9, '.3~r') + 'B'"
    " : datum.value >= 1e5 ? format(datum.value / 1e6, datum.value < 1e6 ? '.1~r' : '.3~r') + 'M'"
    " : format(datum.value, datum.value < 1e3 ? '.3~r' : '.3~s')"
)


@dataclass(frozen=True)
class Axis:
    """A quantitative axis: field, title with unit, and scale ("symlog" is linear near 0)."""

    field: str
    title: str
    scale: Scale = "linear"
    compact: bool = False  # 917504 -> 0.9M
    zero: bool = False
    constant: float = 1.0  # of symlog: below it the scale is about linear


def tokens_axis() -> Axis:
    """Return the axis of pre-training tokens, logarithmic, as 0.9M or 2.1B."""
    return Axis("tokens", "pre-training tokens", "log", compact=True)


def encoded_x(axis: Axis) -> Any:
    return alt.X(
        f"{axis.field}:Q",
        title=axis.title,
        scale=encoded_scale(axis, nice=False, padding=12),
        axis=_axis(axis),
    )


def encoded_y(axis: Axis) -> Any:
    room = (
        {"nice": True} if axis.scale == "linear" else {"nice": False, "padding": 8}
    )  # no line on the very edge
    return alt.Y(
        f"{axis.field}:Q", title=axis.title, scale=encoded_scale(axis, **room), axis=_axis(axis)
    )


def encoded_scale(axis: Axis, **options: Any) -> Any:
    if axis.scale == "symlog":
        options["constant"] = axis.constant
    if axis.scale != "log":
        options["zero"] = axis.zero
    return alt.Scale(type=axis.scale, **options)


def _axis(axis: Axis) -> Any:
    if axis.compact and axis.scale == "log":
        return alt.Axis(labelExpr=TICK_LABEL, values=alt.expr(TICKS))
    if axis.compact:
        return alt.Axis(labelExpr=COMPACT)
    if axis.scale == "symlog":  # Vega's own ticks are those of a linear scale: all at the top
        steps = [
            m * 10.0**e for e in range(-6, 9) for m in (1, 2, 5) if m * 10.0**e >= axis.constant
        ]
        return alt.Axis(
            values=[*(-step for step in reversed(steps)), 0, *steps],
            labelExpr="format(datum.value, '.3~r')",
        )
    return alt.Axis()
