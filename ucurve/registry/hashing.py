"""Hash and inspect files: a folder of weights, a text, files of examples. Without torch.

>>> resolve(checkpoint, Path("/models/mine/step1000")).weights_sha256    # doctest: +SKIP
'b0c6...'
"""

from __future__ import annotations

import codecs
import json
import math
import re
from pathlib import Path
from typing import Any

from ucurve.registry import example_files
from ucurve.registry.artifacts import CHUNK, Progress, file_sha256, no_progress
from ucurve.registry.suites import Checkpoint, Dataset, combined_sha256, weights_files

FLOATS = ("F64", "F32", "F16", "BF16")
# stored beside the parameters by older versions of GPT-NeoX
BUFFERS = ("inv_freq", ".attention.bias", ".masked_bias")


class RegistrationError(ValueError):
    """Files that cannot be registered; the message says why and what is expected."""


def resolve(checkpoint: Checkpoint, folder: Path, progress: Progress = no_progress) -> Checkpoint:
    """Return the checkpoint with hashes and sizes of its files, or the reason why it has none."""
    try:
        return checkpoint.model_copy(update={**_inspect(folder, progress), "unresolved": None})
    except (OSError, RegistrationError) as error:
        return checkpoint.model_copy(update={"unresolved": unusable(error)})


def unusable(error: Exception) -> str:
    """Return what `unresolved` says of files that cannot be used."""
    return f"cannot be used: {error}"


def part_of(progress: Progress, before: float, total: float) -> Progress:
    """Return a callback that reports the progress of one file as part of that of all files."""
    return lambda done, _: progress(before + done, total)


def _inspect(folder: Path, progress: Progress) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise RegistrationError(f"no config.json in {folder}")
    weights = weights_files(entry.name for entry in folder.iterdir())
    if not weights:
        raise RegistrationError(f"no model.safetensors or pytorch_model.bin in {folder}")
    expect_all_shards(weights)
    parameters = [
        stored_parameters(folder / name) for name in weights if name.endswith(".safetensors")
    ]
    names = [
        name for name in (*weights, "config.json", "tokenizer.json") if (folder / name).is_file()
    ]
    sizes = {name: (folder / name).stat().st_size for name in names}
    total, before = sum(sizes.values()), 0
    hashes: dict[str, str] = {}
    for name in names:
        hashes[name] = file_sha256(folder / name, part_of(progress, before, total))
        before += sizes[name]
    return {
        "weights_sha256": combined_sha256({name: hashes[name] for name in weights}),
        "config_sha256": hashes["config.json"],
        "tokenizer_sha256": hashes.get("tokenizer.json"),
        "num_parameters": sum(parameters) or None,
        "context": context_length(folder / "config.json"),
        "size_bytes": total,
    }


def context_length(config: Path) -> int | None:
    """Return the longest input in tokens that a config.json allows; None where it does not say."""
    try:
        fields = json.loads(config.read_bytes())
    except ValueError as error:
        raise RegistrationError("config.json is not JSON") from error
    longest = fields.get("max_position_embeddings") or fields.get("n_positions")
    return longest if isinstance(longest, int) else None


def expect_all_shards(weights: list[str]) -> None:
    """Raise RegistrationError unless all shards of names like model-00001-of-00003.safetensors are
    present.
    """
    count = re.search(r"-of-(\d+)\.", weights[0])
    if count and len(weights) != int(count[1]):
        raise RegistrationError(f"{len(weights)} of {int(count[1])} weight shards are present")


def stored_parameters(path: Path) -> int:
    """Return the number of parameters in a safetensors file, from its header.

    Raises:
        RegistrationError: the file is damaged or truncated.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            raise RegistrationError(f"{path.name} is not a complete safetensors file")
        header = file.read(length)
    tensors = parse_header(header)
    end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    expected = 8 + length + end
    if size != expected:
        raise RegistrationError(f"{path.name} has {size} of {expected} bytes")
    return count_parameters(tensors)


def parse_header(header: bytes) -> dict[str, dict[str, Any]]:
    """Return the tensors by name, from the JSON header of a safetensors file."""
    try:
        tensors: dict[str, dict[str, Any]] = json.loads(header)
    except ValueError as error:
        raise RegistrationError("the weights have no safetensors header") from error
    tensors.pop("__metadata__", None)
    return tensors


def count_parameters(tensors: dict[str, dict[str, Any]]) -> int:
    """Count the elements of floating-point tensors, without buffers of old checkpoints."""
    return sum(
        math.prod(tensor["shape"])
        for name, tensor in tensors.items()
        if tensor["dtype"] in FLOATS and not name.endswith(BUFFERS)
    )


def resolve_text(dataset: Dataset, path: Path, progress: Progress = no_progress) -> Dataset:
    """Return a registered text with the hash of its file, or the reason why it is unusable."""
    try:
        _expect_utf8(path)
        fields = {
            "sha256": file_sha256(path, progress),
            "size_bytes": path.stat().st_size,
            "unresolved": None,
        }
    except (OSError, RegistrationError) as error:
        fields = {"unresolved": unusable(error)}
    return dataset.model_copy(update=fields)


def resolve_examples(dataset: Dataset, folder: Path, progress: Progress = no_progress) -> Dataset:
    """Return registered examples with one hash of both files, columns and counts, or why they
    cannot be used.
    """
    try:
        fields = _inspect_examples(dataset, folder, progress)
    except (OSError, RegistrationError, example_files.ExamplesError) as error:
        fields = {"unresolved": unusable(error)}
    return dataset.model_copy(update=fields)


def _inspect_examples(dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    files = {split: folder / str(dataset.parameters[split]) for split in example_files.SPLITS}
    train, validation = (example_files.read(path) for path in files.values())
    if train.columns != validation.columns:
        raise RegistrationError("the train and the validation file have different columns")
    labelled = train.columns == example_files.LABELLED
    classes = example_files.classes(train) if labelled else []
    if classes and not set(example_files.classes(validation)) <= set(classes):
        raise RegistrationError("the validation file has labels that the train file does not have")
    hashes = {split: file_sha256(path, progress) for split, path in files.items()}
    return {
        "sha256": combined_sha256(hashes),
        "size_bytes": sum(path.stat().st_size for path in files.values()),
        "parameters": {
            **dataset.parameters,
            "columns": ",".join(train.columns),
            "train_rows": len(train.rows),
            "validation_rows": len(validation.rows),
            "classes": len(classes),
        },
        "unresolved": None,
    }


def _expect_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise RegistrationError(f"{path} is not UTF-8 text ({error.reason})") from error
