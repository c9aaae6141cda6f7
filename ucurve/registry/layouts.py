"""Read the layout of a checkpoint from its config and the headers of its files.

>>> layout_of(checkpoint).tensors    # doctest: +SKIP
{'embed_out.weight': (50304, 512), 'gpt_neox.embed_in.weight': (50304, 512), ...}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ucurve.registry import artifacts, hub
from ucurve.registry.artifacts import CHUNK
from ucurve.registry.checkpoint_files import checkpoint_files
from ucurve.registry.hub_cache import (
    HubError,
    HubUnreachableError,
    is_complete,
    repository_folder,
)
from ucurve.registry.roots import open_file
from ucurve.registry.suites import Checkpoint
from ucurve.registry.tensors.model_files import FLOATS, Tensor, read_config, stored_tensors
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.registry.tensors.tensor_names import UNEMBEDDING, NamedTensor
from ucurve.registry.tensors.tensor_selection import group_of
from ucurve.settings import settings


def layout_of(checkpoint: Checkpoint) -> Layout | None:
    """Return the layout of a checkpoint's files; None where they do not say it.

    Raises HubUnreachableError.
    """
    location = checkpoint.location
    try:
        if location.scheme != "hub":
            return layout_in(artifacts.folder_of(location))
        commit, cache = hub.commit_of(location), settings().artefacts / "hub"
        snapshot = repository_folder(cache, location.path) / "snapshots" / commit
        if is_complete(snapshot):
            return layout_in(snapshot)
        return _layout(*hub.described(location.path, commit, cache))
    except HubUnreachableError:
        raise
    except (OSError, ValueError, HubError):
        return None


def layout_in(folder: Path, artefacts: Path | None = None, compare: bool = True) -> Layout | None:
    """Return the layout of the files in a folder; None where they hold no tensors.

    compare: whether to read an unembedding that the config says is tied, and may not be.

    Raises OSError, and ValueError for files that are damaged or may not be read.
    """
    weights = checkpoint_files(folder, artefacts).weights
    tensors: dict[str, Tensor] = {}
    files: dict[str, Path] = {}  # of each tensor
    for name in weights:
        with open_file(folder / name, artefacts) as file:
            stored = stored_tensors(file, name)
        tensors |= stored
        files |= dict.fromkeys(stored, folder / name)
    with open_file(folder / "config.json", artefacts) as file:
        layout = _layout(read_config(file), tensors)
    if (
        compare
        and layout
        and layout.tied is not False
        and _differ(layout, tensors, files, artefacts)
    ):
        return layout.model_copy(update={"tied": False})
    return layout


def _differ(
    layout: Layout, tensors: Mapping[str, Tensor], files: Mapping[str, Path], artefacts: Path | None
) -> bool:
    """Return whether a file holds an unembedding with other numbers than the embedding: then the
    library does not tie them, whatever the config says.
    """
    heads = [name for name in tensors if UNEMBEDDING.fullmatch(name)]
    bodies = [
        name
        for name in tensors
        if group_of(NamedTensor.of(name, layout.architecture, ())) == "embedding"
    ]
    pairs = [
        (tensors[head], tensors[body], files[head], files[body])
        for head in heads
        for body in bodies
        if tensors[head][:2] == tensors[body][:2] and files[head].suffix == ".safetensors"
    ]
    return any(
        _numbers(path, head, artefacts) != _numbers(other, body, artefacts)
        for head, body, path, other in pairs[:1]
    )


def _numbers(path: Path, tensor: Tensor, artefacts: Path | None) -> str:
    """Return a hash of the bytes of a tensor."""
    digest = hashlib.sha256()
    with open_file(path, artefacts) as file:
        file.seek(tensor.start or 0)
        left = tensor.end - (tensor.start or 0)
        while left and (chunk := file.read(min(left, CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _layout(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Layout | None:
    architecture, tied = config.get("model_type"), config.get("tie_word_embeddings")
    if tied is None and any(tensor.alias_of for tensor in tensors.values()):
        tied = True  # a pickle has both names of a shared tensor
    shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.dtype in FLOATS}
    if not shapes or not all(name.isprintable() for name in shapes):
        return None
    return Layout(
        architecture=architecture if isinstance(architecture, str) else "",
        tied=tied if isinstance(tied, bool) else None,
        tensors=shapes,
    )
