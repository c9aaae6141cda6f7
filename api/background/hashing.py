"""Hash newly registered checkpoints and datasets in the background, and read their layouts.

Gigabytes must not delay a request. `start_hashing` is part of the sweep. It starts one thread per
process, and an advisory lock lets one process at a time work. The thread holds no transaction while
it reads files: an open one would delay every reader of the database.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.catalogue import as_checkpoint, as_dataset
from api.layouts import find_missing_layouts
from api.trials import entered, with_structures
from api.weights import keep
from db.layouts import without_layout
from db.models import Checkpoint as CheckpointRow
from db.models import Dataset as DatasetRow
from db.session import engine, open_session
from ucurve.formatting import file_size
from ucurve.registry.artifacts import Progress
from ucurve.registry.hashing import Contents
from ucurve.registry.hub_cache import HubUnreachableError
from ucurve.registry.resolve import resolve_checkpoint, resolve_dataset
from ucurve.registry.suites import PENDING, Checkpoint
from worker.queue import wake_workers

HASHING_LOCK = 0x72736C76  # "rslv"
REPORT_SECONDS = 1.0  # between two updates of the progress in a row
HUB_RETRY_SECONDS = 30.0  # after a hub that did not answer

HASH_COLUMNS = (
    "weights_sha256",
    "config_sha256",
    "tokenizer_sha256",
    "tokenizer_content",
    "num_parameters",
    "context",
    "size_bytes",
    "structure",
    "architecture",
    "initializer_std",
    "unresolved",
    "remarks",
)

log = logging.getLogger(__name__)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def start_hashing() -> bool:
    """Start hashing in the background if any row is pending; return whether one is."""
    global _thread
    checkpoints = select(CheckpointRow.id).where(CheckpointRow.unresolved.startswith(PENDING))
    datasets = select(DatasetRow.name).where(DatasetRow.unresolved.startswith(PENDING))
    with open_session() as session:
        rows = (checkpoints, datasets, select(CheckpointRow.id).where(without_layout()))
        pending = any(session.scalar(select(query.exists())) for query in rows)
    with _starting:
        if pending and not (_thread and _thread.is_alive()):
            _thread = threading.Thread(target=_hash_all, name="hashing", daemon=True)
            _thread.start()
    return bool(pending)


def _hash_all() -> None:
    """1. take the lock, or leave; 2. hash pending rows, oldest first; 3. release the lock."""
    try:
        with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(
                text("SELECT pg_try_advisory_lock(:key)"), {"key": HASHING_LOCK}
            ):
                return
            try:
                reachable = _hash_datasets(connection) and _hash_checkpoints(connection)
                reachable = find_missing_layouts(connection) and reachable
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": HASHING_LOCK})
        wake_workers()  # to try what was hashed
        if not reachable:
            time.sleep(HUB_RETRY_SECONDS)  # while this thread lives, no other is started
    except (DBAPIError, PoolTimeoutError) as error:
        log.warning(
            "the database does not answer, the next sweep resumes hashing: %s",
            str(error).splitlines()[0],
        )


def _hash_checkpoints(connection: Connection) -> bool:
    """Return False when the hub did not answer; local checkpoints are hashed all the same."""
    reachable = True
    pending = (
        select(CheckpointRow)
        .where(CheckpointRow.unresolved.startswith(PENDING))
        .order_by(CheckpointRow.id)
        .limit(1)
    )
    local = pending.where(CheckpointRow.location["scheme"].astext != "hub")
    while True:
        row: Any = connection.execute(pending if reachable else local).first()
        if row is None:
            return reachable
        progress = _progress_in_row(connection, CheckpointRow, CheckpointRow.id == row.id)
        contents: Contents = {}
        try:
            checkpoint = resolve_checkpoint(as_checkpoint(row), progress, contents)
        except HubUnreachableError as error:
            reachable = False
            changes = {"unresolved": f"{PENDING}: waiting for the hub ({error})"}
            connection.execute(
                update(CheckpointRow).where(CheckpointRow.id == row.id).values(changes)
            )
            continue
        keep(connection, contents)  # first: who sees the hash may compare
        _store(row.id, with_structures([checkpoint])[0])


def _store(id: int, checkpoint: Checkpoint) -> None:
    """Store what was read of a checkpoint, and let a worker try its model."""
    with open_session() as session:
        (columns,) = entered(session, [checkpoint])
        changes = {name: columns[name] for name in HASH_COLUMNS}
        session.execute(update(CheckpointRow).where(CheckpointRow.id == id).values(changes))
        session.commit()


def _hash_datasets(connection: Connection) -> bool:
    pending = select(DatasetRow).where(DatasetRow.unresolved.startswith(PENDING)).limit(1)
    while (row := connection.execute(pending).first()) is not None:
        progress = _progress_in_row(connection, DatasetRow, DatasetRow.name == row.name)
        dataset = resolve_dataset(as_dataset(cast(DatasetRow, row)), progress)
        columns = ("sha256", "size_bytes", "parameters", "unresolved")
        changes = {name: getattr(dataset, name) for name in columns}
        connection.execute(update(DatasetRow).where(DatasetRow.name == row.name).values(changes))
    return True


def _progress_in_row(
    connection: Connection,
    table: type[CheckpointRow] | type[DatasetRow],
    condition: ColumnElement[bool],
) -> Progress:
    """Return a callback that writes the progress into the row, at most once per REPORT_SECONDS."""
    reported = time.monotonic()

    def report(done: float, total: float) -> None:
        nonlocal reported
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            message = f"{PENDING}: {file_size(done)} of {file_size(total)}"
            connection.execute(update(table).where(condition).values(unresolved=message))

    return report
