"""`ucurve up` as a person runs it: real processes on free ports, in an empty home."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ports import free_port
from small_disk import SmallDisk, why_not

from ucurve.client import Client
from ucurve.lab import launch
from ucurve.lab.processes import command_line

NO_DISK = why_not()
pytestmark = pytest.mark.engines


@dataclass
class Run:
    """One `ucurve up` in a home of its own; what it prints is in `log`."""

    home: Path
    port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home.with_suffix(".log")

    @property
    def client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}")

    def start(self, *options: str, **env: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(self, *options),
                env={**environment(self.home), **env},
                stdout=log,
                stderr=log,
            )

    def say(self, news: str) -> None:
        """Wait until it has printed `news`."""
        eventually(lambda: news in self.log.read_text() or self.ended(), self.log.read_text, 120.0)
        assert news in self.log.read_text(), self.log.read_text()

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def children(self) -> dict[int, str]:
        """Every process whose command or environment names this home."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) not in (
                os.getpid(),
                self.process and self.process.pid,
            ):
                try:
                    words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                except OSError:
                    continue
                if str(self.home).encode() in words:
                    found[int(folder.name)] = (
                        (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
        return found

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)


def command(run: Run, *options: str) -> list[str]:
    ports = ["--port", str(run.port), "--dashboard-port", str(run.dashboard_port)]
    return [sys.executable, "-m", "ucurve.cli", "up", *ports, *options]


def environment(home: Path) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("UCURVE_", "XDG_"))
    }
    return {**inherited, "HOME": str(home)}


def child_pids(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def eventually(
    true: Callable[[], object], explain: Callable[[], object] = str, seconds: float = 60.0
) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    home = tmp_path_factory.mktemp("up") / "home"
    home.mkdir(mode=0o700)
    run = Run(home)
    run.start("--workers", "1", UCURVE_LOG_FORMAT="json")
    yield run
    if not run.ended():
        run.end(signal.SIGTERM)


def test_the_first_start_measures_the_demo_and_prints_all_addresses(up: Run) -> None:
    up.say("The lab is ready")
    said = up.log.read_text()
    for step in (
        "database and broker started",
        "schema is up to date",
        "api started",
        "worker-1 started",
        "demo submitted",
    ):
        assert step in said
    assert f"http://127.0.0.1:{up.dashboard_port}" in said
    assert launch.answers(f"http://127.0.0.1:{up.dashboard_port}/")
    with up.client as client:
        english, linear, curve = client.experiments().experiments  # newest first
        submitted = (curve, linear, english)
        assert [(each.kind, each.spec.get("suite")) for each in submitted] == [
            ("gaussian_perturbation", "tiny"),
            ("linear_model", None),
            ("gaussian_perturbation", "novels"),
        ]
        assert all(each.tags == ["demo"] for each in submitted)
        eventually(
            lambda: client.experiment(curve.id).progress.done >= 5,
            lambda: client.experiment(curve.id),
            120.0,
        )
        assert (
            client.cancel(curve.id).progress.failed == 0
        )  # it works; the rest of it is not this test's
        assert client.cancel(english.id).progress.failed == 0
        demo = client.wait(linear.id, timeout=120)
        assert (demo.state, demo.progress.failed) == ("done", 0)


def test_a_second_up_on_the_same_data_folder_names_the_running_process(up: Run) -> None:
    refused = subprocess.run(
        command(up), env=environment(up.home), capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert up.process is not None
    assert f"in use by process {up.process.pid}" in refused.stderr
    assert up.client.workers()  # and the first one did not notice


@pytest.mark.parametrize("option", ["--port", "--dashboard-port"])
def test_a_port_in_use_is_reported_with_the_option_to_change_it(
    tmp_path: Path, option: str
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        start = [*command(Run(tmp_path)), option, str(taken)]
        refused = subprocess.run(
            start, env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
    assert refused.returncode == 2
    assert f"port {taken} " in refused.stderr
    assert f"try {option} " in refused.stderr


def test_a_process_that_cannot_start_shows_the_end_of_its_log_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "broken.py").write_text("raise RuntimeError('broken on purpose')\n")
    run = Run(tmp_path / "home")
    run.home.mkdir()
    env = {**environment(run.home), "UCURVE_KINDS": str(tmp_path / "kinds")}
    failed = subprocess.run(command(run), env=env, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert "ucurve: api exited during startup, 3 times in a row" in failed.stderr
    assert "RuntimeError: broken on purpose" in failed.stderr
    assert not run.children()


def test_a_gpu_driver_that_does_not_answer_is_named_instead_of_starting_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "nvidia-smi"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(launch, "GPU_SECONDS", 0.5)
    with pytest.raises(RuntimeError, match="its driver hangs"):
        launch.gpus()


def test_a_process_killed_during_the_start_is_started_again(tmp_path: Path) -> None:
    run = Run(tmp_path / "home")
    run.home.mkdir()
    run.start("--workers", "1", "--no-demo")
    assert run.process is not None
    waiting = {
        "bin/initdb -D": "initdb",  # which is no service: it is started again without a word
        "bin/postgres -D": "postgres",  # not `postgres --version`, nor what initdb starts
        "valkey-server": "valkey",
        "db.migrate": "migration",
        "uvicorn": "api",
        "celery": "worker-1",
        "streamlit": "dashboard",
    }
    victims = dict(waiting)
    try:
        while waiting and not run.ended():
            for pid in child_pids(run.process.pid):
                words = command_line(pid)
                for word in [word for word in waiting if word in words]:
                    os.kill(pid, signal.SIGKILL)
                    waiting.pop(word)
        run.say("The lab is ready")
        victims.pop("bin/initdb -D")
        for name in victims.values():
            run.say(f"{name} restarted")
    finally:
        if not run.ended():
            run.end(signal.SIGTERM)
    assert not run.children()


@pytest.mark.skipif(bool(NO_DISK), reason=NO_DISK or "-")
def test_a_start_on_a_full_disk_says_so_and_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 250) as disk:
        run = Run(tmp_path / "home")
        run.home.mkdir()
        for _ in ("first start", "start of an existing lab"):
            disk.fill()
            run.log.write_text("")
            data = str(disk.folder / "lab")
            run.start("--data", data, "--no-demo", "--no-spare", UCURVE_MIN_DISK_GB="0.01")
            try:
                run.say("The disk of the lab is full")
                assert "ready" not in run.log.read_text()
                disk.clear()
                run.say("The lab is ready")
            finally:
                if not run.ended():
                    assert run.end(signal.SIGTERM) == 0
        assert not run.children()


def test_killed_processes_are_restarted(up: Run) -> None:
    up.say("The lab is ready")
    victims = up.children()
    for pid in victims:
        if "postgres:" not in victims[pid]:  # backends leave with their postmaster
            os.kill(pid, signal.SIGKILL)
    for name in ("postgres", "valkey", "api", "worker-1", "dashboard"):
        up.say(f"{name} restarted")
    eventually(lambda: launch.answers(f"http://127.0.0.1:{up.port}/health/ready"), up.log.read_text)
    experiment = up.client.submit({"kind": "linear_model", "seed": 3}, name="after the kill")
    assert up.client.wait(experiment.id, timeout=120).state == "done"
    assert not set(up.children()) & set(victims)


def test_a_spare_worker_takes_over_the_name_and_the_points_of_a_killed_one(up: Run) -> None:
    up.say("The lab is ready")
    assert up.process is not None

    def spares() -> list[int]:
        assert up.process is not None
        return [pid for pid in child_pids(up.process.pid) if "worker.spare" in command_line(pid)]

    def worker_pid() -> int:
        (info,) = up.client.workers()
        return info.pid

    eventually(lambda: set(spares()) - {worker_pid()}, up.log.read_text, 120.0)
    (spare,) = set(spares()) - {worker_pid()}
    experiment = up.client.submit({"kind": "gaussian_perturbation", "gammas": [0.4], "draws": 1})
    eventually(lambda: up.client.experiment(experiment.id).progress.done, seconds=120)
    os.kill(worker_pid(), signal.SIGKILL)
    eventually(lambda: worker_pid() == spare, up.log.read_text, 60.0)
    assert up.client.wait(experiment.id, timeout=120).progress.failed == 0
    eventually(lambda: set(spares()) - {spare}, up.log.read_text, 120.0)  # and there is a next one


def test_processes_that_stand_still_are_killed_and_restarted(up: Run) -> None:
    up.say("The lab is ready")
    assert up.process is not None
    start = len(up.log.read_text())
    stopped = child_pids(up.process.pid)
    (postmaster,) = [pid for pid in stopped if "bin/postgres" in command_line(pid)]
    stopped += [pid for pid in child_pids(postmaster) if "postgres: ucurve" in command_line(pid)]
    for pid in stopped:  # backends too: their server could not start while they hold its memory
        os.kill(pid, signal.SIGSTOP)
    for name in ("postgres", "valkey", "api", "worker-1", "dashboard"):
        eventually(
            lambda name=name: f"{name} restarted" in up.log.read_text()[start:],
            up.log.read_text,
            120.0,
        )
    assert "gave no sign of life for 30 s; killing it" in up.log.read_text()[start:]
    eventually(lambda: launch.answers(f"http://127.0.0.1:{up.port}/health/ready"), up.log.read_text)
    experiment = up.client.submit({"kind": "linear_model", "seed": 4}, name="after the stop")
    assert up.client.wait(experiment.id, timeout=120).state == "done"
    assert not set(child_pids(up.process.pid)) & set(stopped)


def test_with_json_logs_every_line_of_our_processes_is_an_object(up: Run) -> None:
    up.say("The lab is ready")
    with up.client as client:
        client.wait(client.submit({"kind": "linear_model", "seed": 5}).id, timeout=120)
        (worker,) = client.workers()
        os.kill(worker.pid, signal.SIGTERM)  # whose end Celery announces by itself, unless stopped
        eventually(lambda: not command_line(worker.pid), up.log.read_text, 120.0)
    for name in ("api", "worker-1", "dashboard"):
        lines = (up.home / ".ucurve" / "logs" / f"{name}.log").read_text().splitlines()
        objects = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message"} <= set(line) for line in objects), name
        assert "uvicorn.access" not in {line["logger"] for line in objects}, "it was not asked for"


def test_a_killed_up_leaves_no_process_and_keeps_all_results(up: Run) -> None:
    finished = up.client.experiments(state="done").experiments[-1].id
    before = up.client.table(finished)
    up.end(signal.SIGKILL)
    eventually(lambda: not up.children(), up.children)
    up.log.unlink()
    up.start("--workers", "1")
    up.say("The lab is ready")
    assert "demo" not in up.log.read_text()
    assert up.client.table(finished).equals(before)


def test_sigterm_stops_everything_and_only_the_data_folder_was_written(up: Run) -> None:
    up.say("The lab is ready")
    assert up.end(signal.SIGTERM) == 0
    assert not up.children()
    assert "results are kept in" in up.log.read_text()
    assert [path.name for path in up.home.iterdir()] == [".ucurve"]
