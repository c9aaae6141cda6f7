"""The processes of a lab: which one is the API, a worker, the postmaster, one of its backends."""

from __future__ import annotations

from pathlib import Path

import psutil

# Words of a command line, and what runs it.
ROLES = (
    ("uvicorn api.main", "api"),
    ("celery -A worker", "worker"),
    ("worker.spare", "worker"),  # a spare, or the worker that it has become
    ("streamlit run", "dashboard"),
    ("valkey-server", "broker"),
    ("postgres -D", "postgres"),
)
BACKEND = "postgres: ucurve ucurve"  # the title of a process that serves one connection


def members(supervisor: int) -> dict[str, list[psutil.Process]]:
    """Return the processes below a supervisor, by role."""
    by_role: dict[str, list[psutil.Process]] = {}
    try:
        children = psutil.Process(supervisor).children(recursive=True)
    except psutil.NoSuchProcess:
        return by_role
    for process in children:
        if role := role_of(process):
            by_role.setdefault(role, []).append(process)
    return by_role


def role_of(process: psutil.Process) -> str:
    """Return what a process is, "" for one of no interest (a fork, a helper, a zombie)."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        command = " ".join(process.cmdline())
    except psutil.Error:
        return ""
    if command.startswith(BACKEND):
        return "backend"
    return next((role for words, role in ROLES if words in command), "")


def of_folder(data: Path) -> list[psutil.Process]:
    """Return all processes that work in a data folder, even orphans."""
    inside = []
    for process in psutil.process_iter():
        try:
            words = (*process.cmdline(), *process.environ().values())
            if any(str(data) in word for word in words):
                inside.append(process)
        except psutil.Error:
            continue
    own = psutil.Process()
    mine = {own.pid, *(parent.pid for parent in own.parents())}
    return [process for process in inside if process.pid not in mine]


def stopped(process: psutil.Process) -> bool:
    """Return whether a process exists and is stopped by a signal."""
    try:
        return bool(process.is_running() and process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
