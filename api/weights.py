"""What the weights of suites say, from their contents in the database."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from db.weights import contents_known, contents_of, keep_contents
from ucurve.registry.hashing import Contents
from ucurve.registry.suites import Checkpoint, Remark
from ucurve.registry.tensors.weights_content import WeightsContent
from ucurve.registry.weights_remarks import weights_remarks

MAX_SUITES = 100  # whose remarks a process keeps
PENDING_SECONDS = 20.0  # between two comparisons of a suite that is still being hashed

Key = tuple[Any, ...]
_remarks: dict[Key, list[Remark]] = {}
_latest: dict[str, tuple[float, list[Remark]]] = {}  # by suite, with the time of the comparison
_lock = Lock()


def remarks_of(
    session: Session, suites: Mapping[str, Sequence[Checkpoint]]
) -> dict[str, list[Remark]]:
    """Return the remarks about each suite; compared again only when something changed."""
    hashes = {c.weights_sha256 for some in suites.values() for c in some if c.weights_sha256}
    changed = contents_known(session, hashes)
    return {name: _cached(session, checkpoints, changed) for name, checkpoints in suites.items()}


def _cached(
    session: Session, checkpoints: Sequence[Checkpoint], changed: Mapping[str, datetime]
) -> list[Remark]:
    key = tuple(
        (
            *(
                c.suite,
                c.revision,
                c.replicate,
                c.phase,
                c.training_phase,
                c.tokens,
                c.step,
                c.weights_sha256,
            ),
            changed.get(c.weights_sha256 or ""),
        )
        for c in checkpoints
    )
    name = checkpoints[0].suite if checkpoints else ""
    with _lock:
        if key in _remarks:
            return _remarks[key]
        compared_at, latest = _latest.get(name, (0.0, []))
    # Every hashed checkpoint changes the key, and a large suite takes a second to compare.
    hashing = any(c.is_pending and not c.weights_sha256 for c in checkpoints)
    if hashing and time.monotonic() - compared_at < PENDING_SECONDS:
        return latest
    hashes = {c.weights_sha256 for c in checkpoints if c.weights_sha256} & changed.keys()
    contents = {
        sha256: WeightsContent.model_validate(content)
        for sha256, content in contents_of(session, hashes).items()
    }
    remarks = weights_remarks(checkpoints, contents)
    with _lock:
        while len(_remarks) >= MAX_SUITES:
            del _remarks[next(iter(_remarks))]
        _remarks[key] = remarks
        while len(_latest) >= MAX_SUITES:
            del _latest[next(iter(_latest))]
        _latest[name] = (time.monotonic(), remarks)
    return remarks


def keep(session: Session | Connection, contents: Contents) -> None:
    """Insert what was found of weights; the caller commits."""
    keep_contents(session, {k: v.model_dump(mode="json") for k, v in contents.items()})
