"""Complete what the lab knows of weights, once their files are at hand.

Registration knows the files of a hub by their hashes only. A worker that downloaded them can say
which tensors they hold.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from db.models import Json
from db.weights import contents_of, keep_contents
from ucurve.registry.contents_at_hand import content_of_files
from worker.transactions import run_in_transaction


class KnownWeights:
    """The weights whose tensors the database has, as far as this process has looked."""

    def __init__(self) -> None:
        self._complete: set[str] = set()

    def complete(self, source: Json, artefacts: Path) -> None:
        """Store the contents of a measured point's checkpoints where the database lacks them."""
        for checkpoint in source.values():
            sha256 = checkpoint.get("weights_sha256") if isinstance(checkpoint, dict) else None
            if sha256 is None or sha256 in self._complete:
                continue
            self._complete.add(sha256)
            if run_in_transaction(partial(_has_tensors, sha256=sha256)):
                continue
            content = content_of_files(checkpoint, artefacts)
            if content is not None:
                run_in_transaction(partial(keep_contents, contents={sha256: content}))


def _has_tensors(session: Session, sha256: str) -> bool:
    content = contents_of(session, [sha256]).get(sha256)
    return content is not None and content.get("tensors") is not None
