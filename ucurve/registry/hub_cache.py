"""Files of the hub on our disk, in the hub's own cache layout: resumable, verified, under a cap.

    models--EleutherAI--pythia-70m/
        blobs/SHA                     a file's bytes under the hash that the hub gave for it; SHA.partial while it comes in
        snapshots/COMMIT/config.json  -> ../../blobs/SHA
        refs/step1000                 the commit of a branch

We fetch by ourselves: huggingface_hub 2 begins a file anew after an interruption. A cache made by it or any other tool works.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ucurve.formatting import file_size
from ucurve.registry.suites import weights_files

Progress = Callable[[float, float], object]  # bytes done, bytes in all; may raise to stop
PATIENCE = 5  # tries in a row that bring no byte
CHUNK = 1 << 20
IN_USE = 600.0  # seconds for which a snapshot that was just asked for is safe from eviction


class HubError(RuntimeError):
    """The hub does not give what was asked for; the message says why and what to do."""


class HubUnreachableError(HubError):
    """No answer now; later, perhaps."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub describes it before any download."""

    name: str
    url: str
    size: int
    blob: (
        str  # the name of its blob: SHA-256 of the bytes (large files) or git's SHA-1 (small ones)
    )
    sha256: str | None  # None for small files


def repository_folder(cache: Path, repository: str, kind: str = "models") -> Path:
    """Where the cache keeps a repository."""
    return cache / f"{kind}--{repository.replace('/', '--')}"


def whole_snapshot(folder: Path) -> bool:
    """Whether a snapshot holds a model: its config and every shard of its weights."""
    if not (folder / "config.json").is_file():
        return False
    weights = [name for name in weights_files(os.listdir(folder)) if (folder / name).is_file()]
    of = re.search(r"-of-(\d+)\.", weights[0]) if weights else None
    return bool(weights) and (of is None or len(weights) == int(of[1]))


def fetch(
    file: RemoteFile, repository: Path, commit: str, headers: dict[str, str], progress: Progress
) -> Path:
    """The file in its snapshot, downloaded unless it is there; goes on from where an earlier try stopped. Raises HubError."""
    link, blob = repository / "snapshots" / commit / file.name, repository / "blobs" / file.blob
    if not link.exists():
        if not blob.exists():
            with _locked(blob, file.size, progress):
                if not blob.exists():
                    _download(file, blob, headers, progress)
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = link.with_name(f".{link.name}.{os.getpid()}.{time.monotonic_ns()}")
        temporary.symlink_to(os.path.relpath(blob, link.parent))
        temporary.replace(link)
    progress(file.size, file.size)
    return link


@contextmanager
def _locked(blob: Path, size: int, progress: Progress) -> Iterator[None]:
    """One downloader per blob among all workers; whoever waits shows the other's progress."""
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob.with_name(f"{blob.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                partial = _partial(blob)
                progress(partial.stat().st_size if partial.exists() else 0, size)
                time.sleep(0.5)
        yield


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.partial")


def _download(file: RemoteFile, blob: Path, headers: dict[str, str], progress: Progress) -> None:
    partial = _partial(blob)
    left = PATIENCE
    with partial.open("ab") as out, httpx.Client(follow_redirects=True, timeout=30.0) as client:
        while (begun := out.tell()) < file.size:
            try:
                _append(client, file, headers, out.fileno(), begun, progress)
            except (httpx.TransportError, _BusyError) as error:
                out.seek(0, os.SEEK_END)
                left = PATIENCE if out.tell() > begun else left - 1
                if left == 0:
                    raise HubUnreachableError(
                        f"{file.name} stopped at {begun:,} of {file.size:,} bytes: {error}"
                    ) from error
                time.sleep(min(2.0 ** (PATIENCE - left), 10.0) / 4)
            out.seek(0, os.SEEK_END)
        os.fsync(out.fileno())
    found = _digest(partial, file)
    if found != file.blob:
        partial.unlink()
        raise HubError(
            f"{file.name} arrived damaged (hash {found[:12]} instead of {file.blob[:12]}); it is fetched anew next time"
        )
    partial.replace(blob)


class _BusyError(Exception):
    """The hub asks to come back later."""


def _append(
    client: httpx.Client,
    file: RemoteFile,
    headers: dict[str, str],
    descriptor: int,
    begun: int,
    progress: Progress,
) -> None:
    ask = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={begun}-"}
    with client.stream("GET", file.url, headers=ask) as answer:
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _BusyError(f"the hub answered {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise HubError(f"the hub answered {answer.status_code} for {file.name}")
        if answer.status_code == 200 and begun:  # the server does not know ranges
            os.ftruncate(descriptor, 0)
            begun = 0
        for chunk in answer.iter_raw():
            try:
                _write(descriptor, chunk)
            except OSError as error:
                raise HubError(f"cannot write {file.name}: {error.strerror}") from error
            begun += len(chunk)
            if begun > file.size:
                os.ftruncate(descriptor, 0)
                raise HubError(f"the hub sent more than the {file.size:,} bytes of {file.name}")
            progress(begun, file.size)


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _digest(path: Path, file: RemoteFile) -> str:
    """The hash by which the hub names the blob: SHA-256, or git's SHA-1 over a header and the bytes."""
    digest = (
        hashlib.sha256()
        if file.sha256
        else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    )
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def make_room(cache: Path, needed: int, cap: float | None) -> None:
    """Let `needed` more bytes fit under `cap` bytes, evicting the models that were asked for longest ago.

    Configs and tokenizers stay. Raises HubError when it cannot be done: with the numbers and the remedy.
    """
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise HubError(
            f"the download needs {file_size(needed)} and {cache} has {file_size(free)} free"
        )
    if cap is None:
        return
    if needed > cap:
        raise HubError(
            f"the download needs {file_size(needed)}, more than UCURVE_HUB_CACHE_GB allows in all ({file_size(cap)}): raise it"
        )
    idle = time.time() - IN_USE
    for snapshot in sorted(cache.glob("*/snapshots/*"), key=lambda folder: folder.stat().st_mtime):
        if size_of(cache) + needed <= cap:
            return
        if snapshot.stat().st_mtime < idle:
            _evict(snapshot)
    if size_of(cache) + needed > cap:
        raise HubError(
            f"the download needs {file_size(needed)}, {file_size(size_of(cache))} of the hub cache are in use, and UCURVE_HUB_CACHE_GB "
            f"allows {file_size(cap)}: raise it, or let the running experiments end first"
        )


def size_of(cache: Path) -> int:
    """Bytes of all blobs, partial ones included."""
    return sum(blob.stat().st_size for blob in cache.glob("*/blobs/*") if blob.is_file())


def _evict(snapshot: Path) -> None:
    """Remove the snapshot's weights, and their blobs unless another snapshot links them."""
    blobs = snapshot.parent.parent / "blobs"
    for link in snapshot.iterdir():
        if link.suffix in (".safetensors", ".bin", ".parquet") and link.is_symlink():
            link.unlink()
    linked = {
        os.path.basename(os.readlink(link))
        for link in snapshot.parent.rglob("*")
        if link.is_symlink()
    }
    for blob in blobs.iterdir():
        if blob.suffix == ".lock" or blob.name.split(".")[0] in linked:
            continue
        if time.time() - blob.stat().st_mtime > IN_USE:
            blob.unlink(missing_ok=True)
