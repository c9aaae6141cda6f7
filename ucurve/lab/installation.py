"""The database and the folders of a lab, whether it runs, is stopped, or is spread over machines.

with opened(Path("~/.ucurve")) as lab:
    with lab.connect() as session:
        session.execute("SELECT count(*) FROM measurements")
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ucurve.lab.data_folder import EmbeddedError, InUseError, socket_folder
from ucurve.lab.embedded import Engines
from ucurve.settings import settings

if TYPE_CHECKING:
    import psycopg

DEFAULT_DATA = Path("~/.ucurve")
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Installation:
    """What a backup reads and a restore writes."""

    database_url: str
    artefacts: Path
    data: Path | None  # None: database and folders are named by the environment

    @property
    def webhook_secret(self) -> Path | None:
        """File of the key that signs webhooks."""
        return self.data / "webhook-secret" if self.data else None

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect to the database. Raises EmbeddedError with the reason in one line."""
        return connect(self.database_url)


def connect(database_url: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to the database of an SQLAlchemy URL."""
    try:
        import psycopg
    except ImportError:
        raise EmbeddedError("psycopg is not installed: pip install 'ucurve[server]'") from None
    address = database_url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        return psycopg.connect(address, connect_timeout=CONNECT_SECONDS)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise EmbeddedError(f"cannot connect to the database: {reason}") from error


@contextmanager
def database_errors(activity: str) -> Iterator[None]:
    """Turn an error of the database during an activity into one line."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EmbeddedError(f"the database failed during {activity}: {reason}") from error


def is_external(data: Path | None) -> bool:
    """Return whether the environment names the lab; a data folder that is named comes first."""
    return data is None and bool(settings().database_url)


def external() -> Installation:
    """Return the lab of UCURVE_DATABASE_URL and UCURVE_ARTEFACTS."""
    url = settings().database_url
    assert url, "ask is_external first"
    return Installation(url, settings().artefacts, None)


@contextmanager
def opened(data: Path | None) -> Iterator[Installation]:
    """Yield a lab whose database answers; that of a stopped lab is started meanwhile."""
    if is_external(data):
        yield external()
        return
    engines = Engines(data or DEFAULT_DATA)
    if not (engines.data / "postgres" / "PG_VERSION").exists():
        raise EmbeddedError(
            f"there is no lab in {engines.data}: name its folder with --data, or set "
            "UCURVE_DATABASE_URL"
        )
    try:
        engines.lock()
    except InUseError:  # it runs
        engines.sockets = socket_folder(engines.data)
        yield of_engines(engines)
        return
    with engines:
        yield of_engines(engines)


def of_engines(engines: Engines) -> Installation:
    """Return the lab in the data folder of running engines."""
    return Installation(engines.database_url, engines.data / "artefacts", engines.data)


def known_revisions() -> list[str]:
    """Return the schema revisions of this installation, oldest first; [] without the server."""
    package = importlib.util.find_spec("db")
    if package is None or importlib.util.find_spec("alembic") is None:
        return []
    from alembic.script import ScriptDirectory

    folder = Path((package.submodule_search_locations or [])[0]) / "migrations"
    return [script.revision for script in ScriptDirectory(folder).walk_revisions()][::-1]
