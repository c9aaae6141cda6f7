"""Models on the Hugging Face hub: list revisions, hash files from metadata, download. Never runs a
repository's code.

    revisions("EleutherAI/pythia-70m", cache)            # {"step0": "9f...", ...}: refs that exist
    resolve(checkpoint, cache)                           # hashes from metadata, without the weights
    download(checkpoint.location, artefacts, progress)   # folder of config, tokenizer and weights

HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE have their usual meaning. UCURVE_HUB_CACHE_GB caps the
cache on disk. Calls the hub's REST API directly, so that the service needs no hub library.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from ucurve.registry import hashing
from ucurve.registry.artifacts import Progress, file_sha256, folder_of, no_progress
from ucurve.registry.checkpoint_files import usable_layout
from ucurve.registry.hashing import Contents, part_of, unusable
from ucurve.registry.hub_cache import (
    HubError,
    HubUnreachableError,
    RemoteFile,
    evict,
    fetch,
    is_complete,
    repository_folder,
)
from ucurve.registry.remote_tensors import remote_tensors
from ucurve.registry.roots import open_regular
from ucurve.registry.suites import Checkpoint, Location, combined_sha256
from ucurve.registry.tensors.config_words import context_length
from ucurve.registry.tensors.model_files import (
    RegistrationError,
    compare_sizes,
    count_parameters,
    parameters_of_size,
    read_config,
)
from ucurve.registry.tensors.stored_tensor import Tensor
from ucurve.registry.tensors.weights_content import WeightsContent
from ucurve.registry.tensors.weights_layout import Layout, merged
from ucurve.registry.tensors.wrapped_names import expect_plain_names, expect_whole
from ucurve.registry.tokenizer_files import (
    beyond_model,
    described_tokenizer,
    missing_tokenizer,
    tokenizer_names,
)
from ucurve.settings import settings


def endpoint() -> str:
    """Return the URL of the hub."""
    return settings().hf_endpoint.rstrip("/")


def revisions(repository: str, cache: Path) -> dict[str, str]:
    """Return the commit of every branch and tag by name.

    Falls back to the refs in the local cache when the hub cannot be reached. Raises HubError.
    """
    _expect_name(repository)
    try:
        refs = _request(repository, f"/api/models/{repository}/refs")
        return {
            ref["name"]: _hexadecimal(ref["targetCommit"])
            for ref in (*refs["tags"], *refs["branches"])
        }
    except HubUnreachableError:
        folder = repository_folder(cache, repository) / "refs"
        cached = {
            str(ref.relative_to(folder)): ref.read_text().strip()
            for ref in folder.rglob("*")
            if ref.is_file()
        }
        if not cached:
            raise
        return cached


def resolve(
    checkpoint: Checkpoint,
    cache: Path,
    progress: Progress = no_progress,
    contents: Contents | None = None,
) -> Checkpoint:
    """Return the checkpoint with the hashes of its files, or with the reason why there are none.

    Weights: their SHA-256 from the hub's metadata. Config and tokenizer: downloaded, they are
        small. A cached snapshot is hashed instead. Raises HubUnreachableError: try again later.
    contents: receives the content of the weights, which is that of files before the download.
    """
    try:
        repository, commit = checkpoint.location.path, commit_of(checkpoint.location)
        snapshot = repository_folder(cache, repository) / "snapshots" / commit
        if is_complete(snapshot):
            return hashing.resolve(checkpoint, snapshot, progress, contents)
        hashes = _remote_hashes(repository, commit, cache, {} if contents is None else contents)
    except HubUnreachableError:
        raise
    except (HubError, RegistrationError) as error:
        return checkpoint.model_copy(update={"unresolved": unusable(error)})
    return checkpoint.model_copy(update={**hashes, "unresolved": None})


def _remote_hashes(repository: str, commit: str, cache: Path, contents: Contents) -> dict[str, Any]:
    files = remote_files(repository, commit)
    folder = repository_folder(cache, repository)
    layout = _layout(files, folder, commit)
    weights = layout.weights
    small = ("config.json", *tokenizer_names(files))
    local = [*small, *(name for name in weights if files[name].sha256 is None)]
    evict(cache, sum(files[name].size for name in local), cap_bytes())
    hashes = {name: file.sha256 for name, file in files.items()}
    fetched = {}
    for name in local:
        fetched[name] = fetch(files[name], folder, commit, _headers(), no_progress)
        hashes[name] = file_sha256(fetched[name])
    with open_regular(fetched["config.json"]) as file:
        config = read_config(file)
    shards = {name: remote_tensors(files[name], _headers()) for name in weights}
    tensors = merged(shards, layout.placed if all(shards.values()) else None)
    expect_plain_names(tensors)
    expect_whole(tensors)
    compare_sizes(config, tensors, sum(files[name].size for name in weights))
    known = {name: hashes[name] or "" for name in weights}
    weights_sha256 = combined_sha256(known)
    contents[weights_sha256] = WeightsContent(files=known)
    tokenizer = described_tokenizer(
        {name: fetched[name].read_bytes() for name in small[1:]}, missing_tokenizer(files)
    )
    return {
        "weights_sha256": weights_sha256,
        "config_sha256": hashes["config.json"],
        "tokenizer_sha256": tokenizer.sha256,
        "tokenizer_content": tokenizer.content,
        "num_parameters": sum(map(count_parameters, shards.values()))
        or parameters_of_size(config, sum(files[name].size for name in weights)),
        "context": context_length(config),
        "size_bytes": sum(files[name].size for name in (*small, *weights)),
        "remarks": [
            *layout.remarks,
            *tokenizer.remarks,
            *beyond_model(tokenizer.highest, config),
        ],
    }


def described(
    repository: str, commit: str, cache: Path
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config of a commit and the tensors of its files of weights, without these.

    Raises HubError, RegistrationError.
    """
    files = remote_files(repository, commit)
    folder = repository_folder(cache, repository)
    layout = _layout(files, folder, commit)
    with open_regular(fetch(files["config.json"], folder, commit, _headers(), no_progress)) as file:
        config = read_config(file)
    shards = {name: remote_tensors(files[name], _headers()) for name in layout.weights}
    return config, merged(shards, layout.placed if all(shards.values()) else None)


def _layout(files: Mapping[str, RemoteFile], folder: Path, commit: str) -> Layout:
    """Return the files with the weights; an index of shards is downloaded, it is small."""
    names = [name for name in files if "/" not in name]

    def read(name: str) -> bytes:
        return fetch(files[name], folder, commit, _headers(), no_progress).read_bytes()

    return usable_layout(names, read, "the revision")


def remote_files(repository: str, commit: str, kind: str = "model") -> dict[str, RemoteFile]:
    """Return every file of a commit by name, from the hub's metadata. Raises HubError.

    kind: "model" or "dataset".
    """
    info = _request(repository, f"/api/{kind}s/{repository}/revision/{commit}?blobs=true")
    root = f"{endpoint()}/{'' if kind == 'model' else f'{kind}s/'}{repository}/resolve/{commit}"
    return {file["rfilename"]: _remote_file(file, root) for file in info["siblings"]}


def _remote_file(file: dict[str, Any], root: str) -> RemoteFile:
    name, lfs = file["rfilename"], file.get("lfs")
    blob = _hexadecimal(lfs["sha256"] if lfs else file["blobId"])
    return RemoteFile(
        name, f"{root}/{name}", size=file["size"], blob=blob, sha256=blob if lfs else None
    )


def commit_of(location: Location) -> str:
    """Return the commit of a location on the hub, safe as a folder name. Raises HubError."""
    assert location.commit, "a hub location is registered with its commit"
    _expect_name(location.path)
    return _hexadecimal(location.commit)


def _expect_name(repository: str) -> None:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        raise HubError(f'{repository!r} is not a repository name; expected "owner/name"')


def _hexadecimal(digest: str) -> str:
    """Return a hash from the hub once it is safe as a file name."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", digest):
        raise HubError(f"{digest!r} is not a hash of {endpoint()}")
    return digest


def local_copy(
    location: Location, artefacts: Path | None = None, progress: Progress = no_progress
) -> Path:
    """Return the local folder or file of a location; a model on the hub is downloaded.

    Raises HubError, and LocationError for a path outside its root.
    """
    if location.scheme == "hub":
        assert artefacts, "a download needs the artefact root"
        return download(location, artefacts, progress)
    return folder_of(location, artefacts)


def download(location: Location, artefacts: Path, progress: Progress = no_progress) -> Path:
    """Return the folder with a model's config, tokenizer and weights (safetensors, else pickles),
    never code.

    `progress(bytes done, total bytes)` may raise to stop; the next call resumes. A cached snapshot
    needs no network. Raises HubError.
    """
    cache = artefacts / "hub"
    folder = repository_folder(cache, location.path)
    snapshot = folder / "snapshots" / commit_of(location)
    assert location.commit
    if not is_complete(snapshot):
        files = remote_files(location.path, location.commit)
        try:
            layout = _layout(files, folder, location.commit)
        except RegistrationError as error:
            raise HubError(f"{location.path}@{location.commit[:12]}: {error}") from error
        # weights last: they complete the snapshot
        names = ("config.json", *tokenizer_names(files), *layout.weights)
        selected = [files[name] for name in names]
        fetch_all(selected, folder, location.commit, progress)
    os.utime(snapshot)  # the order of eviction
    return snapshot


def fetch_all(
    files: Sequence[RemoteFile], repository: Path, commit: str, progress: Progress
) -> list[Path]:
    """Download files into their snapshot, under the cap of the cache, with progress over all of
    them.
    """
    missing = [file for file in files if not (repository / "blobs" / file.blob).exists()]
    evict(repository.parent, sum(file.size for file in missing), cap_bytes())
    total, before = sum(file.size for file in files), 0
    paths = []
    for file in files:
        paths.append(fetch(file, repository, commit, _headers(), part_of(progress, before, total)))
        before += file.size
    return paths


def cap_bytes() -> float | None:
    """Return UCURVE_HUB_CACHE_GB in bytes; None when it is not set."""
    cap = settings().hub_cache_gb
    return None if cap is None else cap * 1e9


def _headers() -> dict[str, str]:
    saved = settings().hf_home / "token"  # written by `hf auth login`
    token = settings().hf_token or (saved.read_text().strip() if saved.is_file() else "")
    return {"User-Agent": "ucurve"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _request(repository: str, path: str) -> Any:
    """Return the hub's JSON answer. Raises HubError."""
    if settings().hf_hub_offline:
        raise HubUnreachableError("HF_HUB_OFFLINE is set, and this is not in the local cache")
    try:
        response = httpx.get(
            f"{endpoint()}{path}", headers=_headers(), follow_redirects=True, timeout=30.0
        )
    except httpx.HTTPError as error:
        raise HubUnreachableError(f"{endpoint()} cannot be reached: {error}") from error
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status == 429 or status >= 500:
        raise HubUnreachableError(f"{endpoint()} answered {status} for {repository}")
    if code == "GatedRepo":
        raise HubError(f"{repository} is gated: accept its terms on the hub and set HF_TOKEN")
    if code == "RevisionNotFound":
        raise HubError(f"{repository} no longer has this commit")
    if status in (401, 404):  # without access the hub does not say which of the two
        raise HubError(
            f"{endpoint()} has no repository {repository}, or it is private: "
            "check the name or set HF_TOKEN"
        )
    if status != 200:
        raise HubError(f"{endpoint()} answered {status} for {repository}")
    return response.json()
