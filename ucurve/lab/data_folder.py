"""The data folder of an embedded lab: its lock, its socket folder, the owner of its files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from ucurve.lab.processes import User

# In bytes: the kernel allows 107 (103 on macOS), and Postgres adds a lock file next to the socket.
MAX_SOCKET_PATH = 100


class EmbeddedError(RuntimeError):
    """The lab cannot run on this machine; the message says why and what to do."""


class InUseError(EmbeddedError):
    """The data folder is in use by another process."""


def lock_folder(data: Path) -> IO[str]:
    """Lock the data folder and return its lock file; closing it, or the process's end, unlocks.

    Raises InUseError naming the process that holds the lock.
    """
    lock = (data / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise InUseError(
            f"{data} is in use by {holder}: stop that lab first (Ctrl-C in its terminal, or kill "
            "the process), or use another folder with --data"
        ) from None
    lock.truncate(0)
    name = pwd.getpwuid(os.getuid()).pw_name if _known(os.getuid()) else os.getuid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError):  # on a full disk the lock holds without the name of its holder
        os.write(
            lock.fileno(),
            f"process {os.getpid()} of {name} on {platform.node()}, since {since}\n".encode(),
        )
    return lock


def socket_folder(data: Path) -> Path:
    """Return a private (0700) folder for sockets.

    It is DATA/run, or a temporary folder where that path is too long or needs quoting in a URL.
    """
    folder = data / "run"
    long = len(os.fsencode(folder / ".s.PGSQL.5432.lock")) > MAX_SOCKET_PATH
    if long or re.search(r"[^\w/.-]", str(folder), re.ASCII):
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(
            runtime if runtime and len(runtime) < 50 and os.access(runtime, os.W_OK) else "/tmp"
        )
        folder = base / f"ucurve-{os.getuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    allowed = {os.getuid()} | ({user.uid} if (user := unprivileged_user()) else set())
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in allowed:
        raise EmbeddedError(
            f"{folder} belongs to another user: remove it, or use another folder with --data"
        )
    folder.chmod(0o700)
    return folder


def chown_to(user: User | None, folder: Path) -> None:
    """Give a database cluster to the user that Postgres runs as.

    user: None for the current one. A lab may be started as root once and as a normal user later.
    """
    uid = user.uid if user else os.getuid()
    if folder.stat().st_uid == uid:
        return
    if user is None:
        raise EmbeddedError(
            f"{folder} belongs to another user (was it started as root before?): as root, "
            f"run `chown -R {os.getuid()} {folder.parent}`, or use another folder with --data"
        )
    for root, folders, files in os.walk(folder):
        for path in (root, *(os.path.join(root, name) for name in folders + files)):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def unprivileged_user() -> User | None:
    """Return the user that Postgres runs as when we are root (it refuses root), else None."""
    if os.getuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return User("nobody", 65534, 65534)


def reaches(user: User, *paths: Path) -> bool:
    """Return whether a user may enter every folder on the way to these paths."""
    return all(_may_enter(user, folder) for path in paths for folder in path.resolve().parents)


def _may_enter(user: User, folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid == user.gid else stat.S_IXOTH))


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
