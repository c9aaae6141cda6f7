"""Commands and environments of the API, the workers and the dashboard.

`ucurve up` and the tests start the same processes.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from ucurve.client import Client
from ucurve.lab.processes import ChildProcess
from ucurve.schemas.webhooks import SECRET
from ucurve.settings import settings

GPU_SECONDS = 30.0  # for the driver to list the GPUs
MODELS = "models"  # in a data folder: checkpoints and texts that users may register


def environment(
    database_url: str,
    broker_url: str,
    api_url: str,
    data: Path,
    access: str = "open",
    models: Sequence[Path] = (),
) -> dict[str, str]:
    """Return the environment of every process of a lab.

    Caches of libraries go below `data` too: a lab writes nowhere else. `models` and the
    folder `models` in `data` are added to those of UCURVE_MODELS.
    """
    artefacts = data / "artefacts"
    for folder in (artefacts, data / MODELS):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        "MALLOC_ARENA_MAX": "2",  # glibc's eight per core keep what threads of ended pages freed
        **os.environ,
        "UCURVE_DATABASE_URL": database_url,
        "UCURVE_BROKER_URL": broker_url,
        "UCURVE_ARTEFACTS": str(artefacts),
        "UCURVE_DATABASE_FOLDER": str(data / "postgres"),
        "UCURVE_MODELS": os.pathsep.join(map(str, (*settings().models, *models, data / MODELS))),
        "UCURVE_URL": api_url,
        "UCURVE_ACCESS": access,
        "UCURVE_ADMIN_TOKEN_FILE": str(data / "admin-token"),
        SECRET: settings().webhook_secret or webhook_secret(data),
        "XDG_CACHE_HOME": str(data / "cache"),
        "PYTHONUNBUFFERED": "1",  # logs are complete after a crash
    }


def webhook_secret(data: Path) -> str:
    """Return the key that signs webhook requests; created once, readable by the lab's owner."""
    file = data / "webhook-secret"
    with (
        suppress(FileExistsError),
        os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new,
    ):
        new.write(secrets.token_hex(32))
    return file.read_text().strip()


def migrate(env: Mapping[str, str]) -> None:
    """Migrate the database schema to head. Raises RuntimeError with the output on failure."""
    process = subprocess.run(
        [sys.executable, "-m", "db.migrate"],
        env=dict(env),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        output = (process.stdout + process.stderr).strip()[-2000:]
        raise RuntimeError(f"the database migration failed:\n{output}")


def migration(env: Mapping[str, str], logs: Path) -> ChildProcess:
    """Return the process that migrates the database schema to head and ends."""
    return ChildProcess(
        "migration", [sys.executable, "-m", "db.migrate"], logs / "migration.log", env=env
    )


def api(env: Mapping[str, str], host: str, port: int, logs: Path) -> ChildProcess:
    """Return the API process."""
    # Open event streams would keep a stopping server alive forever.
    options = ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", "3"]
    options += ["--http", "api.http_protocol:HttpProtocol"]
    options += [] if env.get("UCURVE_ACCESS_LOG") else ["--no-access-log"]
    return ChildProcess(
        "api",
        [sys.executable, "-m", "uvicorn", "api.main:app", *options],
        logs / "api.log",
        env=env,
    )


def worker_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return what the environments of all workers share."""
    # Two threads are 1.7x faster on an idle machine and collapse on a busy one.
    return {**env, "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", "1")}


def worker(env: Mapping[str, str], name: str, logs: Path, gpu: str | None = None) -> ChildProcess:
    """Return a worker process; gpu: its CUDA device, None for the CPU."""
    worker_env = {
        **worker_environment(env),
        "UCURVE_WORKER_NAME": name,
        "CUDA_VISIBLE_DEVICES": gpu if gpu is not None else "",
    }
    options = ["-P", "threads", "-c", "1", "-n", f"{name}@%h", "--loglevel", "WARNING"]
    return ChildProcess(
        name,
        [sys.executable, "-m", "celery", "-A", "worker.queue", "-q", "worker", *options],
        logs / f"{name}.log",
        env=worker_env,
        harder_signal=signal.SIGQUIT,  # cold shutdown: releases its points immediately
        patience=10.0,
        sends_heartbeats=True,
    )


def dashboard(env: Mapping[str, str], host: str, port: int, logs: Path) -> ChildProcess:
    """Return the dashboard process."""
    package = importlib.util.find_spec("dashboard")
    assert package, "the package `dashboard` is not installed"
    folder = Path((package.submodule_search_locations or [])[0])
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "logger.hideWelcomeMessage": "true",  # it is no line of a log
        "browser.serverAddress": host,
    }
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    return ChildProcess(
        "dashboard",
        [sys.executable, "-m", "streamlit", "run", str(folder / "serve.py"), *flags],
        logs / "dashboard.log",
        folder=folder,  # its .streamlit/config.toml is read from here
        env=env,
        patience=5.0,
    )


def gpus() -> list[str]:
    """Return the CUDA devices of this machine; empty without an NVIDIA driver.

    Raises RuntimeError where the driver does not answer: starting on the CPU instead would look
    like success.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [
            device for device in visible.split(",") if device.strip() and device.strip() != "-1"
        ]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=GPU_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(
            f"nvidia-smi has not listed the GPUs within {GPU_SECONDS:g} s: its driver hangs. "
            "Restart the machine, or set CUDA_VISIBLE_DEVICES= to start on the CPU"
        ) from None
    return [
        str(index)
        for index, line in enumerate(listed.stdout.splitlines())
        if line.startswith("GPU ")
    ]


def answers(url: str) -> bool:
    """Return whether a GET of `url` returns a 2xx status."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(200 <= response.status < 300)
    except OSError:
        return False


def is_registered(client: Client, worker: ChildProcess) -> bool:
    """Return whether the API lists this process as an alive worker."""
    return any(info.pid == worker.pid and info.alive for info in client.workers())


def wait_for(child: ChildProcess, ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `ready()`. Raises RuntimeError with the log's end on exit or timeout."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not child.alive:
            raise RuntimeError(
                f"{child.name} exited during startup; end of {child.log}:\n{child.tail()}"
            )
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{child.name} is not ready after {seconds:.0f} s; "
                f"end of {child.log}:\n{child.tail()}"
            )
        time.sleep(0.1)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
