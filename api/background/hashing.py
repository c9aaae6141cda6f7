"""Hashes of newly registered checkpoints and texts, found in the background: hashing gigabytes must not hold up a request.

`resolve_pending` is part of the sweep. It starts one thread per process, and an advisory lock lets one process at a time work.
The thread holds no transaction while it reads files: an open one would hold up every reader of the database.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from api.catalogue import as_checkpoint, as_dataset
from db.models import Checkpoint as CheckpointRow
from db.models import Dataset as DatasetRow
from db.session import engine
from ucurve.formatting import file_size
from ucurve.registry import hashing, hub
from ucurve.registry.hub_cache import HubUnreachableError
from ucurve.registry.suites import PENDING, Checkpoint, Dataset, Location
from ucurve.settings import settings

RESOLVER_LOCK = 0x72736C76  # "rslv"
REPORT_SECONDS = 1.0  # between two notes of progress in a row
PATIENCE_SECONDS = 30.0  # for a hub that did not answer

FOUND = (
    "weights_sha256",
    "config_sha256",
    "tokenizer_sha256",
    "num_parameters",
    "context",
    "size_bytes",
    "unresolved",
)

log = logging.getLogger(__name__)
_starting = threading.Lock()
_thread: threading.Thread | None = None


def artefacts() -> Path:
    """Root of everything that outlives a measurement; the same folder for the API and all workers."""
    return settings().artefacts


def folder_of(location: Location) -> Path:
    """The local folder or file of a location under the artefact root or an absolute path."""
    return artefacts() / location.path if location.scheme == "artefacts" else Path(location.path)


def resolve_pending(session: Session) -> bool:
    """Start resolving in the background if anything waits for it; whether something does. Returns at once."""
    global _thread
    waiting = session.scalar(
        select(
            select(CheckpointRow.id).where(CheckpointRow.unresolved.startswith(PENDING)).exists()
        )
    ) or session.scalar(
        select(select(DatasetRow.name).where(DatasetRow.unresolved.startswith(PENDING)).exists())
    )
    with _starting:
        if waiting and not (_thread and _thread.is_alive()):
            _thread = threading.Thread(target=_resolve_all, name="resolver", daemon=True)
            _thread.start()
    return bool(waiting)


def _resolve_all() -> None:
    """1. take the lock, or leave; 2. resolve what waits, oldest first, until nothing does; 3. give the lock back."""
    try:
        with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(
                text("SELECT pg_try_advisory_lock(:key)"), {"key": RESOLVER_LOCK}
            ):
                return
            try:
                reachable = _resolve_datasets(connection) and _resolve_checkpoints(connection)
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": RESOLVER_LOCK})
        if not reachable:
            time.sleep(PATIENCE_SECONDS)  # while this thread lives, no other is started
    except (DBAPIError, PoolTimeoutError) as error:
        log.warning(
            "the database does not answer, the next sweep resolves on: %s",
            str(error).splitlines()[0],
        )


def _resolve_checkpoints(connection: Connection) -> bool:
    """False when the hub did not answer; what needs no hub is resolved all the same."""
    reachable = True
    waiting = (
        select(CheckpointRow)
        .where(CheckpointRow.unresolved.startswith(PENDING))
        .order_by(CheckpointRow.id)
        .limit(1)
    )
    while True:
        row: Any = connection.execute(
            waiting
            if reachable
            else waiting.where(CheckpointRow.location["scheme"].astext != "hub")
        ).first()
        if row is None:
            return reachable
        note = _noting(connection, CheckpointRow, CheckpointRow.id == row.id)
        try:
            found = resolved(as_checkpoint(row), note)
            change = {name: getattr(found, name) for name in FOUND}
        except HubUnreachableError as error:
            reachable = False
            change = {"unresolved": f"{PENDING}: waiting for the hub ({error})"}
        connection.execute(update(CheckpointRow).where(CheckpointRow.id == row.id).values(change))


def resolved(checkpoint: Checkpoint, progress: hashing.Progress = hashing.quiet) -> Checkpoint:
    """The checkpoint with its hashes or the reason why it has none. Raises HubUnreachableError."""
    if checkpoint.location.scheme == "hub":
        return hub.resolve(checkpoint, artefacts() / "hub", progress)
    return hashing.resolve(checkpoint, folder_of(checkpoint.location), progress)


def _resolve_datasets(connection: Connection) -> bool:
    waiting = select(DatasetRow).where(DatasetRow.unresolved.startswith(PENDING)).limit(1)
    while (row := connection.execute(waiting).first()) is not None:
        dataset = as_dataset(cast(DatasetRow, row))
        found = resolved_dataset(
            dataset, _noting(connection, DatasetRow, DatasetRow.name == row.name)
        )
        change = {
            name: getattr(found, name)
            for name in ("sha256", "size_bytes", "parameters", "unresolved")
        }
        connection.execute(update(DatasetRow).where(DatasetRow.name == row.name).values(change))
    return True


def resolved_dataset(dataset: Dataset, progress: hashing.Progress = hashing.quiet) -> Dataset:
    """The text or the examples with their hash or the reason why they have none."""
    assert dataset.location, "what is made of files has a location"
    resolve = hashing.resolve_examples if dataset.kind == "examples" else hashing.resolve_text
    return resolve(dataset, folder_of(dataset.location), progress)


def _noting(
    connection: Connection, row: type[CheckpointRow] | type[DatasetRow], which: Any
) -> Callable[[float, float], None]:
    """Progress that writes itself into the row, now and then."""
    latest = time.monotonic()

    def note(done: float, total: float) -> None:
        nonlocal latest
        if time.monotonic() - latest >= REPORT_SECONDS:
            latest = time.monotonic()
            connection.execute(
                update(row)
                .where(which)
                .values(unresolved=f"{PENDING}: {file_size(done)} of {file_size(total)}")
            )

    return note
