"""The data folder of an embedded lab: who holds it, where its sockets are, whom its database runs as."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import re
import stat
import time
from pathlib import Path
from typing import IO

from ucurve.lab.processes import User

MAX_SOCKET_PATH = (
    100  # bytes; the kernel allows 107 (103 on macOS) and Postgres adds a lock file beside
)


class EmbeddedError(RuntimeError):
    """The engines cannot run here; the message says why and what to do."""


class InUseError(EmbeddedError):
    """Another process holds the data folder."""


def locked(data: Path) -> IO[str]:
    """The data folder's lock file, locked until it is closed or this process ends."""
    lock = (data / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        lock.close()
        raise InUseError(
            f"{data} is in use by {holder}: stop that one first (Ctrl-C in its terminal, or kill it), "
            "or start another lab with --data OTHER_FOLDER"
        ) from None
    lock.truncate(0)
    name = pwd.getpwuid(os.getuid()).pw_name if _known(os.getuid()) else os.getuid()
    lock.write(
        f"process {os.getpid()} of {name} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    )
    lock.flush()
    return lock


def socket_folder(data: Path) -> Path:
    """A 0700 folder for sockets: DATA/run, or elsewhere when that path is too long or would need quoting in a URL."""
    folder = data / "run"
    long = len(os.fsencode(folder / ".s.PGSQL.5432.lock")) > MAX_SOCKET_PATH
    if long or re.search(r"[^\w/.-]", str(folder), re.ASCII):
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        base = Path(
            runtime if runtime and len(runtime) < 50 and os.access(runtime, os.W_OK) else "/tmp"
        )
        folder = base / f"ucurve-{os.getuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    allowed = {os.getuid()} | ({user.uid} if (user := unprivileged_user()) else set())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in allowed:
        raise EmbeddedError(
            f"{folder} belongs to somebody else: remove it, or choose another folder with --data"
        )
    folder.chmod(0o700)
    return folder


def own(folder: Path, user: User | None) -> None:
    """Give a cluster to the user Postgres will run as: a lab may be started as root today and as a person tomorrow."""
    wanted = user.uid if user else os.getuid()
    if folder.stat().st_uid == wanted:
        return
    if user is None:
        raise EmbeddedError(
            f"{folder} belongs to another user (was it started as root before?): as root, "
            f"run `chown -R {os.getuid()} {folder.parent}`, or choose another folder with --data"
        )
    for root, folders, files in os.walk(folder):
        for path in (root, *(os.path.join(root, name) for name in folders + files)):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)


def unprivileged_user() -> User | None:
    """Whom Postgres runs as when we are root, because it refuses root; None when we are not."""
    if os.getuid() != 0:
        return None
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return User("nobody", 65534, 65534)


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
