"""The query parameter `at`: an experiment as of a past moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Query

from api.errors import invalid

MAX_CLOCK_SKEW = timedelta(minutes=1)  # a client's clock may be this far ahead
EXAMPLE = "2026-11-24T17:30:00Z"


def parse_moment(
    at: Annotated[
        str | None,
        Query(max_length=60, description=f"Show results as of this time, such as {EXAMPLE}."),
    ] = None,
) -> datetime | None:
    """Parse `at`; a time without a zone is in UTC. 422 for anything else and for the future."""
    if at is None:
        return None
    text = at.strip()
    if "T" in text:
        text = text.replace(" ", "+")  # an unescaped "+" in a URL reads as a space
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid("/at", f"“{at[:40]}” is not a time: write it like {EXAMPLE}.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > datetime.now(UTC) + MAX_CLOCK_SKEW:
        raise invalid(
            "/at",
            f"{moment:%Y-%m-%d %H:%M:%S %Z} is in the future: give a past time, like {EXAMPLE}.",
        )
    return moment


Moment = Annotated[datetime | None, Depends(parse_moment)]
