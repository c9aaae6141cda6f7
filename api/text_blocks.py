"""Losses in blocks of text for results that hold them by window only, as of earlier releases.

Windows are read a few results at a time and reduced at once, so that a table costs the memory of
its blocks. The result is what measuring again would store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from db.models import Json
from db.stored_windows import windows_without_blocks
from ucurve.schemas.measurements import MeasurementRow, finite_or_none

WINDOWS, BLOCKS = "window_nll", "block_loss"


def add_missing_blocks(
    session: Session, rows: Sequence[MeasurementRow], series: Mapping[str, Json] | None
) -> None:
    """Give finished rows that come without their windows the losses in blocks of them.

    series: which rows come with which series. Where nothing selects windows, all rows come with
    theirs or with no series at all.
    """
    if WINDOWS not in (series or {}):
        return
    from ucurve.analysis import text_error  # numpy: not before it is needed

    lacking: dict[int, list[MeasurementRow]] = {}
    for row in rows:
        if row.attempt is not None and not {WINDOWS, BLOCKS} & row.series.keys():
            lacking.setdefault(row.attempt, []).append(row)
    for attempt, nll, scored in windows_without_blocks(session, list(lacking)):
        blocks = text_error.of_windows(nll, scored)
        if blocks is not None:
            for row in lacking[attempt]:
                row.series[BLOCKS] = [finite_or_none(loss) for loss in blocks.tolist()]
