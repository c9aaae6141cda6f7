"""The Hugging Face hub: which revisions a repository has, the hashes of their files, and downloads. Never a repository's code.

    revisions("EleutherAI/pythia-70m", cache)              # {"step0": "9f...", "step1": "1a...", ...}: listed, never invented
    resolve(checkpoint, cache)                             # hashes from the hub's file metadata, without the weights
    download(checkpoint.location, artefacts, progress)     # the folder of config, tokenizer and weights

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean elsewhere. UCURVE_HUB_CACHE_GB caps the cache on disk. The hub's
REST API is asked directly, so that the service needs no hub library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from ucurve.registry import hashing
from ucurve.registry.example_files import SPLITS
from ucurve.registry.hashing import RegistrationError, quiet
from ucurve.registry.hub_cache import (
    HubError,
    HubUnreachableError,
    Progress,
    RemoteFile,
    fetch,
    make_room,
    repository_folder,
    whole_snapshot,
)
from ucurve.registry.suites import (
    Checkpoint,
    Dataset,
    Location,
    combined_sha256,
    weights_files,
)
from ucurve.settings import settings

SMALL = ("config.json", "tokenizer.json")
LONGEST_HEADER = 25_000_000  # bytes; the hub's own limit for a safetensors header


def endpoint() -> str:
    """The hub in use."""
    return settings().hf_endpoint.rstrip("/")


def revisions(repository: str, cache: Path) -> dict[str, str]:
    """Commit of every branch and tag; without an answer from the hub, of those in the local cache. Raises HubError."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        raise HubError(f'{repository!r} is no repository name like "owner/name"')
    try:
        refs = _ask(repository, f"/api/models/{repository}/refs")
        return {
            ref["name"]: _hexadecimal(ref["targetCommit"])
            for ref in (*refs["tags"], *refs["branches"])
        }
    except HubUnreachableError:
        folder = repository_folder(cache, repository) / "refs"
        known = {
            str(ref.relative_to(folder)): ref.read_text().strip()
            for ref in folder.rglob("*")
            if ref.is_file()
        }
        if not known:
            raise
        return known


def resolve(checkpoint: Checkpoint, cache: Path, progress: Progress = quiet) -> Checkpoint:
    """The checkpoint with the hashes of its files, or with the reason why it has none.

    Weights: their SHA-256 from the hub's metadata. Config and tokenizer: downloaded, they are small. A snapshot that is
    here already is hashed instead. Raises HubUnreachableError, upon which to try again later.
    """
    repository, commit = checkpoint.location.path, checkpoint.location.commit
    assert commit, "a hub location is registered with its commit"
    snapshot = repository_folder(cache, repository) / "snapshots" / commit
    if whole_snapshot(snapshot):
        return hashing.resolve(checkpoint, snapshot, progress)
    try:
        found = _remote_hashes(repository, commit, cache)
    except HubUnreachableError:
        raise
    except (HubError, RegistrationError) as error:
        return checkpoint.model_copy(update={"unresolved": f"not plannable: {error}"})
    return checkpoint.model_copy(update={**found, "unresolved": None})


def _remote_hashes(repository: str, commit: str, cache: Path) -> dict[str, Any]:
    files = remote_files(repository, commit)
    if "config.json" not in files:
        raise RegistrationError("the revision has no config.json")
    weights = weights_files(files)
    if not weights:
        raise RegistrationError("the revision has no model.safetensors or pytorch_model.bin")
    hashing.expect_all_shards(weights)
    folder = repository_folder(cache, repository)
    local = [
        name
        for name in (*SMALL, *weights)
        if name in files and (name in SMALL or files[name].sha256 is None)
    ]
    make_room(cache, sum(files[name].size for name in local), cap_bytes())
    hashes = {name: file.sha256 for name, file in files.items()}
    fetched = {}
    for name in local:
        fetched[name] = fetch(files[name], folder, commit, _headers(), quiet)
        hashes[name] = hashing.file_sha256(fetched[name])
    parameters = [
        _stored_parameters(files[name]) for name in weights if name.endswith(".safetensors")
    ]
    return {
        "weights_sha256": combined_sha256({name: hashes[name] or "" for name in weights}),
        "config_sha256": hashes["config.json"],
        "tokenizer_sha256": hashes.get("tokenizer.json"),
        "num_parameters": sum(parameters) or None,
        "context": hashing.context_of(fetched["config.json"]),
        "size_bytes": sum(files[name].size for name in (*SMALL, *weights) if name in files),
    }


def remote_files(repository: str, commit: str, kind: str = "model") -> dict[str, RemoteFile]:
    """Every file of a commit, as the hub describes it. Raises HubError."""
    info = _ask(repository, f"/api/{kind}s/{repository}/revision/{commit}?blobs=true")
    root = f"{endpoint()}/{'' if kind == 'model' else f'{kind}s/'}{repository}/resolve/{commit}"
    return {file["rfilename"]: _remote_file(file, root) for file in info["siblings"]}


def _remote_file(file: dict[str, Any], root: str) -> RemoteFile:
    name, lfs = file["rfilename"], file.get("lfs")
    blob = _hexadecimal(lfs["sha256"] if lfs else file["blobId"])
    return RemoteFile(
        name, f"{root}/{name}", size=file["size"], blob=blob, sha256=blob if lfs else None
    )


def _hexadecimal(answer: str) -> str:
    """A hash from the hub, fit to be a file's name here."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", answer):
        raise HubError(f"{endpoint()} answered {answer!r} where a hash belongs")
    return answer


def _stored_parameters(file: RemoteFile) -> int:
    """Number of parameters, from the first bytes of a remote safetensors file."""
    data = b""
    try:
        with httpx.stream(
            "GET", file.url, headers=_headers(), follow_redirects=True, timeout=30.0
        ) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_raw(1 << 16):
                data += chunk
                length = int.from_bytes(data[:8], "little")
                if length > LONGEST_HEADER:
                    raise RegistrationError(f"{file.name} is no safetensors file")
                if len(data) >= 8 + length:
                    return hashing.count_parameters(hashing.parse_header(data[8 : 8 + length]))
    except httpx.HTTPError as error:
        raise HubUnreachableError(f"{file.name}: {error}") from error
    raise RegistrationError(f"{file.name} ends before its header does")


def download(location: Location, artefacts: Path, progress: Progress = quiet) -> Path:
    """The folder with a model's config, tokenizer and weights (safetensors, else pickles); never code.

    `progress(bytes done, bytes in all)` may raise to stop; the next call goes on from there. What is here already needs no network.
    Raises HubError.
    """
    assert location.commit, "a hub location is registered with its commit"
    cache = artefacts / "hub"
    folder = repository_folder(cache, location.path)
    snapshot = folder / "snapshots" / location.commit
    if not whole_snapshot(snapshot):
        files = remote_files(location.path, location.commit)
        weights = weights_files(files)
        if not weights or "config.json" not in files:
            raise HubError(
                f"{location.path}@{location.commit[:12]} has no config.json with model.safetensors or pytorch_model.bin"
            )
        wanted = [
            files[name] for name in (*SMALL, *weights) if name in files
        ]  # weights last: they make the snapshot whole
        _fetch_all(wanted, folder, location.commit, progress)
    os.utime(snapshot)  # the order of eviction
    return snapshot


def _fetch_all(
    files: Sequence[RemoteFile], repository: Path, commit: str, progress: Progress
) -> list[Path]:
    missing = [file for file in files if not (repository / "blobs" / file.blob).exists()]
    make_room(repository.parent, sum(file.size for file in missing), cap_bytes())
    total, before = sum(file.size for file in files), 0
    found = []
    for file in files:
        found.append(fetch(file, repository, commit, _headers(), _part_of(progress, before, total)))
        before += file.size
    return found


def _part_of(progress: Progress, before: float, total: float) -> Progress:
    return lambda done, _: progress(before + done, total)


def text(dataset: Dataset, artefacts: Path, progress: Progress = quiet) -> Path:
    """The text of a hub dataset as one file, rebuilt from its rows byte for byte and checked by its hash.

    WikiText's rows are the lines of the raw file, except that the hub stores a line " \\n" as an empty row. Raises HubError.
    """
    assert dataset.location, "a text has a location"
    assert dataset.location.commit, "a hub location is registered with its commit"
    target = artefacts / "texts" / f"{dataset.name}-{(dataset.sha256 or 'unchecked')[:16]}.txt"
    if target.is_file():
        return target
    table = _table(dataset, str(dataset.parameters["rows"]), artefacts, progress)
    data = rebuilt(_column(table, "text")).encode()
    found = hashing.bytes_sha256(data)
    if dataset.sha256 and found != dataset.sha256:
        raise HubError(
            f"{dataset.name} rebuilt from the hub has sha256 {found[:12]}... instead of {dataset.sha256[:12]}..."
        )
    hashing.write_whole(target, data)
    return target


def examples(dataset: Dataset, artefacts: Path, progress: Progress = quiet) -> dict[str, Path]:
    """The files of a hub set of examples by split, rebuilt as TSV from its rows and checked by their hash. Raises HubError."""
    folder = artefacts / "texts" / f"{dataset.name}-{(dataset.sha256 or 'unchecked')[:16]}"
    targets = {split: folder / f"{split}.tsv" for split in SPLITS}
    if not all(target.is_file() for target in targets.values()):
        data = {
            split: _tsv(
                _table(dataset, str(dataset.parameters[split]), artefacts, progress), dataset
            )
            for split in SPLITS
        }
        found = combined_sha256({split: hashing.bytes_sha256(text) for split, text in data.items()})
        if dataset.sha256 and found != dataset.sha256:
            raise HubError(
                f"{dataset.name} rebuilt from the hub has sha256 {found[:12]}... instead of {dataset.sha256[:12]}..."
            )
        for split, target in targets.items():
            hashing.write_whole(target, data[split])
    return targets


def _tsv(table: Path, dataset: Dataset) -> bytes:
    columns = str(dataset.parameters["columns"]).split(",")
    rows = zip(*(_column(table, column) for column in columns), strict=True)
    return "".join("\t".join(map(str, row)) + "\n" for row in [columns, *rows]).encode()


def _table(dataset: Dataset, name: str, artefacts: Path, progress: Progress) -> Path:
    """A Parquet file of a hub dataset."""
    assert dataset.location, "a hub dataset has a location"
    assert dataset.location.commit, "a hub location is registered with its commit"
    repository, commit = dataset.location.path, dataset.location.commit
    folder = repository_folder(artefacts / "hub", repository, "datasets")
    table = folder / "snapshots" / commit / name
    if not table.is_file():
        files = remote_files(repository, commit, "dataset")
        if name not in files:
            raise HubError(f"{repository}@{commit[:12]} has no file {name}")
        table = _fetch_all([files[name]], folder, commit, progress)[0]
    return table


def _column(table: Path, name: str) -> list[Any]:
    from pyarrow import parquet

    column: list[Any] = parquet.read_table(table, columns=[name])[name].to_pylist()
    return column


def rebuilt(rows: Sequence[str]) -> str:
    """The raw text of WikiText from its rows on the hub."""
    return "".join(row or " \n" for row in rows)


def cap_bytes() -> float | None:
    """UCURVE_HUB_CACHE_GB in bytes; None without it."""
    cap = settings().hub_cache_gb
    return cap * 1e9 if cap else None


def _headers() -> dict[str, str]:
    saved = settings().hf_home / "token"  # where `hf auth login` leaves it
    token = settings().hf_token or (saved.read_text().strip() if saved.is_file() else "")
    return {"User-Agent": "ucurve"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _ask(repository: str, path: str) -> Any:
    """The hub's JSON answer. Raises HubError in plain words."""
    if settings().hf_hub_offline:
        raise HubUnreachableError(
            "the hub is switched off (HF_HUB_OFFLINE), and this is not in the local cache"
        )
    try:
        answer = httpx.get(
            f"{endpoint()}{path}", headers=_headers(), follow_redirects=True, timeout=30.0
        )
    except httpx.HTTPError as error:
        raise HubUnreachableError(f"{endpoint()} cannot be reached: {error}") from error
    status, code = answer.status_code, answer.headers.get("X-Error-Code")
    if status == 429 or status >= 500:
        raise HubUnreachableError(f"{endpoint()} answered {status} for {repository}")
    if code == "GatedRepo":
        raise HubError(f"{repository} is gated: accept its terms on the hub and set HF_TOKEN")
    if code == "RevisionNotFound":
        raise HubError(f"{repository} no longer has this commit")
    if status in (401, 404):  # the hub does not say which of the two to strangers
        raise HubError(
            f"{endpoint()} has no repository {repository}, or it is private: check the name or set HF_TOKEN"
        )
    if status != 200:
        raise HubError(f"{endpoint()} answered {status} for {repository}")
    return answer.json()
