"""The colours of lines: one per value, ordered from blue to orange or distinct."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Blue to orange, lighter upwards, for white and black pages; ordered for colour-blind people too.
ORDERED = ["#3050c8", "#5c58ac", "#80598e", "#a2546e", "#bb5e57", "#cd7442", "#e08a10"]


DISTINCT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d31", "#7f7f7f"]  # after Okabe and Ito
FURTHER = ["#56b4e9", "#9a2b5c"]  # of charts with more than six lines


NEUTRAL = "#808080"


@dataclass(frozen=True)
class LineEncoding:
    """The field that distinguishes lines, and its values in the spec; `neutral` ones are grey."""

    field: str
    title: str
    values: Sequence[float | int | str]
    ordered: bool = True
    neutral: Sequence[float | int | str] = ()

    def colours(self) -> list[str]:
        """Return a colour per value: sequential when ordered, else distinct."""
        coloured = [value for value in self.values if value not in self.neutral]
        palette = (
            ordered_palette(len(coloured))
            if self.ordered
            else [(DISTINCT + FURTHER)[i % 8] for i in range(len(coloured))]
        )
        by_value = dict(zip(coloured, palette, strict=True))
        return [by_value.get(value, NEUTRAL) for value in self.values]


def ordered_palette(num: int) -> list[str]:
    """Return `num` colours from blue (low) to orange (high)."""
    anchors = np.array(
        [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ORDERED], dtype=float
    )
    at = np.linspace(0, len(ORDERED) - 1, num) if num > 1 else np.array([len(ORDERED) - 1.0])
    channels = np.stack(
        [np.interp(at, np.arange(len(ORDERED)), anchors[:, k]) for k in range(3)], axis=1
    )
    return ["#" + "".join(f"{round(channel):02x}" for channel in colour) for colour in channels]


def label_expression(lines: LineEncoding) -> str:
    """Return the Vega expression of a legend label: neutral values are the unperturbed model."""
    neutral = " || ".join(f"datum.value == {json.dumps(value)}" for value in lines.neutral)
    return f"({neutral})? 'unperturbed' : datum.label" if neutral else "datum.label"
