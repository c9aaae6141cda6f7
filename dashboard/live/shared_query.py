"""A query whose answer all sessions share: the first session that polls sends it.

query = SharedQuery(lambda client: client.users())     # one per query and process
users = query.get(client)                              # called by every session on its own timer
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ucurve.client import ApiUnavailableError, Client, RequestRejectedError

T = TypeVar("T")
INTERVAL = 0.6  # seconds
OWN_REFUSALS = (401, 403)  # concern the client that sent the query, not the resource


class SharedQuery(Generic[T]):
    """Sent at most once per `interval` seconds."""

    def __init__(self, fetch: Callable[[Client], T], interval: float = INTERVAL) -> None:
        self._fetch = fetch
        self._interval = interval
        self._sending = threading.Lock()
        self._last: T | None = None
        self._failure: ApiUnavailableError | RequestRejectedError | None = (
            None  # of the latest request
        )
        self._num_invalidations = 0
        self._due = 0.0

    def get(self, client: Client) -> T:
        """Return the current answer.

        While another session's request is running this returns the previous answer, so only
        the very first answer is waited for. Raises ApiUnavailableError while the API is unreachable
        and RequestRejectedError when it rejects the request, until a later request succeeds.
        """
        if self._sending.acquire(blocking=self._last is None):
            try:
                if time.monotonic() >= self._due:
                    self._send(client)
            finally:
                self._sending.release()
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        assert self._last is not None, "neither an answer nor a failure"
        return self._last

    def invalidate(self) -> None:
        """Send the query again on the next `get`, for example after an action."""
        self._num_invalidations += 1
        self._due = 0.0

    @property
    def last(self) -> T | None:
        """The latest answer, however old."""
        return self._last

    def _send(self, client: Client) -> None:
        num_invalidations = self._num_invalidations
        try:
            self._last = self._fetch(client)
            self._failure = None
        except RequestRejectedError as refusal:
            if refusal.status in OWN_REFUSALS:
                raise  # the next session sends the query itself, with its own token
            self._failure = refusal
        except ApiUnavailableError as failure:
            self._failure = failure
        if num_invalidations == self._num_invalidations:  # not invalidated meanwhile
            self._due = time.monotonic() + self._interval
