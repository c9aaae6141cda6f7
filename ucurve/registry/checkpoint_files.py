"""The files of a checkpoint in a folder: weights, config and tokenizer, for registration and for
the worker alike.

>>> checkpoint_files(Path("/models/mine/step1000")).weights    # doctest: +SKIP
['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from ucurve.registry.foreign_files import foreign_files, is_adapted
from ucurve.registry.misplaced_models import misplaced
from ucurve.registry.roots import LocationError, open_file
from ucurve.registry.tensors.stored_tensor import RegistrationError
from ucurve.registry.tensors.weights_layout import Layout, weights_layout
from ucurve.registry.tokenizer_files import (
    DescribedTokenizer,
    described_tokenizer,
    missing_tokenizer,
    tokenizer_names,
)

Reader = Callable[[str], bytes]
MAX_SMALL_BYTES = 100_000_000  # of an index or a file of a tokenizer
ADAPTED = (
    "an adapter lies beside the weights (adapter_config.json), which are not the model without it: "
    "merge it, AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()"
    ".save_pretrained(NEW_DIR), or remove the adapter's files"
)


class CheckpointFiles(NamedTuple):
    """What a folder holds of a checkpoint."""

    layout: Layout
    tokenizer: Mapping[str, Path]  # by name; none where there is none
    remark: str | None  # about the tokenizer
    without_tokenizer: str  # what to say and do where it cannot be used

    @property
    def weights(self) -> list[str]:
        """Names of the files with the weights, sorted."""
        return self.layout.weights


def checkpoint_files(folder: Path, artefacts: Path | None = None) -> CheckpointFiles:
    """Return the files of the checkpoint in a folder.

    Raises:
        RegistrationError: it cannot be used; the message says what it holds and what to do.
        OSError, LocationError: it cannot be read.
    """
    names = os.listdir(folder)
    if reason := misplaced(folder, names):
        raise RegistrationError(reason)
    layout = usable_layout(names, lambda name: read_small(folder / name, artefacts), str(folder))
    own = {name: folder / name for name in tokenizer_names(names)}
    above = {} if own else _above(folder, artefacts)
    remark = "the tokenizer is that of the folder above" if above else None
    return CheckpointFiles(layout, own or above, remark, missing_tokenizer(names))


def usable_layout(names: Collection[str], read: Reader, place: str) -> Layout:
    """Return the files with the weights. Raises RegistrationError where there are none to use.

    Args:
        names: of all files.
        read: returns the content of one of them.
        place: where they are, for errors.
    """
    layout = weights_layout(names, read)
    if "config.json" not in names:
        other = foreign_files(names, own_names=bool(layout.weights))
        missing = "copy it from where the model was trained" if layout.weights else ""
        raise RegistrationError(other or f"no config.json in {place}{missing and f': {missing}'}")
    if layout.weights and is_adapted(names):
        raise RegistrationError(ADAPTED)
    if not layout.weights:
        reason = foreign_files(names) or next(iter(layout.remarks), None)
        raise RegistrationError(reason or f"no model.safetensors or pytorch_model.bin in {place}")
    return layout


def read_small(path: Path, artefacts: Path | None = None) -> bytes:
    """Return the content of an index or of a file of a tokenizer. Raises RegistrationError."""
    with open_file(path, artefacts) as file:
        content = file.read(MAX_SMALL_BYTES + 1)
    if len(content) > MAX_SMALL_BYTES:
        raise RegistrationError(f"{path.name} is larger than {MAX_SMALL_BYTES // 10**6} MB")
    return content


def described(parts: CheckpointFiles) -> DescribedTokenizer:
    """Return the hashes of the tokenizer of a folder, or why there is none."""
    contents = {name: read_small(path) for name, path in parts.tokenizer.items()}
    return described_tokenizer(contents, parts.without_tokenizer, parts.remark)


def _above(folder: Path, artefacts: Path | None) -> dict[str, Path]:
    """Return the files of a tokenizer in the folder above, where that may be read."""
    try:
        files = {name: folder.parent / name for name in tokenizer_names(os.listdir(folder.parent))}
        for path in files.values():
            open_file(path, artefacts).close()
    except (OSError, LocationError):
        return {}
    return files
