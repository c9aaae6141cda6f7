"""What each test needs, as marks read from its fixtures, and a guard that keeps the marks true.

    pytest -m "not engines and not slow"    # what `make check` runs: no service is started

A test that starts a service without a fixture (`ucurve up` in a subprocess) carries the mark
`engines` in its module. The guard listens to every process that a test starts: one that starts a
service and is not marked fails.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NEEDS = {
    "engines": "needs Postgres, the broker or a running service",
    "lab": "needs a running API",
    "browser": "needs Chromium",
    "data": "needs shared/data beside the checkout",
    "slow": "takes more than 20 seconds of one core",
}
FIXTURES = {"lab": "lab", "team": "lab", "browser": "browser"}  # each fixture's mark
SERVICE = re.compile(
    r"(postgres|initdb|valkey-server|uvicorn|celery|streamlit|playwright\S*|chrom\w+)( |$)"
    r"|ucurve(\.cli)? up\b"
)


def mark(items: list[pytest.Item]) -> None:
    """Mark every test with what its fixtures and its condition for being skipped need."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "engines" in fixtures or "browser" in fixtures:
            item.add_marker("engines")
            for fixture, name in FIXTURES.items():
                if fixture in fixtures:
                    item.add_marker(name)
        reasons = [str(skip.kwargs.get("reason")) for skip in item.iter_markers("skipif")]
        if any("shared/data" in reason for reason in reasons):
            item.add_marker("data")


def starts_service(command: object) -> bool:
    """Whether a command line starts one of the programs of a lab, or a browser."""
    words = command.split() if isinstance(command, str) else [str(word) for word in _list(command)]
    line = " ".join(word.rpartition("/")[2] for word in words)
    return bool(SERVICE.search(line))


def _list(command: object) -> list[Any]:
    return list(command) if isinstance(command, list | tuple) else [command]


class Guard:
    """Notes the services that are started while a test without the mark `engines` runs."""

    def __init__(self) -> None:
        self._watched = False
        self._started: list[str] = []
        sys.addaudithook(lambda event, args: self.hear(event, args))

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Note a process that is being started, as an audit event of Python."""
        if self._watched and event == "subprocess.Popen" and starts_service(args[1]):
            self._started.append(" ".join(map(str, _list(args[1])))[:200])

    @contextmanager
    def watch(self, item: pytest.Item) -> Iterator[None]:
        """Fail the test when it starts a service and is not marked."""
        self._watched, self._started = item.get_closest_marker("engines") is None, []
        try:
            yield
        finally:
            self._watched = False
        if self._started:
            pytest.fail(f"mark this test with `engines`: it started {self._started}")
