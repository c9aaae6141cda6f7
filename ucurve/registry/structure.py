"""What a worker tries of a checkpoint: its config and the names and shapes of its tensors.

    described(checkpoint)            # (config, tensors), from the files or the hub; no weights
    structure_sha256(checkpoint)     # equal where one trial answers for both checkpoints

Most checkpoints of a suite have the same structure, so that one of them is tried for all.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ucurve.registry import artifacts, hub
from ucurve.registry.checkpoint_files import checkpoint_files
from ucurve.registry.roots import LocationError, open_file
from ucurve.registry.suites import Checkpoint
from ucurve.registry.tensors.model_files import (
    RegistrationError,
    Tensor,
    read_config,
    stored_tensors,
)
from ucurve.registry.tensors.weights_layout import merged
from ucurve.settings import settings

NO_MODEL = ("transformers_version", "_name_or_path")  # of a config: they change no weight


def described(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the tensors of a checkpoint's files; empty where these do not say.

    Raises RegistrationError, LocationError, OSError, HubError.
    """
    location = checkpoint.location
    if location.scheme == "hub":
        return hub.described(location.path, hub.commit_of(location), settings().artefacts / "hub")
    return _in_folder(artifacts.folder_of(location))


def structure_sha256(checkpoint: Checkpoint) -> str | None:
    """Return the hash of what a worker tries; None where nothing needs a trial.

    The package's own suites need none. Reads headers of local files, and asks no hub: there, the
    number of parameters stands for names and shapes.
    """
    if checkpoint.unresolved or checkpoint.location.scheme == "builtin":
        return None
    parts: dict[str, Any] = {"tokenizer": checkpoint.tokenizer_sha256}
    if checkpoint.location.scheme == "hub":
        parts |= {"config": checkpoint.config_sha256, "parameters": checkpoint.num_parameters}
    else:
        try:
            config, tensors = described(checkpoint)
        except (RegistrationError, LocationError, OSError):
            return None  # they were read a moment ago, and a worker says what has happened
        parts["config"] = {name: v for name, v in config.items() if name not in NO_MODEL}
        parts["tensors"] = sorted((name, t.dtype, t.shape) for name, t in tensors.items())
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _in_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    layout = checkpoint_files(folder).layout
    with open_file(folder / "config.json") as file:
        config = read_config(file)
    shards: dict[str, dict[str, Tensor]] = {}
    for name in layout.weights:
        with open_file(folder / name) as file:
            shards[name] = stored_tensors(file, name)
    return config, merged(shards, layout.placed)
