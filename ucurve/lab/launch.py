"""The processes of a lab beside its engines: what the API, a worker and the dashboard run, and with which environment.

`ucurve up` and the tests start exactly these.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from ucurve.client import Client
from ucurve.lab.processes import ChildProcess
from ucurve.schemas.webhooks import SECRET
from ucurve.settings import settings


def environment(
    database_url: str, broker_url: str, api_url: str, data: Path, access: str = "open"
) -> dict[str, str]:
    """What every process of a lab is told; caches of libraries go under `data` too, so that nothing else is written."""
    artefacts = data / "artefacts"
    artefacts.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "UCURVE_DATABASE_URL": database_url,
        "UCURVE_BROKER_URL": broker_url,
        "UCURVE_ARTEFACTS": str(artefacts),
        "UCURVE_URL": api_url,
        "UCURVE_ACCESS": access,
        "UCURVE_ADMIN_TOKEN_FILE": str(data / "admin-token"),
        SECRET: settings().webhook_secret or webhook_secret(data),
        "XDG_CACHE_HOME": str(data / "cache"),
        "PYTHONUNBUFFERED": "1",  # logs say what happened up to the end
    }


def webhook_secret(data: Path) -> str:
    """What the lab's webhook calls are signed with: made once, readable by whoever runs the lab."""
    file = data / "webhook-secret"
    with (
        suppress(FileExistsError),
        os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new,
    ):
        new.write(secrets.token_hex(32))
    return file.read_text().strip()


def migrate(env: Mapping[str, str]) -> None:
    """Bring the database's schema to head. Raises RuntimeError with the output if that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "db.migrate"],
        env=dict(env),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"the database cannot be migrated:\n{(done.stdout + done.stderr).strip()[-2000:]}"
        )


def api(env: Mapping[str, str], host: str, port: int, logs: Path) -> ChildProcess:
    # Open event streams would otherwise hold a stopping server for ever.
    options = ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", "3"]
    options += [] if env.get("UCURVE_ACCESS_LOG") else ["--no-access-log"]
    return ChildProcess(
        "api",
        [sys.executable, "-m", "uvicorn", "api.main:app", *options],
        logs / "api.log",
        env=env,
    )


def worker(env: Mapping[str, str], name: str, logs: Path, gpu: str | None = None) -> ChildProcess:
    """One measuring process; `gpu` is its CUDA device, None for the CPU."""
    own = {
        **env,
        "UCURVE_WORKER_NAME": name,
        "CUDA_VISIBLE_DEVICES": gpu if gpu is not None else "",
        # Two threads win 1.7x on an idle machine and collapse on a busy one; several processes of one thread win.
        "OMP_NUM_THREADS": env.get("OMP_NUM_THREADS", "1"),
    }
    options = ["-P", "threads", "-c", "1", "-n", f"{name}@%h", "--loglevel", "WARNING"]
    return ChildProcess(
        name,
        [sys.executable, "-m", "celery", "-A", "worker.queue", "worker", *options],
        logs / f"{name}.log",
        env=own,
        harder_signal=signal.SIGQUIT,  # cold: it gives its work back at once
        patience=10.0,
    )


def dashboard(env: Mapping[str, str], host: str, port: int, logs: Path) -> ChildProcess:
    found = importlib.util.find_spec("dashboard")
    assert found, "the package `dashboard` is not installed"
    folder = Path((found.submodule_search_locations or [])[0])
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
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
    """CUDA devices of this machine, as CUDA_VISIBLE_DEVICES names them; none without NVIDIA's driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [
            device for device in visible.split(",") if device.strip() and device.strip() != "-1"
        ]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [
        str(index)
        for index, line in enumerate(listed.stdout.splitlines())
        if line.startswith("GPU ")
    ]


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with a 2xx status."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(200 <= response.status < 300)
    except OSError:
        return False


def is_registered(client: Client, worker: ChildProcess) -> bool:
    """Whether the API knows this very process as a living worker."""
    return any(known.pid == worker.pid and known.alive for known in client.workers())


def wait_for(child: ChildProcess, ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `ready()`. Raises RuntimeError with the end of the log when `child` exits or time is over."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not child.alive:
            raise RuntimeError(
                f"{child.name} stopped while starting; the end of {child.log}:\n{child.tail()}"
            )
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{child.name} is not ready after {seconds:.0f} s; the end of {child.log}:\n{child.tail()}"
            )
        time.sleep(0.1)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False
