"""Checkpoints that another lab describes: tried like registered ones where their files are here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ucurve.registry import hub
from ucurve.registry.artifacts import LocationError, cached_sha256, folder_of
from ucurve.registry.hub_cache import HubError, is_complete, repository_folder
from ucurve.registry.structure import structure_sha256
from ucurve.registry.suites import TRYING, UNTRIED, Checkpoint, Location, enumerated
from ucurve.settings import settings

MAX_REMARKS = 100  # of a checkpoint
READ_HERE = ("structure", "architecture", "initializer_std", "layout_sha256")


def read_again(checkpoint: Checkpoint, origin: str) -> Checkpoint:
    """Return a checkpoint of another lab with what its files are here, or that they are not.

    Its worker's trial does not count: this lab has other files and libraries. Reads files: outside
    of transactions.
    """
    changes = dict.fromkeys(READ_HERE)
    waits = (checkpoint.unresolved or "").startswith(TRYING)  # for a worker of the other lab
    unresolved = None if waits else checkpoint.unresolved
    checkpoint = checkpoint.model_copy(update={**changes, "unresolved": unresolved})
    if unresolved or checkpoint.location.scheme == "builtin":
        return checkpoint
    missing = _missing(checkpoint)
    structure = None if missing else structure_sha256(checkpoint)
    if structure is None:
        missing = missing or "their files cannot be read here"
        remark = (
            f"imported from {origin}, and not tried: {missing}. Finished points are reused, new "
            f"ones would fail. To measure more, {UNTRIED}"
        )
        return checkpoint.model_copy(
            update={"remarks": [*checkpoint.remarks[: MAX_REMARKS - 1], remark]}
        )
    return checkpoint.model_copy(update={"structure": structure})


def untried(checkpoints: Iterable[Checkpoint]) -> list[str]:
    """Return what to know of checkpoints that no worker here can try, equal remarks once."""
    names: dict[str, list[str]] = defaultdict(list)
    for checkpoint in checkpoints:
        for remark in checkpoint.remarks:
            if remark.endswith(UNTRIED):
                names[remark].append(checkpoint.revision)
    return [f"{enumerated(revisions)}: {remark}." for remark, revisions in names.items()]


def _missing(checkpoint: Checkpoint) -> str | None:
    """Return what is missing of a checkpoint's files; None where they are here."""
    location = checkpoint.location
    if location.scheme == "hub":
        return _not_on_hub(location)
    parent = str(Path(location.path).parent)
    if location.scheme == "artefacts":
        parent = str(Path(settings().artefacts) / parent)
    try:
        config = cached_sha256(folder_of(location) / "config.json")
    except LocationError:
        return (
            f"{parent} is not below a folder that this lab reads (an admin adds one with "
            "`ucurve up --models DIR`, or with UCURVE_MODELS)"
        )
    except (OSError, ValueError):  # a path with NUL
        return f"their files are not in {parent}"
    if checkpoint.config_sha256 not in (None, config):
        return f"the files in {parent} are others (config.json differs)"
    return None


def _not_on_hub(location: Location) -> str | None:
    """Return why a worker would not even ask the hub."""
    if location.commit is None:
        return f"no commit of {location.path} is named"
    try:
        snapshot = hub.commit_of(location)
    except HubError as error:
        return str(error)
    folder = repository_folder(settings().artefacts / "hub", location.path) / "snapshots"
    if settings().hf_hub_offline and not is_complete(folder / snapshot):
        return f"HF_HUB_OFFLINE is set, and {location.path} is not in the local cache"
    return None
