"""Signs of life: whether a process answers, asked in a thread of its own.

A supervisor must not wait for an answer, because what it asks may hang. A probe asks again and
again in its thread; the supervisor takes what has arrived since its last look.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

Sign = Literal["", "alive", "ready"]  # "": none; alive: it runs; ready: it does its work

ASK_SECONDS = 2.0  # between two questions
ANSWER_SECONDS = 10.0  # to wait for one answer


class Probe(threading.Thread):
    """Ask a process for a sign of life until `end`; what `ask` raises counts as no sign."""

    def __init__(self, name: str, ask: Callable[[], Sign], interval: float = ASK_SECONDS) -> None:
        super().__init__(name=f"probe of {name}", daemon=True)
        self.ask = ask
        self.interval = interval
        self._latest: Sign = ""
        self._ended = threading.Event()

    def take(self) -> Sign:
        """Return the best sign since the last call, without waiting."""
        sign, self._latest = self._latest, ""
        return sign

    def end(self) -> None:
        """Stop asking."""
        self._ended.set()

    def run(self) -> None:
        """Ask every `interval` seconds, more often until the first answer."""
        while not self._ended.is_set():
            sign: Sign = ""
            with suppress(Exception):  # whatever happens while asking, the process did not answer
                sign = self.ask()
            if sign:
                self._latest = sign
            self._ended.wait(self.interval if sign else min(self.interval, 0.2))


def http_sign(url: str) -> Sign:
    """Return "ready" if a GET of `url` answers with a 2xx status, "alive" with another one."""
    try:
        with urlopen(url, timeout=ANSWER_SECONDS) as response:
            return "ready" if 200 <= response.status < 300 else "alive"
    except OSError as error:
        return "alive" if hasattr(error, "code") else ""  # HTTPError: it answered


def broker_sign(socket: Path) -> Sign:
    """Return "ready" if the broker answers a ping."""
    import redis

    with redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
    ) as broker:
        return "ready" if broker.ping() else ""


def database_sign(sockets: Path, database: str, postmaster: int) -> Sign:
    """Return "ready" if Postgres answers a query; "alive" while it starts or recovers.

    Creates the database, whose owner has the same name, unless it exists. A stopped backend
    (SIGSTOP) keeps its locks forever, so a server with one counts as silent.
    """
    import psycopg
    from psycopg import sql

    if any(is_stopped(pid) for pid in _children(postmaster)):
        return ""
    try:
        with psycopg.connect(
            host=str(sockets),
            user=database,
            dbname="postgres",
            autocommit=True,
            connect_timeout=int(ANSWER_SECONDS),
        ) as session:
            if not session.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [database]
            ).fetchone():
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    except psycopg.OperationalError as error:
        if "shutting down" in str(error):
            _end_fast(postmaster)
            return ""
        return "alive" if "FATAL" in str(error) else ""  # a refusal is an answer
    return "ready"


def _end_fast(postmaster: int) -> None:
    """Turn a "smart" shutdown (SIGTERM) into a fast one, after which the supervisor restarts it.

    A smart one refuses connections until all sessions have ended, and ours never end.
    """
    with suppress(OSError):
        os.kill(postmaster, signal.SIGINT)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has exited, or this is not Linux
        return []


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal (SIGSTOP); False where unknown."""
    try:
        # The state follows the command's name, which is in parentheses and may contain any.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False
