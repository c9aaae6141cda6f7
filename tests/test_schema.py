"""Migrations: they create the schema of the models, keep all rows, and stop no old worker.

A migration of a live lab meets workers of the release before, which go on until they are replaced.
`tests/old_workers/REVISION.json` holds what they send (see record_worker.py); it has to work on
the newest schema, whenever the migration comes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import record_worker
from conftest import execute
from psycopg.errors import UndefinedColumn
from record_worker import FOLDER
from sqlalchemy import Engine, create_engine, text
from test_postgres_upgrade import ROWS

from db import migrate as migration
from db.migrate import SchemaError, known_revisions, migrate
from db.models import Base
from db.session import engine
from ucurve.lab.embedded import Engines

pytestmark = pytest.mark.usefixtures("database_url")
RECORDED = sorted(file.stem for file in FOLDER.glob("*.json"))
MIGRATIONS = Path(migration.__file__).parent / "migrations" / "versions"
# What may break an old worker: allowed in a migration with a constant CONTRACTS that says why no
# worker of the release before needs it any more.
CONTRACTING = {"drop_table", "drop_column", "rename_table", "drop_constraint"}
CONTRACTING_SQL = re.compile(r"DROP (TABLE|COLUMN)|RENAME|SET NOT NULL|DROP DEFAULT", re.IGNORECASE)


@contextmanager
def database(engines: Engines, name: str, template: str = "template1") -> Iterator[Engine]:
    """An empty database, or a copy of another one."""
    execute(engines, f"CREATE DATABASE {name} TEMPLATE {template}")
    bind = create_engine(engines.database_url_of(name))
    try:
        yield bind
    finally:
        bind.dispose()
        execute(engines, f"DROP DATABASE {name} WITH (FORCE)")


def test_the_migrations_create_the_schema_of_the_models(engines: Any) -> None:
    with database(engines, "of_models") as models:
        Base.metadata.create_all(models)
        assert _schema(models) == _schema(engine())


def _schema(of: Any) -> list[Any]:
    """Return columns, constraints and indexes, read from Postgres' own catalogue."""
    queries = [
        """SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
           FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2""",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE connamespace = 'public'::regnamespace
               AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2""",
        """SELECT indexname, indexdef FROM pg_indexes
           WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1""",
    ]
    with of.connect() as connection:
        return [tuple(row) for query in queries for row in connection.execute(text(query))]


# ---- data and old workers


@pytest.mark.parametrize("revision", known_revisions())
def test_an_upgrade_from_each_revision_keeps_its_rows(engines: Engines, revision: str) -> None:
    with database(engines, "with_rows") as bind:
        migrate(revision, bind=bind)
        with bind.begin() as connection:
            connection.exec_driver_sql(ROWS)
        before = _rows(bind)
        assert sum(map(len, before.values())) == 1002
        migrate(bind=bind)
        assert _rows(bind, before) == before
        assert _schema(bind) == _schema(engine())


def _rows(bind: Engine, like: Any = None) -> dict[Any, list[Any]]:
    """The rows of each table, in the columns of `like`."""
    with bind.connect() as connection:
        names = connection.execute(
            text("""SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY 1)
                    FROM information_schema.columns WHERE table_schema = 'public'
                    AND table_name <> 'alembic_version' GROUP BY 1""")
        ).all()
        return {
            (table, columns): sorted(
                map(str, connection.execute(text(f"SELECT {columns} FROM {table}")))
            )
            for table, columns in (like or [tuple(row) for row in names])
        }


def test_the_code_records_what_its_workers_send(engines: Engines) -> None:
    """The newest recording is of this code, unless a later migration is not released yet."""
    recording = record_worker.record(engine())
    assert len(recording["steps"]) >= 15
    assert all(step["statements"] for step in recording["steps"])
    if RECORDED[-1] == recording["revision"]:
        stored = json.loads((FOLDER / f"{RECORDED[-1]}.json").read_text())
        assert stored["final"] == recording["final"]


@pytest.mark.parametrize("revision", RECORDED)
def test_old_workers_go_on_when_a_migration_comes_between_any_two_transactions(
    engines: Engines, revision: str
) -> None:
    recording = json.loads((FOLDER / f"{revision}.json").read_text())
    steps = recording["steps"]
    with database(engines, "at_revision") as old:
        migrate(revision, bind=old)
        old.dispose()
        for cut in range(len(steps) + 1):
            with database(engines, "replayed", "at_revision") as bind:
                for step in steps[:cut]:
                    record_worker.play(step, bind)
                migrate(bind=bind)
                for step in steps[cut:]:
                    record_worker.play(step, bind)
                assert record_worker.final(bind) == recording["final"], f"migrated before {cut}"


def test_the_test_of_old_workers_notices_a_renamed_column(engines: Engines) -> None:
    recording = json.loads((FOLDER / f"{RECORDED[-1]}.json").read_text())
    with database(engines, "renamed") as bind:
        migrate(bind=bind)
        with bind.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE measurements RENAME live TO progress")
        with pytest.raises(UndefinedColumn, match="live"):
            any(record_worker.play(step, bind) for step in recording["steps"])


def test_migrations_only_expand_or_say_why_not() -> None:
    assert len(RECORDED) >= 1
    for file in sorted(MIGRATIONS.glob("*.py")):
        tree = ast.parse(file.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        wrong = list(_contracting(tree))
        assert not wrong or "CONTRACTS" in names, f"{file.name}: {wrong}"


def test_the_test_of_contracting_migrations_notices_each_kind() -> None:
    for statement in (
        "op.drop_column('users', 'turn')",
        "op.execute('ALTER TABLE users DROP COLUMN turn')",
        "op.add_column('users', sa.Column('x', sa.Text(), nullable=False))",
        "op.alter_column('users', 'turn', new_column_name='x')",
        "op.alter_column('users', 'turn', nullable=False)",
        "op.create_index('i', 'users', ['turn'], unique=True)",
        "op.create_check_constraint('c', 'users', 'turn > 0')",
    ):
        assert list(_contracting(ast.parse(statement))), statement
    allowed = "op.add_column('users', sa.Column('x', sa.Text(), nullable=False, server_default=''))"
    assert not list(_contracting(ast.parse(allowed)))


def _contracting(tree: ast.Module) -> Iterator[str]:
    """Calls of a migration that an old worker's statements may not survive."""
    created = {
        ast.literal_eval(call.args[0]) for call in _calls(tree) if _name(call) == "create_table"
    }
    upgrade = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "upgrade"]
    for call in _calls(upgrade[0] if upgrade else tree):
        name, options = _name(call), {keyword.arg: keyword.value for keyword in call.keywords}
        written = ast.unparse(call)
        on_new_table = len(call.args) > 1 and _text(call.args[1]) in created
        contracts = (
            name in CONTRACTING
            or (name == "execute" and CONTRACTING_SQL.search(written))
            or (name == "add_column" and "nullable=False" in written
                and "server_default" not in written)
            or (name == "alter_column" and options.keys() & {"new_column_name", "type_"})
            or (name == "alter_column" and "nullable=False" in written)
            or (name == "create_index" and "unique=True" in written and not on_new_table)
            or (name in ("create_check_constraint", "create_unique_constraint",
                         "create_foreign_key") and not on_new_table)
        )  # fmt: skip
        if contracts:
            yield written


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("op."):
            yield node


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).removeprefix("op.")


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


# ---- a live lab


def test_a_migration_that_waits_for_a_table_stops_nobody_else(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "LOCK_SECONDS", 1)
    with database(engines, "live") as bind:
        migrate("0001", bind=bind)
        migrating = threading.Thread(target=lambda: migrate("0002", bind=bind))
        with bind.connect() as reader, bind.connect() as colleague:
            reader.execute(text("SELECT count(*) FROM measurements"))  # a long transaction
            migrating.start()
            _until(colleague, "wait_event_type = 'Lock'")
            colleague.execute(text("SET statement_timeout = '60s'"))
            colleague.execute(text("SELECT count(*) FROM measurements"))
            colleague.rollback()
            assert migrating.is_alive(), "it goes on once the reader has finished"
            reader.rollback()
        migrating.join(60)
        assert not migrating.is_alive()
        with bind.connect() as connection:
            stored = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        assert stored == "0002"


def _until(session: Any, condition: str) -> None:
    """Wait until a session of this database meets a condition."""
    for _ in range(600):
        query = f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        found = session.execute(text(query)).first()
        session.rollback()
        if found:
            return
        session.execute(text("SELECT pg_sleep(0.1)"))
    pytest.fail(f"no session meets {condition}")


def test_a_migration_gives_up_after_a_while_and_says_why(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "LOCK_SECONDS", 1)
    with database(engines, "busy") as bind:
        migrate("0001", bind=bind)
        with bind.connect() as reader:
            reader.execute(text("SELECT count(*) FROM measurements"))
            with pytest.raises(SchemaError, match="in use by a long transaction: stop the workers"):
                migrate("0002", patience=0, bind=bind)
        migrate("0002", bind=bind)


def test_a_migration_connects_again_while_the_database_does_not_answer(
    engines: Engines, capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = ".s.PGSQL.5432"
    here = tmp_path_factory.mktemp("s") / name
    with database(engines, "silent"), socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(here))
        silent.listen()
        url = f"postgresql+psycopg://ucurve@/silent?host={here.parent}"
        bind = create_engine(url, connect_args={"connect_timeout": 2})
        migrating = threading.Thread(target=lambda: migrate(bind=bind), daemon=True)
        migrating.start()
        said = ""
        while "connecting again" not in said:
            said += capfd.readouterr().err
            assert migrating.is_alive(), said
            time.sleep(0.05)
        here.unlink()
        here.symlink_to(engines.sockets / name)
        migrating.join(60)
        assert not migrating.is_alive()
        with bind.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
        bind.dispose()


def test_a_newer_database_is_refused_in_one_line(engines: Engines) -> None:
    with database(engines, "newer") as bind:
        migrate(bind=bind)
        with bind.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        done = subprocess.run(
            [sys.executable, "-m", "db.migrate"],
            env={**os.environ, "UCURVE_DATABASE_URL": engines.database_url_of("newer")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "schema revision 9999, newer than" in line
        assert "restore a backup" in line


def test_a_migration_is_not_undone(engines: Engines) -> None:
    with database(engines, "head") as bind:
        migrate(bind=bind)
        with pytest.raises(SchemaError, match="migrations are not undone"):
            migrate("0001", bind=bind)
        with pytest.raises(SchemaError, match="does not know schema revision 4711"):
            migrate("4711", bind=bind)
