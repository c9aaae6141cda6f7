"""Checks of `ucurve doctor` on a running lab: database, clock, schema, broker, workers, addresses.

The doctor reads and changes nothing. Where the lab is stopped, one finding says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ucurve.formatting import counted
from ucurve.lab import table_copy
from ucurve.lab.data_folder import EmbeddedError
from ucurve.lab.findings import Finding, Surroundings
from ucurve.lab.installation import connect, known_revisions
from ucurve.settings import settings

if TYPE_CHECKING:
    from ucurve.lab.table_copy import Session

OLDEST_POSTGRES = 15
API_CONNECTIONS, WORKER_CONNECTIONS = 50, 5  # the API's pool; a worker uses two or three
NEARLY_FULL = 0.8  # of max_connections
CLOCK_SECONDS = 1.0
SHORT_STATEMENT = 60_000  # milliseconds of statement_timeout that migrations outlast
SECONDS = 5.0  # until an address counts as silent
SAFE = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")


def lab_runs(lab: Surroundings) -> Iterator[Finding]:
    """Whether `ucurve up` runs on the data folder."""
    if lab.data is not None:
        yield Finding(
            "lab",
            "ok" if lab.running else "warning",
            "running" if lab.running else f"not running on {lab.data}",
            "" if lab.running else "start it: ucurve up",
        )


def database(lab: Surroundings) -> Iterator[Finding]:
    """The database answers, is durable, and has enough connections."""
    if lab.database_url is None:
        return
    try:
        with connect(lab.database_url) as session:
            for check in (_server, _server_settings, _connections, _clock, _schema, _workers):
                yield from check(session)
            yield from _files(session, lab.artefacts)
    except EmbeddedError as error:
        yield Finding(
            "database",
            "problem",
            str(error),
            "start it, or correct UCURVE_DATABASE_URL"
            if lab.data is None
            else f"see {lab.data / 'logs' / 'postgres.log'}",
        )


def _show(session: Session, name: str) -> str:
    return str(table_copy.scalar(session, f"SELECT current_setting('{name}')"))


def _server(session: Session) -> Iterator[Finding]:
    version = _show(session, "server_version")
    old = session.info.server_version < OLDEST_POSTGRES * 10_000
    yield Finding(
        "database",
        "problem" if old else "ok",
        f"Postgres {version} answers",
        f"upgrade it to {OLDEST_POSTGRES} or newer" if old else "",
    )
    if table_copy.scalar(session, "SELECT pg_is_in_recovery()"):
        yield Finding(
            "database",
            "problem",
            "it is a read-only replica",
            "name the primary server in UCURVE_DATABASE_URL",
        )


def _server_settings(session: Session) -> Iterator[Finding]:
    wrong = [name for name in SAFE if _show(session, name) == "off"]
    for name in wrong:
        yield Finding(
            "database settings",
            "warning" if name == "autovacuum" else "problem",
            f"{name} is off: "
            + ("tables grow" if name == "autovacuum" else "a power cut loses results"),
            f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
        )
    timeout = int(
        str(table_copy.scalar(session, "SELECT setting FROM pg_settings "
                              "WHERE name = 'statement_timeout'"))
    )  # fmt: skip
    if 0 < timeout < SHORT_STATEMENT:
        yield Finding(
            "database settings",
            "warning",
            f"statement_timeout is {timeout} ms: long reports may fail",
            "ALTER ROLE ucurve SET statement_timeout = 0",
        )
    if (encoding := _show(session, "server_encoding")) != "UTF8":
        yield Finding(
            "database settings",
            "problem",
            f"its encoding is {encoding}",
            "back up, create the database with ENCODING 'UTF8', restore",
        )
    if not wrong:
        yield Finding("database settings", "ok", f"{', '.join(SAFE)} are on")


def _connections(session: Session) -> Iterator[Finding]:
    most = int(_show(session, "max_connections"))
    used = int(str(table_copy.scalar(session, "SELECT count(*) FROM pg_stat_activity "
                                     "WHERE backend_type = 'client backend'")))  # fmt: skip
    workers = 0
    if table_copy.scalar(session, "SELECT to_regclass('public.workers') IS NOT NULL"):
        workers = int(str(table_copy.scalar(session, "SELECT count(*) FROM workers WHERE seen_at "
                                            "> now() - interval '1 day'")))  # fmt: skip
    needed = API_CONNECTIONS + WORKER_CONNECTIONS * workers
    few = most < needed or used > NEARLY_FULL * most
    yield Finding(
        "database connections",
        "warning" if few else "ok",
        f"{used} of {most} in use; the API and {counted(workers, 'worker')} may need {needed}",
        f"set max_connections of Postgres to {max(2 * needed, 2 * used)} and restart it"
        if few
        else "",
    )


def _clock(session: Session) -> Iterator[Finding]:
    session.execute("SELECT 1")  # the next answer does not wait for a connection
    before = local_time()
    there = table_copy.scalar(session, "SELECT clock_timestamp()")
    after = local_time()
    assert isinstance(there, datetime)
    # The database's clock was read at some moment between the two of ours.
    behind, ahead = (before - there).total_seconds(), (there - after).total_seconds()
    seconds = max(behind, ahead, 0.0)
    yield Finding(
        "clock",
        "problem" if seconds > settings().lease_seconds / 2
        else "warning" if seconds > CLOCK_SECONDS else "ok",
        f"{seconds:.1f} s from the database's",
        "set the clocks of both machines with NTP (timedatectl set-ntp true)"
        if seconds > CLOCK_SECONDS
        else "",
    )  # fmt: skip


def local_time() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


def _schema(session: Session) -> Iterator[Finding]:
    stored, revisions = table_copy.revision(session), known_revisions()
    if not revisions:
        return
    if stored == revisions[-1]:
        yield Finding("schema", "ok", f"revision {stored}, the newest")
    elif stored in revisions or stored is None:
        yield Finding(
            "schema",
            "problem",
            f"revision {stored or 'none'}, and this ucurve needs {revisions[-1]}",
            "restart `ucurve up`, or run `python -m db.migrate`",
        )
    else:
        yield Finding(
            "schema",
            "problem",
            f"revision {stored} is of a newer ucurve",
            "install the version of ucurve that migrated the database",
        )


def _workers(session: Session) -> Iterator[Finding]:
    if not table_copy.scalar(session, "SELECT to_regclass('public.workers') IS NOT NULL"):
        return
    alive = session.execute(
        "SELECT count(*), count(DISTINCT versions ->> 'code') FROM workers "
        "WHERE seen_at > clock_timestamp() - make_interval(secs => %s)",
        [2 * settings().lease_seconds],
    ).fetchone()
    waiting = int(str(table_copy.scalar(session, "SELECT count(*) FROM measurements "
                                        "WHERE state IN ('open', 'running')")))  # fmt: skip
    assert alive is not None
    num_alive, num_codes = int(str(alive[0])), int(str(alive[1]))
    if num_codes > 1:
        yield Finding(
            "workers",
            "warning",
            f"they run {num_codes} different versions of the code",
            "install the same version everywhere and restart the workers",
        )
    idle = waiting > 0 and num_alive == 0
    yield Finding(
        "workers",
        "problem" if idle else "ok",
        f"{num_alive} alive, {counted(waiting, 'evaluation')} to measure",
        "start one: `ucurve up` or celery -A worker.queue worker (see run-on-gpus)" if idle else "",
    )


def _files(session: Session, artefacts: Path) -> Iterator[Finding]:
    """Files that rows name are where they say."""
    if not table_copy.scalar(session, "SELECT to_regclass('public.checkpoints') IS NOT NULL"):
        return
    named = session.execute(
        "SELECT DISTINCT l ->> 'scheme', l ->> 'path' FROM (SELECT location AS l FROM checkpoints "
        "UNION ALL SELECT location FROM datasets) x WHERE l ->> 'scheme' IN ('artefacts', 'path')"
    ).fetchall()
    missing = sorted(
        str(path)
        for scheme, path in named
        if not (artefacts / str(path) if scheme == "artefacts" else Path(str(path))).exists()
    )
    yield Finding(
        "files",
        "warning" if missing else "ok",
        f"{len(missing)} of {counted(len(named), 'registered file or folder')} missing, "
        f"first {missing[0]}"
        if missing
        else f"{counted(len(named), 'registered path')} found",
        "restore it from a backup, or mount it at the same path on this machine" if missing else "",
    )


def broker(lab: Surroundings) -> Iterator[Finding]:
    """The broker answers: without it, workers look for work every few seconds only."""
    if lab.broker_url is None:
        return
    try:
        import redis
    except ImportError:
        yield Finding("broker", "warning", "redis is not installed", "pip install 'ucurve[server]'")
        return
    address = re.sub(r"^redis\+socket://", "unix://", lab.broker_url)
    parts = urlsplit(address)
    try:
        with redis.Redis.from_url(address, socket_timeout=SECONDS) as client:
            information = client.info("server")
    except (redis.RedisError, ValueError) as error:
        yield Finding(
            "broker",
            "problem",
            f"{parts.hostname or parts.path} does not answer: {error}",
            "start it, or correct UCURVE_BROKER_URL; until then workers start late",
        )
        return
    version = information.get("valkey_version") or information.get("redis_version")
    yield Finding("broker", "ok", f"version {version} answers")


def addresses(lab: Surroundings) -> Iterator[Finding]:
    """The API and the dashboard answer."""
    if not lab.running:
        return
    for name, url, path, option in (
        ("API", lab.api_url, "/health/ready", "--url or UCURVE_URL"),
        ("dashboard", lab.dashboard_url, "/_stcore/health", "--dashboard-url"),
    ):
        reason = silent(f"{url.rstrip('/')}{path}")
        yield Finding(
            name,
            "problem" if reason else "ok",
            f"{url} {reason or 'answers'}",
            f"start it, or name its address with {option}" if reason else "",
        )


def hub(_: Surroundings) -> Iterator[Finding]:
    """The Hugging Face Hub can be reached, unless the lab is offline by choice."""
    if settings().hf_hub_offline:
        yield Finding("hub", "ok", "not used (HF_HUB_OFFLINE)")
        return
    url = settings().hf_endpoint
    reason = silent(url)
    yield Finding(
        "hub",
        "warning" if reason else "ok",
        f"{url} {reason or 'answers'}",
        "check the network or proxy, or set HF_HUB_OFFLINE=1 if models come from folders only"
        if reason
        else "",
    )


def silent(url: str) -> str:
    """Return why an address does not answer; "" when it does."""
    try:
        with urlopen(Request(url, method="GET"), timeout=SECONDS):
            return ""
    except HTTPError as error:
        return f"answers with status {error.code}"
    except (OSError, ValueError) as error:
        return f"does not answer: {getattr(error, 'reason', error)}"
