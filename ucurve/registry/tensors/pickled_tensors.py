"""Names, shapes and types of the tensors in a file of torch.save, without torch.

Such a file holds a pickle, which is a program for a stack machine. Here it is read as data: each
instruction is looked at, nothing that it names is imported or called. What torch refuses with
`weights_only=True` is refused here too, at registration and not by a worker.

>>> with open("pytorch_model.bin", "rb") as file:    # doctest: +SKIP
...     pickled_tensors(file, "pytorch_model.bin")["lm_head.weight"].shape
(512, 64)
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

from ucurve.registry.tensors.pickle_machine import Storage, View, interpret
from ucurve.registry.tensors.stored_tensor import RegistrationError, Tensor

MAX_TABLE_BYTES = 25_000_000  # as for the header of a safetensors file
MAGIC = 0x1950A86A20F9469CFC6C  # first object of a file of torch before 1.6
SAVE_AGAIN = "save it again with save_pretrained(DIR)"
# type of torch: its name in a safetensors header
DTYPES = {
    "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64",
    "Int": "I32", "Short": "I16", "Char": "I8", "Byte": "U8", "Bool": "BOOL",
    "ComplexFloat": "C64", "ComplexDouble": "C128",
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "complex64": "C64", "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
BITS = {"BF16": 16, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8}


class _Place(NamedTuple):
    """Where the bytes of a storage are; start is None where that was not looked up."""

    start: int | None
    num_bytes: int


def pickled_tensors(file: BinaryIO, name: str, positions: bool = True) -> dict[str, Tensor]:
    """Return the tensors by name of an open file of torch.save, in either of its formats.

    Args:
        file: open for reading; may be a remote one that reads ranges.
        name: of the file, for errors.
        positions: whether to look up where each tensor's bytes are, which reads in many places.

    Raises:
        RegistrationError: the file is damaged, or holds more than tensors by name.
    """
    try:
        if file.read(4) == b"PK\x03\x04":
            return _zipped(file, name, positions)
        file.seek(0)
        return _legacy(file, name)
    except (zipfile.BadZipFile, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, RegistrationError):
            raise
        raise RegistrationError(
            f"{name} is damaged, or not a file of torch.save: {SAVE_AGAIN}"
        ) from error


def _zipped(file: BinaryIO, name: str, positions: bool) -> dict[str, Tensor]:
    """Read the format of torch 1.6 and later: a zip with data.pkl and one entry per storage."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        table = entries.get("data.pkl")
        if table is None:
            raise RegistrationError(f"{name} has no table of tensors (data.pkl): {SAVE_AGAIN}")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise RegistrationError(f"{name} is compressed: {SAVE_AGAIN}")
        if table.file_size > MAX_TABLE_BYTES:
            raise RegistrationError(f"the table of {name} is larger than 25 MB")
        content = interpret(io.BytesIO(archive.read(table)), name)

    def place(storage: Storage) -> _Place:
        entry = entries[f"data/{storage.key}"]
        return _Place(_start(file, entry) if positions else None, entry.file_size)

    views = _only_tensors(content, name)
    return _tensors(views, {view.storage.key: place(view.storage) for view in views.values()}, name)


def _start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Return where the bytes of an entry begin: behind its local header, which has its own size."""
    file.seek(entry.header_offset)
    local = file.read(30)
    lengths = (int.from_bytes(local[at : at + 2], "little") for at in (26, 28))
    return entry.header_offset + 30 + sum(lengths)


def _legacy(file: BinaryIO, name: str) -> dict[str, Tensor]:
    """Read the format before torch 1.6: five pickles, then every storage behind its length."""
    head = io.BytesIO(file.read(MAX_TABLE_BYTES))
    if interpret(head, name) != MAGIC:
        raise RegistrationError(f"{name} is not a file of torch.save: {SAVE_AGAIN}")
    _version, _system, content, keys = (interpret(head, name) for _ in range(4))
    views = _only_tensors(content, name)
    storages = {view.storage.key: view.storage for view in views.values()}
    places, at = {}, head.tell()
    for key in map(str, keys):
        num_bytes = storages[key].numel * _itemsize(storages[key].dtype, name)
        places[key] = _Place(at + 8, num_bytes)
        at += 8 + num_bytes
    size = file.seek(0, os.SEEK_END)
    if size != at:
        raise RegistrationError(f"{name} has {size} of {at} bytes")
    return _tensors(content, places, name)


def _tensors(
    views: Mapping[str, View], places: Mapping[str, _Place], name: str
) -> dict[str, Tensor]:
    """Return the tensors of a table; those that share their numbers say with which."""
    tensors: dict[str, Tensor] = {}
    first: dict[View, str] = {}
    for key, view in views.items():
        alias = first.setdefault(view, key)
        tensor = _tensor(view, places[view.storage.key], name)
        tensors[key] = tensor._replace(alias_of=None if alias == key else alias)
    return tensors


def _only_tensors(content: Any, name: str) -> dict[str, View]:
    """Return the views of a table that holds nothing else. Raises RegistrationError."""
    if not isinstance(content, dict):
        raise RegistrationError(f"{name} does not hold tensors by name: {SAVE_AGAIN}")
    inner = [
        key
        for key, value in content.items()
        if isinstance(value, dict) and any(isinstance(part, View) for part in value.values())
    ]
    if inner:
        key = "model" if "model" in inner else inner[0]
        raise RegistrationError(
            f"{name} holds {', '.join(map(str, list(content)[:4]))}, not tensors by name: save "
            f"what is under {key!r} alone, torch.save(torch.load({name!r})[{key!r}], {name!r})"
        )
    if not content:
        raise RegistrationError(f"{name} holds no tensors: {SAVE_AGAIN}")
    other = [key for key, value in content.items() if not isinstance(value, View)]
    if other:
        raise RegistrationError(f"{name} holds {other[:1]} that are no tensors: {SAVE_AGAIN}")
    numbers = [key for key in content if not isinstance(key, str)]
    if numbers:
        raise RegistrationError(f"{name} numbers its tensors, such as {numbers[0]}: {SAVE_AGAIN}")
    return content


def _tensor(view: View, place: _Place, name: str) -> Tensor:
    """Return the record of one tensor. Raises RegistrationError where it exceeds its storage."""
    itemsize = _itemsize(view.dtype, name)
    empty = 0 in view.shape
    last = sum((size - 1) * step for size, step in zip(view.shape, view.stride, strict=True))
    begin, end = view.offset * itemsize, (view.offset + (0 if empty else last + 1)) * itemsize
    if end > place.num_bytes:
        raise RegistrationError(f"{name} has a tensor with fewer bytes than its shape")
    return Tensor(
        DTYPES[_word(view.dtype)],
        view.shape,
        end if place.start is None else place.start + end,
        start=None if place.start is None else place.start + begin,
        stride=None if empty or _is_contiguous(view) else view.stride,
    )


def _is_contiguous(view: View) -> bool:
    expected = 1
    for size, step in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def _word(dtype: str) -> str:
    """Return "Float" of torch.FloatStorage, "float32" of torch.float32."""
    return dtype.rpartition(".")[2].removesuffix("Storage")


def _itemsize(dtype: str, name: str) -> int:
    """Return the bytes of a number. Raises RegistrationError for a type that is not handled."""
    if dtype == "torch.storage.UntypedStorage":  # its numbers are bytes
        return 1
    safe = DTYPES.get(_word(dtype))
    if safe is None:
        raise RegistrationError(f"{name} has tensors of {dtype}, which are not read: {SAVE_AGAIN}")
    return (BITS.get(safe) or int(safe.lstrip("CFIU"))) // 8
