"""Checks of `ucurve doctor` that need no running lab: versions, device, memory, disk, permissions.

Each check yields its findings and raises nothing that is expected to happen.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ucurve.formatting import file_size
from ucurve.lab.data_folder import EmbeddedError, unprivileged_user
from ucurve.lab.embedded import POSTGRES_VERSION, postgres_binaries
from ucurve.lab.findings import Finding, Surroundings
from ucurve.settings import settings

PACKAGES = {  # package: what lacks without it
    "sqlalchemy": "server",
    "psycopg": "server",
    "celery": "server",
    "torch": "worker",
    "transformers": "worker",
    "streamlit": "dashboard",
}
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 2e9, 0.5e9  # bytes; a worker with torch takes one to two GB
TOO_LITTLE_DISK = 0.1  # of what is little
DEVICE_SECONDS = 120.0
SECRETS = ("webhook-secret", "admin-token")


def versions(_: Surroundings) -> Iterator[Finding]:
    """Versions of ucurve, Python and the libraries, against what ucurve asks for."""
    from ucurve import __version__

    python = platform.python_version()
    yield Finding("versions", "ok", f"ucurve {__version__}, Python {python}")
    needed = required()
    for package, extra in PACKAGES.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding(
                "versions",
                "warning",
                f"{package} is not installed: no {extra} can run here",
                f"pip install 'ucurve[{extra}]'",
            )
            continue
        least, exact = needed.get(package, ("", False))
        wrong = _numbers(version) < _numbers(least) or (
            exact and _numbers(version) != _numbers(least)
        )
        yield Finding(
            "versions",
            "problem" if wrong else "ok",
            f"{package} {version}" + (f", and ucurve needs {least}" if wrong else ""),
            f"pip install --upgrade 'ucurve[{extra}]'" if wrong else "",
        )


def required() -> dict[str, tuple[str, bool]]:
    """Return the versions that ucurve declares: {package: (version, whether exactly this one)}."""
    try:
        lines = metadata.requires("ucurve") or []
    except metadata.PackageNotFoundError:  # run from the sources
        return {}
    matches = (re.match(r"([\w-]+)(?:\[\w+\])?(>=|==)([\d.]+)", line) for line in lines)
    return {match[1].lower(): (match[3], match[2] == "==") for match in matches if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def device(_: Surroundings) -> Iterator[Finding]:
    """The device that a worker would use, in a process of its own: torch is large."""
    code = "import json; from ucurve.modeling.device import device; print(json.dumps(device()))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEVICE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        yield Finding(
            "device",
            "problem",
            f"torch does not start within {DEVICE_SECONDS:.0f} s",
            "check the GPU with nvidia-smi; restart the machine if it hangs",
        )
        return
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["unknown"])[-1]
        yield Finding("device", "warning", reason, "pip install 'ucurve[worker]'")
        return
    kind, memory_gb, hardware = json.loads(done.stdout.strip().splitlines()[-1])
    detail = f"{kind}, {memory_gb:.1f} GiB, {hardware}"
    if kind == "cpu" and shutil.which("nvidia-smi") and settings().device != "cpu":
        yield Finding(
            "device",
            "warning",
            f"{detail}, although this machine has an NVIDIA driver",
            "install a torch build with CUDA; check CUDA_VISIBLE_DEVICES",
        )
    else:
        yield Finding("device", "ok", detail)


def memory(_: Surroundings) -> Iterator[Finding]:
    """Free memory of the machine."""
    available = available_memory()
    if available is None:
        return
    few = available < LITTLE_MEMORY
    yield Finding(
        "memory",
        "problem" if available < TOO_LITTLE_MEMORY else "warning" if few else "ok",
        f"{file_size(available)} available",
        "stop other programs, or start fewer workers (ucurve up --workers 1)" if few else "",
    )


def available_memory() -> int | None:
    """Return the available memory in bytes; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    sizes = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines)}
    return int(sizes["MemAvailable"]) * 1024 if "MemAvailable" in sizes else None


def disk(lab: Surroundings) -> Iterator[Finding]:
    """Free space and inodes of the data folder, the artefacts and the hub cache."""
    little = settings().low_disk_gb * 1e9
    folders = {"data": lab.data, "artefacts": lab.artefacts, "hub cache": lab.artefacts / "hub"}
    for name, folder in folders.items():
        if folder is None or not folder.exists():
            continue
        free, space = shutil.disk_usage(folder).free, os.statvfs(folder)
        no_inodes = bool(space.f_files) and space.f_favail < 1000
        bad = free < TOO_LITTLE_DISK * little or no_inodes
        yield Finding(
            "disk",
            "problem" if bad else "warning" if free < little else "ok",
            f"{name}: {file_size(free)} free in {folder}"
            + (f", {space.f_favail} inodes left" if no_inodes else ""),
            "free some space: delete caches (hub, tuned) in the artefact folder, or limit them "
            "with UCURVE_HUB_CACHE_GB and UCURVE_TUNED_GB"
            if free < little or no_inodes
            else "",
        )


def permissions(lab: Surroundings) -> Iterator[Finding]:
    """Folders and files that hold secrets are private; artefacts can be written."""
    before = 0
    for path in _private(lab):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            before += 1
            right = "700" if path.is_dir() else "600"
            yield Finding(
                "permissions",
                "problem",
                f"other users of this machine may read {path} (mode {mode:03o})",
                f"chmod {right} {path}",
            )
    if lab.artefacts.exists() and not os.access(lab.artefacts, os.W_OK):
        before += 1
        yield Finding(
            "permissions",
            "problem",
            f"{lab.artefacts} cannot be written",
            f"chown -R {os.getuid()} {lab.artefacts}",
        )
    if not before:
        yield Finding("permissions", "ok", "secrets are private, artefacts can be written")


def _private(lab: Surroundings) -> Iterator[Path]:
    """The folder of a lab and its files with secrets, as far as they exist."""
    if lab.data is None:
        paths = [settings().admin_token_file or lab.artefacts / "admin-token"]
    else:
        paths = [lab.data, *(lab.data / name for name in SECRETS), lab.data / "postgres"]
    yield from (path for path in paths if path.exists())


def data_folder(lab: Surroundings) -> Iterator[Finding]:
    """A lab is in the data folder, and its Postgres is one that this ucurve runs."""
    if lab.data is None:
        return
    version = lab.data / "postgres" / "PG_VERSION"
    if not version.exists():
        yield Finding(
            "data folder",
            "problem",
            f"there is no lab in {lab.data}",
            "start one with `ucurve up`, or name its folder with --data",
        )
        return
    major, user = version.read_text().strip(), unprivileged_user()
    try:
        postgres_binaries(POSTGRES_VERSION)
        if major != POSTGRES_VERSION:
            postgres_binaries(major)
    except EmbeddedError as error:
        yield Finding("data folder", "problem", f"its Postgres is {major}: {error}")
        return
    yield Finding(
        "data folder",
        "ok" if major == POSTGRES_VERSION else "warning",
        f"Postgres {major} in {lab.data}" + (f", run as {user.name}" if user else ""),
        f"`ucurve up` upgrades it to {POSTGRES_VERSION} and keeps the old one"
        if major != POSTGRES_VERSION
        else "",
    )
