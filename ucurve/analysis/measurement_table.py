"""The table of an experiment, which figures and verdicts read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ucurve.schemas.measurements import MeasurementRow, decode_metrics

if TYPE_CHECKING:
    import pandas as pd

FIXED = ("measurement", "position", "state", "error", "reused", "series", "live")


def to_frame(rows: Iterable[MeasurementRow]) -> pd.DataFrame:
    """Return one row per point in the plan's order, with a column per label and metric.

    Further columns: measurement, position, state, error, reused, series (dict of lists) and live
    (dict or None). Columns of metrics are missing while nothing is measured.
    """
    import pandas as pd

    records = [
        {
            **row.labels,
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
