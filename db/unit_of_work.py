"""One transaction for everything that a request changes.

    unit = UnitOfWork(engine().connect)
    with unit.active():        # open_session() gives parts of the unit's transaction
        ...                    # session.commit() ends a part; nothing is visible to others yet
        after_commit(notify)
    unit.commit()
    unit.close()
    unit.run_actions()

What belongs to a change (its stored answer, its audit record) is written between the last part and
`commit`, so that either all of it exists or nothing. Without an active unit sessions commit by
themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

IDLE = "60s"  # that a transaction may compute between two statements

log = logging.getLogger(__name__)
_active: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


class UnitOfWork:
    """A connection that is taken when first needed, with at most one transaction."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._lock: int | None = None
        self._actions: list[Callable[[], object]] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this the unit of all sessions opened within, in other threads of a request too."""
        previous = _active.set(self)
        try:
            yield
        finally:
            _active.reset(previous)

    def session(self) -> Session:
        """Return a session whose commit and rollback concern only its own part."""
        connection = self._connected()
        if not connection.in_transaction():
            connection.begin()
            # Planning thousands of points on a busy machine takes longer than db.session allows.
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE}'"))
        return Session(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")

    def try_lock(self, key: int) -> bool:
        """Take an advisory lock until `close`, outside any transaction; False where it is taken."""
        connection = self._connected()
        taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
        connection.commit()
        if taken:
            self._lock = key
        return taken

    def after_commit(self, action: Callable[[], object]) -> None:
        """Run an action once the transaction is committed."""
        self._actions.append(action)

    def commit(self) -> None:
        """Commit what all sessions of the unit have done."""
        if self._connection is not None:
            self._connection.commit()

    def rollback(self) -> None:
        """End the transaction without a change; an advisory lock stays."""
        if self._connection is not None:
            self._connection.rollback()

    def close(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.rollback()
            if self._lock is not None:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._lock})
                connection.commit()
        except Exception:
            connection.invalidate()  # its end releases the lock
            log.warning("the connection of a request broke; its lock ends with it")
        finally:
            connection.close()

    def run_actions(self) -> None:
        """Run the actions; one that fails is logged, because the change has been made."""
        for action in self._actions:
            try:
                action()
            except Exception:
                log.exception("an action after a commit failed")

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection


def active_unit() -> UnitOfWork | None:
    """Return the unit of the current request."""
    return _active.get()


def after_commit(action: Callable[[], object]) -> None:
    """Run an action once the current request is committed: at once where there is no unit."""
    unit = _active.get()
    if unit is None:
        action()
    else:
        unit.after_commit(action)
