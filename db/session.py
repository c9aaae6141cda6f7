"""One engine per process, and short sessions on it."""

from __future__ import annotations

from functools import cache

from pydantic_core import from_json
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from db.unit_of_work import active_unit
from ucurve.settings import settings


@cache
def engine() -> Engine:
    """Return the engine of UCURVE_DATABASE_URL.

    Its pool is larger than the API's thread pool (40), so no request waits for a connection.
    """
    url = settings().database_url
    if not url:
        raise RuntimeError(
            "UCURVE_DATABASE_URL is not set: start the lab with `ucurve up`, or set it to a "
            "postgresql+psycopg:// URL"
        )
    # pydantic_core parses JSON: the standard library took half of the time of a page of rows.
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=40,
        pool_timeout=10,
        json_deserializer=from_json,
    )


def open_session() -> Session:
    """Return a session to use in a `with` block; the caller commits.

    Within a request that changes something it is a part of the request's transaction.
    """
    if unit := active_unit():
        return unit.session()
    return Session(engine(), expire_on_commit=False)
