"""One question for all who want its answer: whichever session comes first asks, the others are given what it brought.

question = Question(lambda client: client.users())     # one per question and process
now = question.look(client)                            # by every session at its own tick
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ucurve.client import ApiUnavailableError, Client, RequestRejectedError

T = TypeVar("T")
EVERY = 0.6  # seconds


class Question(Generic[T]):
    """Asked at most once in `every` seconds."""

    def __init__(self, answer: Callable[[Client], T], every: float = EVERY) -> None:
        self._answer = answer
        self._every = every
        self._asking = threading.Lock()
        self._seen: T | None = None
        self._silence: ApiUnavailableError | RequestRejectedError | None = (
            None  # why the last question had no answer
        )
        self._due = 0.0

    def look(self, client: Client) -> T:
        """The answer as of now. Raises ApiUnavailableError while the API is silent, RequestRejectedError where it says no to this client.

        While another session asks, what it found before is given: nobody waits for anybody, but for the very first answer.
        """
        if self._asking.acquire(blocking=self._seen is None):
            try:
                if time.monotonic() >= self._due:
                    self._ask(client)
            finally:
                self._asking.release()
        if self._silence is not None:
            raise self._silence.with_traceback(None)
        assert self._seen is not None, "neither an answer nor a reason why there is none"
        return self._seen

    def refresh(self) -> None:
        """After an action: ask at the next look."""
        self._due = 0.0

    @property
    def known(self) -> T | None:
        """What was seen last, however long ago."""
        return self._seen

    def _ask(self, client: Client) -> bool:
        """Whether there was an answer."""
        try:
            self._seen = self._answer(client)
            self._silence = None
        except ApiUnavailableError as silence:
            self._silence = silence
        except RequestRejectedError as refusal:
            if refusal.status < 500:
                raise  # said to this client: the next session asks for itself
            self._silence = refusal
        finally:
            self._due = time.monotonic() + self._every
        return self._silence is None
