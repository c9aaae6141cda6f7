"""Copy all tables of a lab's database out and in: data only, never SQL from a file.

    with connect(url) as session:
        snapshot(session)
        for name in tables(session):
            entry = copy_out(session, name, sink, progress)

The text of a table is the same for the same rows, whatever the version of Postgres: `COPY` in the
order of the primary key. Its hash proves that a restored table equals the original row for row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Protocol

from ucurve.lab.backup_file import TableEntry

if TYPE_CHECKING:
    import psycopg

    Session = psycopg.Connection[tuple[object, ...]]

REVISION = "alembic_version"  # its row is the manifest's `revision`
SETTINGS = {  # how values are written, and that a slow disk does not end a session
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
}
ROWS_PER_REPORT = 1000
Progress = Callable[[int], None]  # rows so far


class Sink(Protocol):
    """Where the text of a table goes."""

    def write(self, content: bytes, /) -> object:
        """Take a part of it."""


def prepare(session: Session) -> None:
    """Set how values are written, outside a transaction."""
    session.rollback()
    session.execute(
        "SELECT set_config(name, want.value, false) FROM pg_settings "
        "JOIN unnest(%s::text[], %s::text[]) want(setting, value) ON name = want.setting",
        [list(SETTINGS), list(SETTINGS.values())],
    )
    session.commit()


def snapshot(session: Session) -> None:
    """Begin a transaction that sees the database as of now, however long it takes."""
    prepare(session)
    session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.execute("SELECT 1")  # the snapshot is taken by the first statement


def revision(session: Session) -> str | None:
    """Return the schema revision of the database; None where there is none."""
    if not scalar(session, "SELECT to_regclass('public.alembic_version') IS NOT NULL"):
        return None
    row = session.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def tables(session: Session) -> list[str]:
    """Return all tables but the one of the revision, referenced ones before those that refer."""
    names = [
        str(row[0])
        for row in session.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
            "AND relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        if row[0] != REVISION
    ]
    needs = {name: set[str]() for name in names}
    for name, other in session.execute(
        "SELECT a.relname, b.relname FROM pg_constraint c JOIN pg_class a ON a.oid = c.conrelid "
        "JOIN pg_class b ON b.oid = c.confrelid WHERE c.contype = 'f' "
        "AND c.connamespace = 'public'::regnamespace AND c.conrelid <> c.confrelid"
    ):
        needs[str(name)].add(str(other))
    order: list[str] = []
    while len(order) < len(names):
        ready = [name for name in names if name not in order and needs[name] <= set(order)]
        assert ready, f"tables refer to each other in a circle: {sorted(set(names) - set(order))}"
        order += ready
    return order


def count(session: Session, table: str) -> int:
    """Return the number of rows."""
    return int(str(scalar(session, f"SELECT count(*) FROM {quoted(table)}")))


def copy_out(session: Session, table: str, sink: Sink, progress: Progress) -> TableEntry:
    """Write the text of a table, without the columns that Postgres computes."""
    names = columns(session, table)
    key = [
        quoted(str(name)) + (' COLLATE "C"' if collated else "")
        for name, collated in session.execute(
            "SELECT attname, attcollation <> 0 FROM pg_index JOIN pg_attribute "
            "ON attrelid = indrelid AND attnum = ANY(indkey) WHERE indisprimary "
            "AND indrelid = %s::regclass ORDER BY array_position(indkey::int2[], attnum)",
            [f"public.{quoted(table)}"],
        )
    ]
    listed = ", ".join(map(quoted, names))
    order = ", ".join(key) or ", ".join(f"{quoted(name)}::text" for name in names)
    digest, rows = hashlib.sha256(), 0
    with session.cursor().copy(
        f"COPY (SELECT {listed} FROM {quoted(table)} ORDER BY {order}) TO STDOUT".encode()
    ) as copy:
        for part in copy:
            content = bytes(part)
            digest.update(content)
            sink.write(content)
            rows += content.count(b"\n")  # in values it is written as \n
            if rows % ROWS_PER_REPORT == 0:
                progress(rows)
    progress(rows)
    return TableEntry(columns=names, rows=rows, sha256=digest.hexdigest())


class _Nowhere:
    def write(self, content: bytes) -> int:
        return len(content)


def read_back(session: Session, table: str, progress: Progress = lambda rows: None) -> TableEntry:
    """Return what `copy_out` would: equal tables have equal entries."""
    return copy_out(session, table, _Nowhere(), progress)


def copy_in(
    session: Session, table: str, names: list[str], source: IO[bytes], progress: Progress
) -> None:
    """Fill a table from its text."""
    listed, rows = ", ".join(map(quoted, names)), 0
    with session.cursor().copy(f"COPY {quoted(table)} ({listed}) FROM STDIN".encode()) as copy:
        while content := source.read(1 << 18):
            copy.write(content)
            rows += content.count(b"\n")
            progress(rows)


def columns(session: Session, table: str) -> list[str]:
    """Return the columns of a table that Postgres does not compute."""
    return [
        str(row[0])
        for row in session.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
            "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            [f"public.{quoted(table)}"],
        )
    ]


def sequences(session: Session) -> Iterator[tuple[str, int]]:
    """Yield each sequence that was used, with its last value."""
    for name, last in session.execute(
        "SELECT sequencename, last_value FROM pg_sequences "
        "WHERE schemaname = 'public' AND last_value IS NOT NULL ORDER BY 1"
    ):
        yield str(name), int(str(last))


def scalar(session: Session, statement: str) -> object:
    """Return the first value of the first row."""
    row = session.execute(statement.encode()).fetchone()
    assert row is not None, statement
    return row[0]


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'
