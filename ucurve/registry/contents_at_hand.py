"""The content of weights whose files are on this machine, where they are used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ucurve.registry import hashing, hub
from ucurve.registry.artifacts import LocationError, folder_of
from ucurve.registry.hub_cache import HubError, is_complete, repository_folder
from ucurve.registry.suites import Checkpoint

log = logging.getLogger(__name__)


def content_of_files(fields: Mapping[str, Any], artefacts: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint's weights as JSON; None where its files are not here, or
    are not those that were registered.
    """
    checkpoint = Checkpoint.model_validate(fields)
    try:
        folder = _folder(checkpoint, artefacts)
    except (HubError, LocationError, OSError) as error:
        log.warning("the weights of %s are not compared: %s", checkpoint.revision, error)
        return None
    contents: hashing.Contents = {}
    if folder is not None:
        hashing.resolve(checkpoint, folder, contents=contents)
    content = contents.get(checkpoint.weights_sha256 or "")
    return None if content is None else content.model_dump(mode="json")


def _folder(checkpoint: Checkpoint, artefacts: Path) -> Path | None:
    if checkpoint.location.scheme != "hub":
        return folder_of(checkpoint.location, artefacts)
    repository = repository_folder(artefacts / "hub", checkpoint.location.path)
    snapshot = repository / "snapshots" / hub.commit_of(checkpoint.location)
    return snapshot if is_complete(snapshot) else None
