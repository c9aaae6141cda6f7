"""The embedded engines: durable, private, one owner per data folder, no process left behind."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
import redis

from ucurve.lab.data_folder import InUseError, reaches, socket_folder
from ucurve.lab.embedded import Engines
from ucurve.lab.processes import User, command_line, stop_leftover

pytestmark = pytest.mark.engines
OWNER = """
import sys, time
from pathlib import Path
from ucurve.lab.embedded import Engines

engines = Engines(Path(sys.argv[1])).start()
print(engines.postgres.pid, engines.valkey.pid, flush=True)
time.sleep(300)
"""


def ask(engines: Engines, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(
        host=str(engines.sockets), user="ucurve", dbname="ucurve", autocommit=True
    ) as session:
        result = session.execute(statement.encode())
        return result.fetchall() if result.description else []


def exited(pids: list[int], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(command_line(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_data_survives_a_clean_stop_and_no_process_is_left(
    tmp_path: Path,
) -> None:
    with Engines(tmp_path / "lab") as engines:
        ask(engines, "CREATE TABLE kept AS SELECT 42 AS answer")
        pids = [child.pid for child in engines.children]
    assert exited(pids, 0.0)
    assert not engines.sockets.exists()
    with Engines(tmp_path / "lab") as engines:
        assert ask(engines, "SELECT answer FROM kept") == [(42,)]


def test_a_second_owner_is_rejected_with_the_first_ones_process_id(engines: Engines) -> None:
    with pytest.raises(InUseError, match=f"in use by process {os.getpid()} of .*--data"):
        Engines(engines.data).start()
    assert ask(engines, "SELECT 1") == [(1,)]  # and the first one did not notice


def test_sockets_are_private_and_no_port_is_open(engines: Engines) -> None:
    assert stat.S_IMODE(engines.sockets.stat().st_mode) == 0o700
    assert ask(engines, "SHOW listen_addresses") == [("",)]
    assert ask(engines, "SHOW fsync") == [("on",)]
    with redis.Redis(unix_socket_path=str(engines.sockets / "valkey.sock")) as broker:
        assert broker.config_get("port") == {"port": "0"}


def test_a_server_with_a_stopped_backend_gives_no_sign_of_life(engines: Engines) -> None:
    with psycopg.connect(
        host=str(engines.sockets), user="ucurve", dbname="ucurve", autocommit=True
    ) as session:
        backend = session.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + 20  # until the kernel has stopped it
            while engines.database_sign() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert engines.database_sign() == ""  # it would keep its locks forever
        finally:
            os.kill(backend, signal.SIGCONT)
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert engines.database_sign() == "ready"
    assert engines.broker_sign() == "ready"


def test_a_smart_shutdown_becomes_a_fast_one_although_a_session_stays(tmp_path: Path) -> None:
    with (
        Engines(tmp_path) as engines,
        psycopg.connect(
            host=str(engines.sockets), user="ucurve", dbname="ucurve", autocommit=True
        ) as session,
    ):
        os.kill(engines.postgres.pid, signal.SIGTERM)  # waits for all sessions to end
        deadline = time.monotonic() + 60
        while engines.postgres.alive and time.monotonic() < deadline:
            engines.database_sign()
            time.sleep(0.05)
        assert engines.postgres.exit_status == 0
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_a_stopped_engine_is_continued_so_that_it_ends_cleanly(tmp_path: Path) -> None:
    with Engines(tmp_path) as engines:
        os.kill(engines.postgres.pid, signal.SIGSTOP)
        engines.postgres.stop()
        assert engines.postgres.exit_status == 0, "killed: its data were not synced"


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts Postgres as another user")
def test_postgres_started_by_root_may_write_only_what_it_owns(engines: Engines) -> None:
    status = Path(f"/proc/{engines.postgres.pid}/status").read_text()
    assert re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)[1] != "0"  # type: ignore[index]
    held = {name: int(value, 16) for name, value in re.findall(r"^(Cap\w+):\s+(\w+)", status, re.M)}
    closed = engines.postgres.user is not None and engines.postgres.user.searches
    search_only = 1 << 2  # CAP_DAC_READ_SEARCH
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert held[name] in ((0, search_only) if closed else (0,)), name


def test_a_folder_closed_to_a_user_is_noticed_on_the_way(tmp_path: Path) -> None:
    other = User("other", 12345, 12345)
    inner = tmp_path / "open" / "closed" / "inner"
    inner.mkdir(parents=True)
    for folder in (tmp_path / "open", tmp_path / "open" / "closed"):
        folder.chmod(0o755)
    ways = [folder for folder in inner.parents if not folder.stat().st_mode & stat.S_IXOTH]
    assert reaches(other, inner) == (not ways)
    (tmp_path / "open" / "closed").chmod(0o700)
    assert not reaches(other, inner)
    assert reaches(User("me", os.getuid(), os.getgid()), inner)


def test_a_long_path_with_spaces_has_its_sockets_in_a_short_folder(tmp_path: Path) -> None:
    with Engines(tmp_path / ("a folder " + "x" * 150)) as engines:
        assert len(str(engines.sockets)) < 80
        assert " " not in engines.broker_url
        assert ask(engines, "SELECT 1") == [(1,)]
    assert not engines.sockets.exists()


def test_engines_die_with_a_killed_owner_and_no_data_is_lost(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    with psycopg.connect(
        host=str(socket_folder(tmp_path)), user="ucurve", dbname="ucurve", autocommit=True
    ) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    owner.kill()
    owner.wait()
    assert exited(pids)
    with Engines(tmp_path) as engines:
        assert ask(engines, "SELECT answer FROM kept") == [(42,)]


def test_an_engine_that_outlived_its_owner_is_stopped_by_the_next_start(tmp_path: Path) -> None:
    engines = Engines(tmp_path / "lab").start()
    ask(engines, "CREATE TABLE kept AS SELECT 42 AS answer")
    pids = [child.pid for child in engines.children]
    engines.unlock()  # as if this process had been killed where the kernel does not tell children
    with Engines(tmp_path / "lab") as successor:
        assert not {child.pid for child in successor.children} & set(pids)
        assert ask(successor, "SELECT answer FROM kept") == [(42,)]
    for child in engines.children:
        child.stop()


def test_a_stopped_leftover_ends_at_the_first_signal() -> None:
    leftover = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    leftover.send_signal(signal.SIGSTOP)
    reaper = threading.Thread(target=leftover.wait)
    reaper.start()
    assert stop_leftover(leftover.pid, "time.sleep(600)", (signal.SIGTERM, signal.SIGKILL))
    reaper.join()
    assert leftover.returncode == -signal.SIGTERM


def test_a_stale_pid_file_does_not_stop_an_unrelated_process(tmp_path: Path) -> None:
    with Engines(tmp_path / "lab"):
        pass
    bystander = subprocess.Popen(["sleep", "60"])
    (tmp_path / "lab" / "postgres" / "postmaster.pid").write_text(f"{bystander.pid}\n")
    with Engines(tmp_path / "lab") as engines:
        assert ask(engines, "SELECT 1") == [(1,)]
    assert bystander.poll() is None
    bystander.send_signal(signal.SIGKILL)
    bystander.wait()
