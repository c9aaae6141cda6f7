"""Rows that charts draw of the departure from the quadratic, and of where it ends.

departure_rows(departures(curve), "sigma", {"replicate": 0})
regime_rows(regimes(departures(curve)), "σ", {"replicate": 0})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ucurve.analysis.sharpness import Departure, Regime


def departure_rows(
    found: Sequence[Departure], size: str, place: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return a mean with its band per departure; size: the field of sigma or gamma."""
    return [
        {
            "what": "mean",
            **place,
            "tokens": departure.tokens,
            size: departure.sigma,
            "y": departure.value,
            "low": departure.low,
            "high": departure.high,
            "num_draws": departure.num_draws,
        }
        for departure in found
    ]


def regime_rows(
    found: Sequence[Regime], symbol: str, place: Mapping[str, Any], slot: int = 0
) -> list[dict[str, Any]]:
    """Return a mean with its band per end of the quadratic regime, else a mark at the edge.

    slot: the line of the mark, one per curve of a panel.
    """
    rows: list[dict[str, Any]] = []
    for regime in found:
        here = {**place, "tokens": regime.tokens}
        if regime.value is None or regime.below:
            label = f"above the largest {symbol}"
            if regime.below:  # where the interval at the smallest says so too
                known = regime.high == regime.value
                label = f"below the smallest {symbol}" if known else "open"
            rows.append({"what": "edge", **here, "label": label, "slot": slot})
            continue
        ends = {"y": regime.value, "low": regime.low, "high": regime.high}
        rows.append({"what": "mean", **here, **ends})
    return rows
