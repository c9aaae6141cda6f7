"""Which fault happens when, drawn from the seed before the run begins.

Kinds come from a shuffled bag that holds each one once and is refilled when empty, so that every
run of several minutes has every kind. About one fault in five is followed by another within a
second: a fault during recovery.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SHORTEST_GAP, LONGEST_GAP = 4.0, 12.0  # seconds between faults
DURING_RECOVERY = 0.2  # of faults have a second one within a second
PROCESSES = ("worker", "api", "sweep", "dashboard", "broker", "postgres", "backend", "supervisor")
KINDS = (
    *(("kill", target) for target in (*PROCESSES, "remote")),
    *(("term", target) for target in PROCESSES if target != "sweep"),
    *(("stop", target) for target in (*PROCESSES, "remote")),
    *(("freeze", target) for target in ("worker", "api", "dashboard", "broker", "postgres")),
    *(("cut", link) for link in ("api", "database", "broker", "remote")),
    *(("swallow", link) for link in ("api", "database", "broker")),
    ("flush", "broker"),
    ("immediate", "postgres"),
    ("fill", "disk"),
)


@dataclass(frozen=True)
class Planned:
    """A fault of the schedule: `seconds` is how long it lasts, where it lasts."""

    at: float  # seconds since the beginning
    action: str
    target: str
    seconds: float
    during_recovery: bool


def schedule(
    seed: int, minutes: float, kinds: tuple[tuple[str, str], ...] = KINDS
) -> list[Planned]:
    """Return the faults of a run, in order."""
    rng = random.Random(seed)
    bag = _bag(rng, kinds)
    planned: list[Planned] = []
    at = rng.uniform(1.0, 4.0)
    while at < 60 * minutes:
        action, target = next(bag)
        planned.append(Planned(at, action, target, rng.uniform(1.0, 8.0), False))
        if rng.random() < DURING_RECOVERY:
            action, target = next(bag)
            soon = at + rng.uniform(0.1, 1.0)
            planned.append(Planned(soon, action, target, rng.uniform(1.0, 8.0), True))
        at += rng.uniform(SHORTEST_GAP, LONGEST_GAP)
    return planned


def _bag(rng: random.Random, kinds: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    while True:
        yield from rng.sample(kinds, len(kinds))
