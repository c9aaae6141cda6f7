"""Hash and inspect files: a folder of weights, a text, files of examples. Without torch.

>>> resolve(checkpoint, Path("/models/mine/step1000")).weights_sha256    # doctest: +SKIP
'b0c6...'
"""

from __future__ import annotations

import codecs
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from ucurve.registry.artifacts import (
    CHUNK,
    Progress,
    bytes_sha256,
    no_progress,
    stream_sha256,
)
from ucurve.registry.checkpoint_files import checkpoint_files, described
from ucurve.registry.datasets import example_files
from ucurve.registry.roots import LocationError, open_file
from ucurve.registry.suites import Checkpoint, Dataset, combined_sha256
from ucurve.registry.tensors.config_words import context_length, initializer_std, num_layers
from ucurve.registry.tensors.model_files import (
    RegistrationError,
    compare_sizes,
    count_parameters,
    read_config,
    stored_tensors,
)
from ucurve.registry.tensors.weights_content import (
    TensorContent,
    WeightsContent,
    not_finite,
    thinned,
)
from ucurve.registry.tensors.weights_layout import Layout, merged
from ucurve.registry.tensors.wrapped_names import expect_plain_names, expect_whole
from ucurve.registry.tokenizer_files import beyond_model
from ucurve.registry.weights_hashing import hash_weights

Contents = dict[str, WeightsContent]  # by the SHA-256 of the weights
OF_THE_LAB = ("builtin", "artefacts")  # locations of models that it trained


def resolve(
    checkpoint: Checkpoint,
    folder: Path,
    progress: Progress = no_progress,
    contents: Contents | None = None,
) -> Checkpoint:
    """Return the checkpoint with hashes and sizes of its files, or the reason why it has none.

    contents: receives the content of the weights by their SHA-256.
    """
    try:
        fields = _inspect(folder, progress, {} if contents is None else contents)
        if checkpoint.location.scheme in OF_THE_LAB and not fields["tokenizer_sha256"]:
            fields["remarks"] = []  # a model of the built-in language
        return checkpoint.model_copy(update={**fields, "unresolved": None})
    except (OSError, LocationError, RegistrationError) as error:
        return checkpoint.model_copy(update={"unresolved": unusable(error)})


def unusable(error: Exception) -> str:
    """Return what `unresolved` says of files that cannot be used."""
    return f"cannot be used: {error}"


def part_of(progress: Progress, before: float, total: float) -> Progress:
    """Return a callback that reports the progress of one file as part of that of all files."""
    return lambda done, _: progress(before + done, total)


def _inspect(folder: Path, progress: Progress, contents: Contents) -> dict[str, Any]:
    parts = checkpoint_files(folder)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(open_file(folder / name))
            for name in (*parts.weights, "config.json")
        }
        fields = _describe(files, parts.layout, progress, contents)
        files["config.json"].seek(0)
        config = read_config(files["config.json"])
    tokenizer = described(parts)
    own = [path for path in parts.tokenizer.values() if path.parent == folder]
    return {
        **fields,
        "size_bytes": fields["size_bytes"] + sum(path.stat().st_size for path in own),
        "tokenizer_sha256": tokenizer.sha256,
        "tokenizer_content": tokenizer.content,
        "remarks": [
            *parts.layout.remarks,
            *fields["remarks"],
            *tokenizer.remarks,
            *beyond_model(tokenizer.highest, config),
        ],
    }


def _describe(
    files: dict[str, BinaryIO], layout: Layout, progress: Progress, contents: Contents
) -> dict[str, Any]:
    """Return the fields of a checkpoint from its open files."""
    weights = layout.weights
    sizes = {name: _size(file) for name, file in files.items()}
    config = read_config(files["config.json"])
    shards = {name: stored_tensors(files[name], name) for name in weights}
    tensors = merged(shards, layout.placed)
    expect_plain_names(tensors)
    expect_whole(tensors)
    compare_sizes(config, tensors, sum(sizes[name] for name in weights))
    hashes: dict[str, str] = {}
    values: dict[str, TensorContent] = {}
    total, before = sum(sizes.values()), 0
    for name, file in files.items():
        reported = part_of(progress, before, total)
        if name in shards:
            hashes[name], found = hash_weights(file, shards[name], reported)
            values |= found
        else:
            hashes[name] = stream_sha256(file, reported)
        before += sizes[name]
    weights_sha256 = combined_sha256({name: hashes[name] for name in weights})
    contents[weights_sha256] = WeightsContent(
        files={name: hashes[name] for name in weights},
        tensors=thinned(values),
        initializer_range=initializer_std(config),
        num_layers=num_layers(config),
    )
    return {
        "weights_sha256": weights_sha256,
        "config_sha256": hashes["config.json"],
        "num_parameters": sum(map(count_parameters, shards.values())) or None,
        "context": context_length(config),
        "size_bytes": total,
        "remarks": not_finite(values),
    }


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def resolve_text(dataset: Dataset, path: Path, progress: Progress = no_progress) -> Dataset:
    """Return a registered text with the hash of its file, or the reason why it is unusable."""
    try:
        with open_file(path) as file:
            _expect_utf8(path, file)
            fields = {
                "sha256": stream_sha256(file, progress),
                "size_bytes": _size(file),
                "unresolved": None,
            }
    except (OSError, LocationError, RegistrationError) as error:
        fields = {"unresolved": unusable(error)}
    return dataset.model_copy(update=fields)


def resolve_examples(dataset: Dataset, folder: Path, progress: Progress = no_progress) -> Dataset:
    """Return registered examples with one hash of both files, columns and counts, or why they
    cannot be used.
    """
    try:
        fields = _inspect_examples(dataset, folder, progress)
    except (OSError, LocationError, RegistrationError, example_files.ExamplesError) as error:
        fields = {"unresolved": unusable(error)}
    return dataset.model_copy(update=fields)


def _inspect_examples(dataset: Dataset, folder: Path, progress: Progress) -> dict[str, Any]:
    contents = {}
    for split in example_files.SPLITS:
        path = folder / str(dataset.parameters[split])
        contents[split] = (path, example_files.content(path))
    train, validation = (example_files.parse(*file) for file in contents.values())
    if train.columns != validation.columns:
        raise RegistrationError("the train and the validation file have different columns")
    labelled = train.columns == example_files.LABELLED
    classes = example_files.classes(train) if labelled else []
    if classes and not set(example_files.classes(validation)) <= set(classes):
        raise RegistrationError("the validation file has labels that the train file does not have")
    progress(1, 1)
    return {
        "sha256": combined_sha256(
            {split: bytes_sha256(content) for split, (_, content) in contents.items()}
        ),
        "size_bytes": sum(len(content) for _, content in contents.values()),
        "parameters": {
            **dataset.parameters,
            "columns": ",".join(train.columns),
            "train_rows": len(train.rows),
            "validation_rows": len(validation.rows),
            "classes": len(classes),
        },
        "unresolved": None,
    }


def _expect_utf8(path: Path, file: BinaryIO) -> None:
    decoder, blank = codecs.getincrementaldecoder("utf-8")(), True
    try:
        while chunk := file.read(CHUNK):
            blank = not decoder.decode(chunk).strip("\ufeff \t\r\n\f\v") and blank
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise RegistrationError(f"{path} is not UTF-8 text ({error.reason})") from error
    if blank:
        raise RegistrationError(f"{path} is empty: it holds no text, or white space only")
