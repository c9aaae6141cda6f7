"""One engine per process, and short sessions on it."""

from __future__ import annotations

from functools import cache

from pydantic_core import from_json
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from ucurve.settings import settings


@cache
def engine() -> Engine:
    """The engine of UCURVE_DATABASE_URL. The pool is larger than the API's thread pool (40), so no request waits for it."""
    url = settings().database_url
    if not url:
        raise RuntimeError(
            "UCURVE_DATABASE_URL is not set: start with `ucurve up`, or name a postgresql+psycopg:// URL"
        )
    # Half of the time of a page of rows went into reading its JSON with the standard library.
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=40,
        pool_timeout=10,
        json_deserializer=from_json,
    )


def open_session() -> Session:
    """A session to be used in a `with` block and committed by whoever opened it."""
    return Session(engine(), expire_on_commit=False)
