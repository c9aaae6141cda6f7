"""What registration stores of a checkpoint folder: its place in pre-training and the hashes of its files; no torch.

>>> checkpoints, manifest = checkpoints_in(Path("/models/mine"), "mine")     # doctest: +SKIP
>>> resolve(checkpoints[0], Path("/models/mine/step1000")).weights_sha256    # doctest: +SKIP
'b0c6...'
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ucurve.registry import example_files
from ucurve.registry.suites import (
    PENDING,
    Checkpoint,
    Dataset,
    Location,
    Phase,
    Suite,
    arrange,
    combined_sha256,
    place,
    weights_files,
)

Progress = Callable[[float, float], object]  # bytes done, bytes in all
CHUNK = 1 << 22
FLOATS = ("F64", "F32", "F16", "BF16")
BUFFERS = (
    "inv_freq",
    ".attention.bias",
    ".masked_bias",
)  # stored beside the parameters by older versions of GPT-NeoX


class RegistrationError(ValueError):
    """Nothing can be registered there; the message says why and what is expected."""


def quiet(done: float, total: float) -> None:
    """Progress that nobody looks at."""


def checkpoints_in(
    folder: Path, suite: str, tokens_per_step: int | None = None, phases: tuple[Phase, ...] = ()
) -> tuple[list[Checkpoint], Suite | None]:
    """Every sub-folder that holds a model, as a checkpoint still to be hashed, sorted; and the folder's suite.json, if any.

    A suite.json (a Suite, as GET /v1/suites/NAME answers it) says where its revisions stand in pre-training; names say it for
    the others. Raises RegistrationError.
    """
    if not folder.is_dir():
        raise RegistrationError(f"{folder} is not a folder that the server can read")
    found = [
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and (entry / "config.json").is_file()
    ]
    if not found and (folder / "config.json").is_file():
        raise RegistrationError(
            f"{folder} is one checkpoint; give the folder above, with one sub-folder per revision"
        )
    if not found:
        raise RegistrationError(
            f"no sub-folder of {folder} has a config.json; expected {folder}/REVISION/config.json"
        )
    manifest = _manifest(folder / "suite.json")
    placed = place(found, tokens_per_step, phases)
    for entry in manifest.checkpoints if manifest else []:
        if entry.revision in placed:
            placed[entry.revision] = entry.model_dump(
                include={"step", "tokens", "replicate", "phase"}
            )
    return arrange(
        Checkpoint(
            suite=suite,
            revision=name,
            location=Location(scheme="path", path=str(folder / name)),
            unresolved=f"{PENDING}: waiting",
            **fields,
        )
        for name, fields in placed.items()
    ), manifest


def _manifest(path: Path) -> Suite | None:
    if not path.is_file():
        return None
    try:
        return Suite.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RegistrationError(
            f"{path} is not a suite: {error.errors()[0]['loc']} {error.errors()[0]['msg']}"
        ) from error


def resolve(checkpoint: Checkpoint, folder: Path, progress: Progress = quiet) -> Checkpoint:
    """The checkpoint with the hashes and sizes of the files in `folder`, or with the reason why it has none."""
    try:
        return checkpoint.model_copy(update={**_hashes(folder, progress), "unresolved": None})
    except (OSError, RegistrationError) as error:
        return checkpoint.model_copy(update={"unresolved": f"not plannable: {error}"})


def _offset(progress: Progress, before: float, total: float) -> Progress:
    """Progress of one file as part of all files."""
    return lambda done, _: progress(before + done, total)


def _hashes(folder: Path, progress: Progress) -> dict[str, Any]:
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
        hashes[name] = file_sha256(folder / name, _offset(progress, before, total))
        before += sizes[name]
    return {
        "weights_sha256": combined_sha256({name: hashes[name] for name in weights}),
        "config_sha256": hashes["config.json"],
        "tokenizer_sha256": hashes.get("tokenizer.json"),
        "num_parameters": sum(parameters) or None,
        "context": context_of(folder / "config.json"),
        "size_bytes": total,
    }


def context_of(config: Path) -> int | None:
    """Tokens of the longest row that a model reads, from its config.json; None where it does not say."""
    try:
        found = json.loads(config.read_bytes())
    except ValueError as error:
        raise RegistrationError("config.json is not JSON") from error
    longest = found.get("max_position_embeddings") or found.get("n_positions")
    return longest if isinstance(longest, int) else None


def expect_all_shards(weights: list[str]) -> None:
    """Raises RegistrationError when names like model-00001-of-00003.safetensors are not all there."""
    of = re.search(r"-of-(\d+)\.", weights[0])
    if of and len(weights) != int(of[1]):
        raise RegistrationError(f"{len(weights)} of {int(of[1])} shards of the weights are there")


def stored_parameters(path: Path) -> int:
    """Number of parameters in a safetensors file, from its header. Raises RegistrationError on a broken or cut file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size:
            raise RegistrationError(f"{path.name} is not a whole safetensors file")
        header = file.read(length)
    tensors = parse_header(header)
    expected = (
        8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
    )
    if size != expected:
        raise RegistrationError(f"{path.name} has {size} of {expected} bytes")
    return count_parameters(tensors)


def parse_header(header: bytes) -> dict[str, dict[str, Any]]:
    """Tensors by name, from the JSON that follows the eight bytes of its length."""
    try:
        tensors: dict[str, dict[str, Any]] = json.loads(header)
    except ValueError as error:
        raise RegistrationError("the weights have no safetensors header") from error
    tensors.pop("__metadata__", None)
    return tensors


def count_parameters(tensors: dict[str, dict[str, Any]]) -> int:
    """Elements of the floating-point tensors, without the buffers that old checkpoints store."""
    return sum(
        math.prod(tensor["shape"])
        for name, tensor in tensors.items()
        if tensor["dtype"] in FLOATS and not name.endswith(BUFFERS)
    )


def file_sha256(path: Path, progress: Progress = quiet) -> str:
    """SHA-256 of a file in hex; `progress` is called every few megabytes, and may raise to stop."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    return digest.hexdigest()


def bytes_sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def write_whole(target: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent, even after a crash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}.", delete=False
    ) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(target)


def resolve_text(dataset: Dataset, path: Path, progress: Progress = quiet) -> Dataset:
    """A registered text with the hash of its file's bytes, or with the reason why it cannot be used."""
    try:
        _expect_utf8(path)
        found = {
            "sha256": file_sha256(path, progress),
            "size_bytes": path.stat().st_size,
            "unresolved": None,
        }
    except (OSError, RegistrationError) as error:
        found = {"unresolved": f"not plannable: {error}"}
    return dataset.model_copy(update=found)


def resolve_examples(dataset: Dataset, folder: Path, progress: Progress = quiet) -> Dataset:
    """Registered examples with one hash for both files and what a plan must know of them, or with the reason why not."""
    try:
        files = {split: folder / str(dataset.parameters[split]) for split in example_files.SPLITS}
        train, validation = (example_files.read(path) for path in files.values())
        if train.columns != validation.columns:
            raise RegistrationError("the train and the validation file have different columns")
        known = example_files.classes(train) if train.columns == example_files.LABELLED else []
        if known and not set(example_files.classes(validation)) <= set(known):
            raise RegistrationError("the validation file has labels that the train file has not")
        facts = {
            "train_rows": len(train.rows),
            "validation_rows": len(validation.rows),
            "classes": len(known),
        }
        found: dict[str, Any] = {
            "sha256": combined_sha256(
                {split: file_sha256(path, progress) for split, path in files.items()}
            ),
            "size_bytes": sum(path.stat().st_size for path in files.values()),
            "parameters": {**dataset.parameters, "columns": ",".join(train.columns), **facts},
            "unresolved": None,
        }
    except (OSError, RegistrationError, example_files.ExamplesError) as error:
        found = {"unresolved": f"not plannable: {error}"}
    return dataset.model_copy(update=found)


def _expect_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise RegistrationError(f"{path} is not UTF-8 text ({error.reason})") from error
