"""The table of an experiment, which figures and verdicts read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ucurve.schemas.measurements import MeasurementRow, decode_metrics

if TYPE_CHECKING:
    import pandas as pd

FIXED = ("measurement", "position", "state", "error", "reused", "series", "live")


LARGEST_INTEGER = 2**63 - 1


def _as_number(value: Any) -> Any:
    """Return a float for an integer that no column of integers takes."""
    return float(value) if type(value) is int and abs(value) > LARGEST_INTEGER else value


def to_frame(rows: Iterable[MeasurementRow]) -> pd.DataFrame:
    """Return one row per point in the plan's order, with a column per label and metric.

    Further columns: measurement, position, state, error, reused, series (dict of lists) and live
    (dict or None). Columns of metrics are missing while nothing is measured.
    """
    import pandas as pd

    records = [
        {
            **{name: _as_number(value) for name, value in row.labels.items()},
            **decode_metrics(row.metrics, row.nonfinite),
            "measurement": row.id,
            "position": row.position,
            "state": row.state,
            "error": row.error,
            "reused": row.reused,
            "series": row.series,
            "live": row.live.model_dump() if row.live else None,
        }
        for row in sorted(rows, key=lambda row: row.position)
    ]
    return pd.DataFrame(records) if records else pd.DataFrame(columns=list(FIXED))
