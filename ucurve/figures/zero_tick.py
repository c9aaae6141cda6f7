"""A place for zero beside a logarithmic axis: a tick "0" behind a dashed line.

    drawn = with_zero(figure)               # the figure as every page and file draws it

A logarithmic scale has no zero: Vega draws it where the largest value is, or collapses the axis. So
step 0 (0 tokens) stands one gap before the smallest positive value, and no line leads there. The
rows keep their numbers; only what the chart computes from them changes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ucurve.figures.ticks import ticks
from ucurve.schemas.results import Figure

Chart = dict[str, Any]
CHANNELS = ("x", "y", "color")
CONCATENATED = ("hconcat", "vconcat", "concat")
SHARE = 0.12  # of the axis: how far zero stands from the smallest positive value
LABEL = "format(datum.value, '~g')"
BREAK = {"type": "rule", "strokeDash": [3, 3], "strokeWidth": 1, "color": "#808080"}


@dataclass(frozen=True)
class Place:
    """Where zero stands on the logarithmic scale of a channel."""

    at: float
    least: float  # the smallest positive value
    most: float

    @property
    def break_at(self) -> float:
        """Return the middle of the gap."""
        return float(self.least * (self.at / self.least) ** 0.5)

    @property
    def beyond(self) -> float:
        """Return a number that separates zero's tick from all others."""
        return float(self.least * (self.at / self.least) ** 0.25)


def with_zero(figure: Figure) -> Figure:
    """Return the figure with a place for zero on every logarithmic axis that has one."""
    rows = [row for rows in figure.datasets.values() for row in rows]
    chart = _with_zero(figure.chart, rows)
    return figure if chart is figure.chart else replace(figure, chart=chart)


def _with_zero(chart: Chart, rows: Sequence[Mapping[str, Any]]) -> Chart:
    for key in CONCATENATED:
        if key in chart:
            return {**chart, key: [_with_zero(part, rows) for part in chart[key]]}
    for channel in CHANNELS:
        if place := _place(chart, channel, rows):
            chart = _placed(copy.deepcopy(chart), channel, place)
    return chart


def _views(chart: Chart) -> Iterator[Chart]:
    """Yield every part of a chart with an encoding of its own."""
    if "encoding" in chart:
        yield chart
    for part in (*chart.get("layer", ()), *filter(None, [chart.get("spec")])):
        yield from _views(part)


def _is_log(channel: Any) -> bool:
    return (channel.get("scale") or {}).get("type") == "log" and "field" in channel


def _place(chart: Chart, channel: str, rows: Sequence[Mapping[str, Any]]) -> Place | None:
    """Return where zero stands; None where the scale is not logarithmic or has no zero."""
    encodings = [view["encoding"] for view in _views(chart)]
    if not any(_is_log(encoding.get(channel, {})) for encoding in encodings):
        return None
    fields = {
        encoding[name]["field"]
        for encoding in encodings
        for name in (channel, f"{channel}2")
        if "field" in encoding.get(name, {})
    }
    numbers = [
        value
        for row in rows
        for field in fields
        if isinstance(value := row.get(field), int | float) and not isinstance(value, bool)
    ]
    positive = [value for value in numbers if value > 0]
    if not positive or len(positive) == len(numbers):
        return None
    least, most = min(positive), max(positive)
    gap = max(1.15, (most / least) ** SHARE)
    return Place(float(f"{least / gap:.6g}"), least, most)


def _placed(chart: Chart, channel: str, place: Place) -> Chart:
    """Return the chart, which is changed, with zero in its place."""
    for view in list(_views(chart)):
        encoding = view["encoding"]
        ends = f"{channel}2" in encoding
        for name in (channel, f"{channel}2"):
            if "field" in encoding.get(name, {}):
                encoding[name] = _renamed(view, encoding[name], place, ends)
        if _is_log(encoding.get(channel, {})):
            guide = "legend" if channel == "color" else "axis"
            current = encoding[channel].get(guide, {})
            if current is not None:  # a hidden one stays hidden
                encoding[channel][guide] = _guide(current, place)
    if channel != "color":
        _break(chart, channel, place)
    return chart


def _renamed(view: Chart, encoded: Chart, place: Place, end: bool) -> Chart:
    """Return the encoding of a computed field that has zero in its place.

    end: of an interval, which may reach below zero.
    """
    field = json.dumps(encoded["field"])
    is_zero = f"isNumber(datum[{field}])" if end else f"datum[{field}] === 0"
    moved = {
        "calculate": f"datum[{field}] > 0 ? datum[{field}] : {is_zero} ? {place.at!r} : null",
        "as": f"{encoded['field']} beside 0",
    }
    if moved not in view.setdefault("transform", []):
        view["transform"].append(moved)
    return {**encoded, "field": moved["as"]}


def _guide(guide: Chart, place: Place) -> Chart:
    """Return the axis or legend with a first value "0"."""
    if guide is None:
        guide = {}
    least = max(place.least * 0.9, place.beyond)  # below that would be a second "0"
    values = [place.least] if place.least == place.most else ticks(least, place.most * 1.001)
    label = guide.get("labelExpr", LABEL)
    return {
        **guide,
        "values": [place.at, *values],
        "labelExpr": f"datum.value < {place.beyond!r} ? '0' : {label}",
    }


def _break(chart: Chart, channel: str, place: Place) -> None:
    """Draw a dashed line between zero and the rest, which no other line crosses."""
    inner = chart.get("spec", chart)
    if "layer" not in inner:
        return
    other = "y" if channel == "x" else "x"
    bars = []
    for view in list(_views(inner)):
        encoding, mark = view["encoding"], view.get("mark")
        kind = mark.get("type") if isinstance(mark, dict) else mark
        field = encoding.get(channel, {}).get("field")
        if kind not in ("line", "area") or field is None:
            continue
        view["transform"].append(
            {"calculate": f"datum[{json.dumps(field)}] < {place.beyond!r}", "as": "is 0"}
        )
        detail = encoding.get("detail", [])
        detail = detail if isinstance(detail, list) else [detail]
        if kind == "area" and f"{other}2" in encoding:
            bars.append(_interval(view))
        encoding["detail"] = [*detail, {"field": "is 0", "type": "nominal"}]
    line = {channel: {"datum": place.break_at, "type": "quantitative"}}
    inner["layer"] += [*bars, {"data": {"values": [{}]}, "mark": BREAK, "encoding": line}]


def _interval(view: Chart) -> Chart:
    """Return a bar in the place of a band, which needs two points."""
    copied = ("data", "transform", "encoding")
    bar: Chart = copy.deepcopy({key: view[key] for key in copied if key in view})
    bar["transform"].append({"filter": "datum['is 0']"})
    return {**bar, "mark": {"type": "rule", "clip": True, "strokeWidth": 4}}
