"""One engine per process, short sessions on it, and the time limits of every connection.

A machine that vanishes inside a transaction keeps its row locks until the server gives it up, by
the kernel's defaults after two hours. So both ends probe silent connections, and a transaction that
its client leaves idle ends after seconds. No transaction may therefore wait for anything slower
than the database: read files, call other servers and send answers outside of it, or say how long it
takes (`allow_idle`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.json_text import to_json
from db.unit_of_work import active_unit
from ucurve.settings import settings

# What the server does with each of our connections. Its own configuration repeats the TCP part for
# other programs (ucurve/lab/embedded.py, docker-compose.yml).
SERVER_LIMITS = {
    "idle_in_transaction_session_timeout": "5s",
    "lock_timeout": "30s",
    "statement_timeout": "10min",
    # A statement that waits for a lock notices that its client is gone.
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
}
# What our end does when the server vanishes; without effect on unix sockets.
CLIENT_LIMITS = {
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def connection_arguments(url: str = "") -> dict[str, Any]:
    """Return the parameters of every connection; those in the URL take precedence."""
    given = make_url(url).query if url else {}
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_LIMITS.items())
    limits = {**CLIENT_LIMITS, "options": f"{options} {given.get('options', '')}".rstrip()}
    return {name: limits[name] for name in limits if name == "options" or name not in given}


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
        connect_args=connection_arguments(url),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=40,
        pool_timeout=10,
        json_deserializer=from_json,
        json_serializer=to_json,
    )


class ShortSession(Session):
    """A session whose end does not fail where the server has already ended its transaction."""

    def close(self) -> None:
        """Roll back what is not committed."""
        try:
            super().close()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self.invalidate()


def open_session() -> Session:
    """Return a session to use in a `with` block; the caller commits.

    Within a request that changes something it is a part of the request's transaction.
    """
    if unit := active_unit():
        return unit.session()
    return ShortSession(engine(), expire_on_commit=False)


def allow_idle(session: Session | Connection, seconds: int) -> None:
    """Let this transaction be idle between two statements for longer than others may."""
    session.execute(
        text("SELECT set_config('idle_in_transaction_session_timeout', :limit, true)"),
        {"limit": f"{seconds}s"},
    )
