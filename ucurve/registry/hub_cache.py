"""Cache of hub files on disk, in the hub's own layout: resumable, verified, under a cap.

    models--EleutherAI--pythia-70m/
        blobs/SHA                     a file by the hash from the hub; SHA.partial while incomplete
        snapshots/COMMIT/config.json  -> ../../blobs/SHA
        refs/step1000                 the commit of a branch

Downloads are our own because huggingface_hub 2 restarts a file after an interruption. A cache
written by another tool works.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ucurve.disk_space import is_disk_full
from ucurve.formatting import file_size
from ucurve.registry.artifacts import CHUNK, Progress
from ucurve.registry.tensors.stored_tensor import RegistrationError
from ucurve.registry.tensors.weights_layout import weights_layout

MAX_EMPTY_TRIES = 5  # consecutive tries without a byte
IN_USE_SECONDS = 600.0  # a snapshot used less long ago is not evicted


class HubError(RuntimeError):
    """The hub refuses a request; the message says why and what to do."""


class NoSpaceError(HubError):
    """The disk of the cache is full; try again when it has space."""

    errno = errno.ENOSPC


class HubUnreachableError(HubError):
    """The hub does not answer; try again later."""


@dataclass(frozen=True)
class RemoteFile:
    """Metadata of a file on the hub."""

    name: str
    url: str
    size: int
    blob: str  # name of its blob: SHA-256 of the bytes (large files) or git's SHA-1 (small ones)
    sha256: str | None  # None for small files


def repository_folder(cache: Path, repository: str, kind: str = "models") -> Path:
    """Return the folder of a repository in the cache."""
    return cache / f"{kind}--{repository.replace('/', '--')}"


def is_complete(folder: Path) -> bool:
    """Return whether a snapshot has a config and every shard of the weights."""
    if not (folder / "config.json").is_file():
        return False
    names = [name for name in os.listdir(folder) if (folder / name).is_file()]
    try:
        return bool(weights_layout(names, lambda name: (folder / name).read_bytes()).weights)
    except RegistrationError:
        return False


def fetch(
    file: RemoteFile, repository: Path, commit: str, headers: dict[str, str], progress: Progress
) -> Path:
    """Return the file in its snapshot; downloads what is missing and resumes partial files.

    Raises HubError.
    """
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
    """Allow one download of a blob among all workers; those that wait report its progress."""
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
    left = MAX_EMPTY_TRIES
    with partial.open("ab") as out, httpx.Client(follow_redirects=True, timeout=30.0) as client:
        while (start := out.tell()) < file.size:
            try:
                _append(client, file, headers, out.fileno(), start, progress)
            except NoSpaceError:
                partial.unlink()  # others may need the space
                raise
            except (httpx.TransportError, _BusyError) as error:
                out.seek(0, os.SEEK_END)
                left = MAX_EMPTY_TRIES if out.tell() > start else left - 1
                if left == 0:
                    raise HubUnreachableError(
                        f"{file.name} stopped at {start:,} of {file.size:,} bytes: {error}"
                    ) from error
                time.sleep(min(2.0 ** (MAX_EMPTY_TRIES - left), 10.0) / 4)
            out.seek(0, os.SEEK_END)
        os.fsync(out.fileno())
    digest = _digest(partial, file)
    if digest != file.blob:
        partial.unlink()
        raise HubError(
            f"{file.name} arrived damaged (hash {digest[:12]}, expected {file.blob[:12]}); "
            "the next try downloads it again"
        )
    partial.replace(blob)


class _BusyError(Exception):
    """The hub is overloaded: 429 or 5xx."""


def _append(
    client: httpx.Client,
    file: RemoteFile,
    headers: dict[str, str],
    descriptor: int,
    offset: int,
    progress: Progress,
) -> None:
    """Append the bytes from `offset` on to the open file."""
    ranged = {**headers, "Accept-Encoding": "identity", "Range": f"bytes={offset}-"}
    with client.stream("GET", file.url, headers=ranged) as response:
        if response.status_code == 429 or response.status_code >= 500:
            raise _BusyError(f"the hub answered {response.status_code}")
        if response.status_code not in (200, 206):
            raise HubError(f"the hub answered {response.status_code} for {file.name}")
        if response.status_code == 200 and offset:  # the server does not support ranges
            os.ftruncate(descriptor, 0)
            offset = 0
        for chunk in response.iter_raw():
            try:
                _write(descriptor, chunk)
            except OSError as error:
                kind = NoSpaceError if is_disk_full(error) else HubError
                raise kind(f"cannot write {file.name}: {error.strerror}") from error
            offset += len(chunk)
            if offset > file.size:
                os.ftruncate(descriptor, 0)
                raise HubError(f"the hub sent more than the {file.size:,} bytes of {file.name}")
            progress(offset, file.size)


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _digest(path: Path, file: RemoteFile) -> str:
    """Return the hash that names the blob: SHA-256, or git's SHA-1 over a header and the bytes."""
    digest = (
        hashlib.sha256()
        if file.sha256
        else hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    )
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def evict(cache: Path, needed: int, cap: float | None) -> None:
    """Evict the least recently used weights until `needed` more bytes fit under `cap` bytes.

    Configs and tokenizers stay. Raises HubError when the bytes do not fit.
    """
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise NoSpaceError(
            f"the download needs {file_size(needed)} and {cache} has {file_size(free)} free"
        )
    if cap is None:
        return
    if needed > cap:
        raise HubError(
            f"the download needs {file_size(needed)}, more than UCURVE_HUB_CACHE_GB allows in "
            f"total ({file_size(cap)}): raise it"
        )
    idle = time.time() - IN_USE_SECONDS
    for snapshot in sorted(cache.glob("*/snapshots/*"), key=lambda folder: folder.stat().st_mtime):
        if size_of(cache) + needed <= cap:
            return
        if snapshot.stat().st_mtime < idle:
            _remove_weights(snapshot)
    if size_of(cache) + needed > cap:
        raise HubError(
            f"the download needs {file_size(needed)}, {file_size(size_of(cache))} of the hub "
            f"cache are in use, and UCURVE_HUB_CACHE_GB allows {file_size(cap)}: raise it, or "
            "wait until the running experiments end"
        )


def size_of(cache: Path) -> int:
    """Return the bytes of all blobs, partial ones included."""
    return sum(blob.stat().st_size for blob in cache.glob("*/blobs/*") if blob.is_file())


def _remove_weights(snapshot: Path) -> None:
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
        if time.time() - blob.stat().st_mtime > IN_USE_SECONDS:
            blob.unlink(missing_ok=True)
