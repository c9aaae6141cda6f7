"""What `ucurve doctor` reports: findings, and what it knows of an installation before it looks.

installation = surroundings(Path("~/.ucurve"), "http://127.0.0.1:8000", DASHBOARD)
Finding("clock", "ok", "0.01 s from the database's")
"""

from __future__ import annotations

import fcntl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ucurve.lab.data_folder import socket_folder
from ucurve.lab.embedded import Engines
from ucurve.lab.installation import DEFAULT_DATA, is_external
from ucurve.settings import settings

Status = Literal["ok", "warning", "problem"]
DASHBOARD = "http://127.0.0.1:8501"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    status: Status
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """Return what `ucurve doctor --json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Surroundings:
    """Where the parts of an installation are."""

    data: Path | None  # None: the environment names database and folders
    running: bool  # whether `ucurve up` runs on the data folder; True without one
    database_url: str | None  # None: a stopped lab has none
    broker_url: str | None
    artefacts: Path
    api_url: str
    dashboard_url: str


def surroundings(data: Path | None, api_url: str, dashboard_url: str) -> Surroundings:
    """Find the parts of an installation without starting or changing anything."""
    if is_external(data):
        return Surroundings(
            None,
            True,
            settings().database_url,
            settings().broker_url,
            settings().artefacts,
            api_url,
            dashboard_url,
        )
    engines = Engines(data or DEFAULT_DATA)
    running = in_use(engines.data)
    if running:
        engines.sockets = socket_folder(engines.data)
    return Surroundings(
        engines.data,
        running,
        engines.database_url if running else None,
        engines.broker_url if running else None,
        engines.data / "artefacts",
        api_url,
        dashboard_url,
    )


def in_use(data: Path) -> bool:
    """Return whether a process holds the lock of a data folder."""
    try:
        with (data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
