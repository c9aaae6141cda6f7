"""Try the models of newly registered suites, beside the measurements, on the CPU.

A wake-up starts it and a timer, too. It runs in a thread of its own: a registration would otherwise
wait for hours behind a fine-tuning run. What it finds is the reason why checkpoints cannot be used,
said before anything is planned.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from db import trials
from ucurve.registry.hub_cache import HubUnreachableError
from ucurve.registry.suites import TRYING, Checkpoint
from worker.transactions import run_in_transaction

POLL_SECONDS = 3.0

log = logging.getLogger(__name__)


class Trials:
    """The thread of one worker that tries structures."""

    def __init__(self, worker: str, leaving: threading.Event) -> None:
        self.worker, self.leaving = worker, leaving
        self._woken = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="trials", daemon=True).start()

    def wake(self) -> None:
        """Look for work at once."""
        self._woken.set()

    def _run(self) -> None:
        while not self.leaving.is_set():
            try:
                while not self.leaving.is_set() and try_one(self.worker):
                    pass
            except (DBAPIError, PoolTimeoutError) as error:
                log.warning("database unavailable, retrying: %s", str(error).splitlines()[0])
            self._woken.wait(POLL_SECONDS)
            self._woken.clear()


def try_one(worker: str) -> bool:
    """Try one structure that waits; return False when there is none."""
    row = run_in_transaction(lambda session: trials.claim(session, worker), retry_for=0)
    if row is None:
        return False
    checkpoint = Checkpoint.model_validate(
        {name: getattr(row, name) for name in Checkpoint.model_fields}
    )
    sha256, started = str(checkpoint.structure), time.monotonic()
    try:
        reason, facts = _outcome(checkpoint)
    except HubUnreachableError as error:
        message = f"{TRYING}: waiting for the hub ({error})"
        run_in_transaction(lambda session: trials.postpone(session, sha256, message))
        return True
    run_in_transaction(lambda session: trials.finish(session, sha256, reason, facts))
    log.info(
        "tried %s/%s in %.1f s: %s",
        checkpoint.suite,
        checkpoint.revision,
        time.monotonic() - started,
        reason or "it can be used",
    )
    return True


def _outcome(checkpoint: Checkpoint) -> tuple[str | None, dict[str, Any] | None]:
    """Return why checkpoints of this structure cannot be used, or what was learned of them.

    Raises HubUnreachableError.
    """
    from ucurve.modeling.trial import try_checkpoint

    try:
        return None, asdict(try_checkpoint(checkpoint))
    except HubUnreachableError:
        raise
    except Exception as error:  # of any kind: every point would end the same way
        log.info("%s/%s cannot be used", checkpoint.suite, checkpoint.revision, exc_info=True)
        message = f"cannot be used: {str(error).strip() or type(error).__name__}"
        return message.replace("\0", "\\0"), None
