"""Upgrade a data folder of an older Postgres: dump into a new cluster, compare, keep the old one.

The programs of both versions come from the wheel, so nothing is downloaded. An interrupted upgrade
leaves the old cluster as it was and begins again at the next start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ucurve.formatting import file_size
from ucurve.lab import table_copy
from ucurve.lab.backup_file import sync_folder
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.embedded import DATABASE, create_cluster, first_number, postgres_binaries
from ucurve.lab.installation import connect
from ucurve.lab.processes import ChildProcess, User, stop_leftover

if TYPE_CHECKING:
    from ucurve.lab.table_copy import Session

OLD_PORT, NEW_PORT = 5433, 5434  # names of sockets; nothing listens on the network
START_SECONDS = 60.0


def finish_interrupted(cluster: Path) -> None:
    """Finish an upgrade that ended between its last two steps."""
    upgraded = _upgraded(cluster)
    if upgraded.exists() and not cluster.exists():
        upgraded.rename(cluster)
        sync_folder(cluster.parent)


def _upgraded(cluster: Path) -> Path:
    """Where a complete new cluster waits for its name."""
    return cluster.with_name("postgres.upgraded")


@dataclass(frozen=True)
class Upgrade:
    """One upgrade of a cluster."""

    cluster: Path
    old: str
    new: str
    sockets: Path
    logs: Path
    user: User | None
    report: Callable[[str], None]

    def run(self) -> None:
        """Upgrade. Raises EmbeddedError, and leaves the cluster as it was, when it fails."""
        if int(self.old) > int(self.new):
            raise EmbeddedError(
                f"{self.cluster} was made by Postgres {self.old} and this ucurve ships "
                f"{self.new}: install the newer ucurve that made it"
            )
        binaries = postgres_binaries(self.old)
        self._check_space()
        self.report(f"upgrading the database from Postgres {self.old} to {self.new}")
        work = self.cluster.with_name("postgres.upgrading")
        if (pid := first_number(work / "postmaster.pid")) is not None:  # of a killed upgrade
            stop_leftover(pid, str(work), (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL))
        for leftover in (work, _upgraded(self.cluster)):
            shutil.rmtree(leftover, ignore_errors=True)
        new_binaries = postgres_binaries(self.new)
        create_cluster(work, new_binaries, self.user, self.logs)
        with (
            self._server(binaries, self.cluster, OLD_PORT),
            self._server(new_binaries, work, NEW_PORT),
        ):
            self._copy(new_binaries)
            self._compare()
        self._swap(work)

    def _swap(self, work: Path) -> None:
        """Give the new cluster the place of the old one, which gets another name."""
        saved = self.cluster.with_name(f"postgres-{self.old}")
        while saved.exists():
            saved = saved.with_name(f"{saved.name}-older")
        work.rename(_upgraded(self.cluster))
        os.sync()
        self.cluster.rename(saved)
        finish_interrupted(self.cluster)
        self.report(
            f"the database is upgraded, all rows are equal; the old one is kept in {saved}: "
            "remove it when you no longer need it"
        )

    def _check_space(self) -> None:
        size = sum(path.lstat().st_size for path in self.cluster.rglob("*"))
        if size > (free := shutil.disk_usage(self.cluster).free):
            raise EmbeddedError(
                f"the database was made by Postgres {self.old}; upgrading it to {self.new} needs "
                f"{file_size(size)} in {self.cluster.parent}, which has {file_size(free)} free"
            )

    @contextmanager
    def _server(self, binaries: Path, cluster: Path, port: int) -> Iterator[None]:
        server = ChildProcess(
            f"postgres-{port}",
            [
                *(str(binaries / "postgres"), "-D", str(cluster), "-k", str(self.sockets)),
                *("-p", str(port), "-c", "listen_addresses="),
            ],
            self.logs / "postgres-upgrade.log",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stop_signal=signal.SIGINT,
            harder_signal=signal.SIGQUIT,
            death_signal=signal.SIGINT,
            user=self.user,
        )
        server.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not self._answers(port):
                if not server.alive or time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"cannot start Postgres to upgrade {cluster}; end of {server.log}:\n"
                        f"{server.tail()}"
                    )
                time.sleep(0.05)
            yield
        finally:
            server.stop()

    def _answers(self, port: int) -> bool:
        try:
            self._connect(port, "postgres").close()
        except EmbeddedError:
            return False
        return True

    def _connect(self, port: int, database: str = DATABASE) -> Session:
        folder = quote(str(self.sockets), safe="/")
        return connect(f"postgresql://{DATABASE}@/{database}?host={folder}&port={port}")

    def _copy(self, binaries: Path) -> None:
        """Pipe a dump of the old server into the new one, in one transaction."""
        with self._connect(NEW_PORT, "postgres") as session:
            session.commit()
            session.autocommit = True
            session.execute(f"CREATE DATABASE {DATABASE}".encode())
        log = self.logs / "postgres-upgrade.log"
        address = ["--host", str(self.sockets), "--username", DATABASE]
        dump = [str(binaries / "pg_dump"), *address, "--port", str(OLD_PORT), "--format=custom"]
        restore = [str(binaries / "pg_restore"), *address, "--port", str(NEW_PORT)]
        restore += ["--exit-on-error", "--single-transaction", f"--dbname={DATABASE}"]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        with (
            log.open("ab") as errors,
            subprocess.Popen(
                [*dump, "--compress=none", DATABASE],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            ) as source,
        ):
            restored = subprocess.run(
                restore, stdin=source.stdout, stderr=errors, env=environment, check=False
            )
            assert source.stdout is not None
            source.stdout.close()
        if source.returncode or restored.returncode:
            raise EmbeddedError(
                f"the upgrade to Postgres {self.new} failed, the old database is unchanged; "
                f"see {log}"
            )

    def _compare(self) -> None:
        """Raise EmbeddedError unless all tables are equal row for row."""
        with self._connect(OLD_PORT) as old, self._connect(NEW_PORT) as new:
            for session in (old, new):
                table_copy.snapshot(session)
            if digests(old) != digests(new):
                raise EmbeddedError(
                    f"the copy for Postgres {self.new} differs from the old database, which is "
                    "unchanged: please report this"
                )
            new.rollback()
            new.autocommit = True
            new.execute("ANALYZE")


def digests(session: Session) -> object:
    """Return what two equal databases have in common: revision, rows and sequences."""
    return (
        table_copy.revision(session),
        {name: table_copy.read_back(session, name) for name in table_copy.tables(session)},
        list(table_copy.sequences(session)),
    )
