"""What a checkpoint's config asks for and what its files store, read without torch.

A config may ask for far more weights than the files hold; who builds the model first runs out of
memory. So both are compared before anything is built, at registration and by the worker.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from ucurve.registry.tensors.config_words import INNER, LAYERS, MAX_COUNT, VOCABULARY, WIDTHS
from ucurve.registry.tensors.pickled_tensors import pickled_tensors
from ucurve.registry.tensors.stored_tensor import RegistrationError as RegistrationError
from ucurve.registry.tensors.stored_tensor import Tensor as Tensor

MAX_CONFIG_BYTES = 4_000_000
MAX_HEADER_BYTES = 25_000_000  # the hub's own limit for a safetensors header
SAVED_TOGETHER = "copy the config.json that was saved with these weights"
FLOATS = ("F64", "F32", "F16", "BF16")
# stored beside the parameters by older versions of GPT-NeoX
BUFFERS = ("inv_freq", ".attention.bias", ".masked_bias")


def read_config(file: BinaryIO) -> dict[str, Any]:
    """Return the fields of an open config.json. Raises RegistrationError."""
    content = file.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise RegistrationError(f"config.json is larger than {MAX_CONFIG_BYTES // 10**6} MB")
    return parse_config(content)


def parse_config(content: bytes) -> dict[str, Any]:
    """Return the fields of a config.json. Raises RegistrationError."""
    fields = _parsed(content, "config.json", "is not JSON")
    if not isinstance(fields, dict):
        raise RegistrationError("config.json is not a JSON object")
    return fields


def stored_tensors(file: BinaryIO, name: str) -> dict[str, Tensor]:
    """Return the tensors by name of an open file of weights, from the header of a safetensors file
    or from the table of a pickle.

    Raises:
        RegistrationError: the file is damaged or truncated.
    """
    if not name.endswith(".safetensors"):
        return pickled_tensors(file, name)
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, MAX_HEADER_BYTES):
        raise RegistrationError(f"{name} is not a complete safetensors file")
    tensors = parse_header(file.read(length))
    expected = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if size != expected:
        raise RegistrationError(f"{name} has {size} of {expected} bytes")
    return tensors


def parse_header(header: bytes) -> dict[str, Tensor]:
    """Return the tensors by name, from the JSON header of a safetensors file."""
    entries = _parsed(header, "the header of the weights", "is not that of a safetensors file")
    try:
        entries.pop("__metadata__", None)
        return {name: _tensor(entry, 8 + len(header)) for name, entry in entries.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RegistrationError(
            "the header of the weights is not that of a safetensors file"
        ) from error


def _tensor(entry: Any, begin: int) -> Tensor:
    start, end = entry["data_offsets"]
    counts = (start, end, *entry["shape"])
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("sizes are whole numbers from 0 up")
    bits = {"64": 64, "32": 32, "16": 16}.get(entry["dtype"][-2:])
    if bits and bits * math.prod(entry["shape"]) != 8 * (end - start):
        raise ValueError("a tensor has other bytes than its shape")
    return Tensor(str(entry["dtype"]), tuple(entry["shape"]), begin + end, start=begin + start)


def _parsed(content: bytes, name: str, wrong: str) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise RegistrationError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise RegistrationError(f"{name} {wrong}") from error


def count_parameters(tensors: Mapping[str, Tensor]) -> int:
    """Count the elements of floating-point tensors, those that are tied once, without buffers of
    old checkpoints.
    """
    return sum(
        math.prod(tensor.shape)
        for name, tensor in tensors.items()
        if tensor.dtype in FLOATS and not tensor.alias_of and not name.endswith(BUFFERS)
    )


def parameters_of_size(config: Mapping[str, Any], num_bytes: int) -> int | None:
    """Estimate how many numbers of the config's type are in files whose tables cannot be read."""
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return num_bytes // (8 if "64" in dtype else 2 if "16" in dtype else 4) or None


def compare_sizes(config: Mapping[str, Any], tensors: Mapping[str, Tensor], num_bytes: int) -> None:
    """Raise RegistrationError where a config asks for more than the files can hold.

    tensors: of all files; empty where they could not be read.
    num_bytes: of all files with weights.
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        words, width = (_count(part, names) for names in (VOCABULARY, WIDTHS))
        inner, layers = (_count(part, names) for names in (INNER, LAYERS))
        largest = max((size for t in tensors.values() for size in t.shape), default=num_bytes)
        asked = {
            "words": (words, VOCABULARY),
            "hidden units": (width, WIDTHS),
            "units or heads": (inner, INNER),
        }
        for noun, (count, names) in asked.items():
            if count is not None and count > largest:
                field = next(name for name in names if part.get(name) == count)
                raise RegistrationError(
                    f"config.json asks for {count:,} {noun} ({field}), but the largest side of a "
                    f"stored tensor is {largest:,}: {SAVED_TOGETHER}"
                )
        if layers is not None and layers > (len(tensors) or num_bytes):
            raise RegistrationError(
                f"config.json asks for {layers:,} layers, but {len(tensors):,} tensors are stored: "
                f"{SAVED_TOGETHER}"
            )
        stored = sum(math.prod(t.shape) for t in tensors.values()) if tensors else num_bytes
        if words is not None and width is not None and words * width > stored:
            raise RegistrationError(
                f"config.json asks for {words:,} words of {width:,} numbers, but the files hold "
                f"{stored:,} numbers: {SAVED_TOGETHER}"
            )


def _count(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the largest of some fields, None where there is none. Raises RegistrationError."""
    counts = []
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise RegistrationError(f"config.json: {name} is not a whole number from 0 up")
        counts.append(value)
    return max(counts, default=None)
