"""Losses by window of results of earlier releases, which stored them in no other form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

AT_ONCE = 64  # attempts whose windows are in memory together


Numbers = list[float | None]


def windows_without_blocks(
    session: Session, attempts: Sequence[int]
) -> Iterator[tuple[int, Numbers, Numbers]]:
    """Yield (attempt, nll, scored) of those attempts that have losses by window and no blocks."""
    for start in range(0, len(attempts), AT_ONCE):
        rows = session.execute(
            text("""
                SELECT id, series -> 'window_nll', series -> 'window_tokens' FROM attempts
                WHERE id = ANY(:attempts)
                    AND series ?& ARRAY['window_nll', 'window_tokens']
                    AND NOT series ? 'block_loss'"""),
            {"attempts": list(attempts[start : start + AT_ONCE])},
        )
        yield from ((id, nll, scored) for id, nll, scored in rows)
