"""Hash what a location names, wherever it is: in a local folder or on the hub."""

from __future__ import annotations

from collections.abc import Iterable

from ucurve.registry import artifacts, hashing, hub
from ucurve.registry.artifacts import LocationError, Progress, no_progress
from ucurve.registry.hashing import Contents
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.settings import settings

INLINE_BYTES = 50_000_000  # hashed within a request; more is hashed in the background


def resolve_checkpoint(
    checkpoint: Checkpoint,
    progress: Progress = no_progress,
    contents: Contents | None = None,
) -> Checkpoint:
    """Return the checkpoint with its hashes, or with the reason why it has none.

    contents: receives the content of the weights by their SHA-256. Raises HubUnreachableError.
    """
    if checkpoint.location.scheme == "hub":
        return hub.resolve(checkpoint, settings().artefacts / "hub", progress, contents)
    try:
        folder = artifacts.folder_of(checkpoint.location)
    except LocationError as error:
        return checkpoint.model_copy(update={"unresolved": hashing.unusable(error)})
    return hashing.resolve(checkpoint, folder, progress, contents)


def resolve_dataset(dataset: Dataset, progress: Progress = no_progress) -> Dataset:
    """Return the text or the examples with their hash, or with the reason why they have none."""
    assert dataset.location, "a dataset of files has a location"
    try:
        path = artifacts.folder_of(dataset.location)
    except LocationError as error:
        return dataset.model_copy(update={"unresolved": hashing.unusable(error)})
    resolve = hashing.resolve_examples if dataset.kind == "examples" else hashing.resolve_text
    return resolve(dataset, path, progress)


def resolve_small(
    checkpoints: Iterable[Checkpoint], contents: Contents | None = None
) -> list[Checkpoint]:
    """Return the checkpoints, those resolved that are local and fit into INLINE_BYTES together.

    A small suite can so be used at once; the rest is hashed in the background.
    """
    remaining = INLINE_BYTES
    resolved = []
    for checkpoint in checkpoints:
        if checkpoint.location.scheme != "hub":
            size = _folder_bytes(checkpoint)
            if size <= remaining:
                remaining -= size
                checkpoint = resolve_checkpoint(checkpoint, contents=contents)
        resolved.append(checkpoint)
    return resolved


def _folder_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of a checkpoint's files; 0 where they cannot be read, which is said soon."""
    try:
        folder = artifacts.folder_of(checkpoint.location)
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    except (OSError, LocationError):
        return 0
