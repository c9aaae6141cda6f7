"""The same experiments in a quiet lab of its own: what every number must be."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ucurve.chaos import database
from ucurve.chaos.installation import Installation
from ucurve.client import Client

WAIT_SECONDS = 3600.0


def measure(
    data: Path, specs: Iterable[dict[str, Any]], workers: int, log: Callable[[str], None]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str], list[str]]:
    """Return its rows, the hashes of its trained weights, and what went wrong."""
    unique = list({json.dumps(spec, sort_keys=True): spec for spec in specs}.values())
    lab = Installation(data, workers, "open")
    try:
        lab.start()
        log(f"undisturbed lab started; it measures {len(unique)} different specs")
        client = Client(lab.url, "")
        for spec in unique:
            client.submit(spec)
        problems = _wait(lab, log)
        rows = database.snapshot(lab.sockets)
        weights = weight_hashes(lab.data / "artefacts")
        if lab.stop() != 0:
            problems.append(f"the undisturbed lab ended badly:\n{lab.supervisor.tail()}")
        return rows, weights, problems
    finally:
        lab.remove()


def _wait(lab: Installation, log: Callable[[str], None]) -> list[str]:
    deadline, told = time.monotonic() + WAIT_SECONDS, time.monotonic()
    while (left := database.wanted(lab.sockets)) != 0:
        if not lab.supervisor.alive:
            return [f"the undisturbed lab ended unprompted:\n{lab.supervisor.tail()}"]
        if time.monotonic() > deadline:
            return [f"the undisturbed lab has {left} points left after {WAIT_SECONDS:.0f} s"]
        if time.monotonic() > told + 10:
            told = time.monotonic()
            log(f"undisturbed lab: {left} points left")
        time.sleep(0.5)
    return []


def weight_hashes(artefacts: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of weights, by its path below the artefacts."""
    return {
        str(path.relative_to(artefacts)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(artefacts.rglob("*.safetensors"))
    }
