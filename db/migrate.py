"""Migrate the database to the newest schema: `python -m db.migrate`.

Safe to run repeatedly, in several processes at once, and while workers measure: a migration waits
at most LOCK_SECONDS for a table at a time, so that it blocks no other session, and tries again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from db.session import engine

MIGRATION_LOCK = 0x75637572  # "ucur"
LOCK_SECONDS = 3  # while a migration waits for a table, all other sessions wait behind it
PATIENCE = 600.0  # seconds until a migration gives up
CONNECT_PATIENCE = 60.0  # seconds until a database that does not answer ends it
MAX_IDLE = "2min"  # of a migration that computes in Python between two statements
TRY_AGAIN = ("55P03", "40P01")  # lock_not_available, deadlock_detected
# No answer at all, too_many_connections, admin_shutdown, crash_shutdown, cannot_connect_now: on a
# busy machine a database that works may let a connection wait for longer than its time limit.
CONNECT_AGAIN = (None, "53300", "57P01", "57P02", "57P03")


class SchemaError(RuntimeError):
    """The database cannot be brought to the schema; the message says why."""


def migrate(to: str = "head", patience: float = PATIENCE, bind: Engine | None = None) -> None:
    """Apply missing migrations, one process at a time.

    to: the revision to reach, the newest by default. A newer database is refused: migrations are
    not undone. bind: the database, None for that of this process.
    """
    config = configuration()
    with _connected(bind or engine()) as connection:
        connection.detach()  # its limits must not return to the pool
        for limit in ("lock_timeout", "statement_timeout"):  # another process may migrate for long
            connection.execute(text(f"SET {limit} = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        _configure(connection)
        config.attributes["connection"] = connection
        try:
            check(connection, to)
            _upgrade(config, to, connection, time.monotonic() + patience)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()


def _connected(database: Engine) -> Connection:
    """Connect, again and again while the database does not answer; CONNECT_PATIENCE in all."""
    deadline = time.monotonic() + CONNECT_PATIENCE
    while True:
        try:
            return database.connect()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in CONNECT_AGAIN:
                raise
            if time.monotonic() > deadline:
                raise
            print(f"connecting again: {str(error.orig).strip()}", file=sys.stderr)  # noqa: T201
            time.sleep(1.0)


def configuration() -> Config:
    """Return Alembic's configuration."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def known_revisions() -> list[str]:
    """Return the revisions of this installation, oldest first."""
    scripts = ScriptDirectory.from_config(configuration())
    return [script.revision for script in scripts.walk_revisions()][::-1]


def check(connection: Connection, to: str) -> None:
    """Raise SchemaError when the database is newer than what is asked for."""
    revisions = known_revisions()
    if to != "head" and to not in revisions:
        raise SchemaError(
            f"this ucurve does not know schema revision {to}: install the version that made it"
        )
    exists = text("SELECT to_regclass('public.alembic_version') IS NOT NULL")
    stored = None
    if connection.execute(exists).scalar():
        stored = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    connection.commit()
    target = revisions[-1] if to == "head" else to
    if stored is not None and (
        stored not in revisions or revisions.index(stored) > revisions.index(target)
    ):
        raise SchemaError(
            f"the database has schema revision {stored}, newer than {target}: install the version "
            "of ucurve that migrated it, or restore a backup made before (migrations are not "
            "undone)"
        )


def _configure(connection: Connection) -> None:
    """A waiting migration gives up soon; a working one may take its time."""
    connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
    connection.execute(text("SET statement_timeout = 0"))
    connection.execute(text(f"SET idle_in_transaction_session_timeout = '{MAX_IDLE}'"))
    connection.commit()


def _upgrade(config: Config, to: str, connection: Connection, deadline: float) -> None:
    """Upgrade; each revision is a transaction that is tried again while a table is in use."""
    while True:
        try:
            command.upgrade(config, to)
            connection.commit()
            return
        except OperationalError as error:
            connection.rollback()
            if getattr(error.orig, "sqlstate", None) not in TRY_AGAIN:
                raise
            if time.monotonic() > deadline:
                raise SchemaError(
                    "a table is in use by a long transaction: stop the workers, or try again later"
                ) from error
            time.sleep(1.0)  # sessions that waited behind this one go first


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser("db.migrate", description="Migrate the database.")
    parser.add_argument("--to", default="head", help="revision to reach (default: the newest)")
    try:
        migrate(parser.parse_args().to)
    except SchemaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
