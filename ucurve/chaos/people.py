"""People who use the lab while it breaks: each with an API key, the real client, and a diary.

A diary holds every request with its fate: acknowledged (answered with success), rejected (answered
with an error of the request) or unknown (no answer, or a server error). The audit compares it with
the database.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ucurve.chaos.workload import EXTENSION_SEEDS, draw_spec, extension
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.client.http import ClientError

NAMES = ("ada", "emmy", "sofia", "grace")
OPEN_POINTS = 25  # a person submits while fewer of their own points are unfinished
THINKING_SECONDS = (0.3, 2.0)
LATE_SECONDS = 60.0  # an unanswered request may still take effect for so long
Fate = Literal["acknowledged", "rejected", "unknown"]
EFFECTS = {"pause": "paused", "cancel": "cancelled", "resume": "active", "retry": "active"}


@dataclass
class Entry:
    """One request of a diary."""

    at: float
    action: str
    key: str  # of the experiment that it makes or changes
    fate: Fate
    id: int | None = None
    status: int | None = None
    answer: str = ""


@dataclass
class Person:
    """One user in a thread of their own."""

    name: str
    client: Client
    rng: random.Random
    number: int
    diary: list[Entry] = field(default_factory=list)
    specs: dict[int, dict[str, Any]] = field(default_factory=dict)  # of acknowledged experiments
    keys: dict[int, str] = field(default_factory=dict)
    failure: BaseException | None = None
    _count: int = 0

    def use_until(self, stop: threading.Event) -> None:
        """Work with the lab until the event is set."""
        try:
            while not stop.wait(self.rng.uniform(*THINKING_SECONDS)):
                self._act()
        except Exception as error:  # a bug in the client must not end silently
            self.failure = error

    def _act(self) -> None:
        if not self.specs:
            self._submit()
        elif self._draws(0.6) and self._open_points() < OPEN_POINTS:
            self._extend() if self._draws(0.25) else self._submit()
        else:
            self._control()

    def _draws(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _open_points(self) -> int:
        try:
            mine = self.client.experiments(owner=self.name, limit=100).experiments
        except ClientError:
            return OPEN_POINTS
        counts = [e.progress for e in mine if e.state in ("queued", "running")]
        return sum(count.total - count.done - count.failed for count in counts)

    def _submit(self) -> None:
        self._count += 1
        name = f"{self.name}-{self._count}"
        spec = draw_spec(self.rng, name)
        again = spec["kind"] != "pretraining" and self._draws(0.1)
        self._record("submit", name, lambda: self.client.submit(spec, name=name, remeasure=again))

    def _extend(self) -> None:
        self._count += 1
        id = self.rng.choice(sorted(self.specs))
        seed = EXTENSION_SEEDS + 10_000 * self.number + self._count
        changes = extension(self.specs[id], seed)
        self._record("extend", f"extension {seed}", lambda: self.client.extend(id, changes=changes))

    def _control(self) -> None:
        id = self.rng.choice(sorted(self.specs)[-6:])
        action = self.rng.choice(["pause", "resume", "resume", "cancel", "retry", "retry"])
        request = {
            "pause": self.client.pause,
            "resume": self.client.resume,
            "cancel": self.client.cancel,
            "retry": self.client.retry,
        }[action]
        self._record(action, self.keys[id], lambda: request(id), id)

    def _record(
        self, action: str, key: str, request: Callable[[], Any], id: int | None = None
    ) -> None:
        entry = Entry(time.time(), action, key, "unknown", id)
        self.diary.append(entry)
        try:
            experiment = request()
        except RequestRejectedError as error:
            entry.status, entry.answer = error.status, str(error)
            entry.fate = "rejected" if error.status < 500 else "unknown"
        except ApiUnavailableError as error:
            entry.answer = str(error)
        else:
            entry.fate, entry.id, entry.answer = "acknowledged", experiment.id, experiment.state
            if id is None:
                self.specs[experiment.id] = experiment.spec
                self.keys[experiment.id] = key


def allowed_states(diary: list[Entry]) -> dict[int, set[str]]:
    """Return in which states each acknowledged experiment may be, of active, paused, cancelled.

    An unanswered request may or may not have had its effect, at any time until LATE_SECONDS later.
    """
    allowed: dict[int, set[str]] = {}
    unsettled: dict[int, list[tuple[float, str]]] = {}
    for entry in diary:
        if entry.id is None:
            continue
        if entry.action in ("submit", "extend"):
            if entry.fate == "acknowledged":
                allowed[entry.id] = {"active"}
            continue
        effect = EFFECTS[entry.action]
        recent = [(at, e) for at, e in unsettled.get(entry.id, []) if entry.at < at + LATE_SECONDS]
        if entry.fate == "acknowledged":
            allowed[entry.id] = {effect, *(late for _, late in recent)}
        elif entry.fate == "unknown":
            allowed[entry.id].add(effect)
            recent.append((entry.at, effect))
        unsettled[entry.id] = recent
    return allowed


def make_people(admin: Client, url: str, seed: int, num_people: int) -> list[Person]:
    """Create users with API keys of their own."""
    people = []
    for number, name in enumerate(NAMES[:num_people]):
        admin.set_user(name, role="submitter")
        secret = admin.create_token("chaos", owner=name).secret
        rng = random.Random(f"{seed} {name}")
        people.append(Person(name, Client(url, secret), rng, number))
    return people
