"""Texts as people have them, understood once at registration as one plain UTF-8 file.

A plain text is registered as it lies, byte for byte. Documents of a data file (JSON lines, Parquet)
are joined by a blank line and written to the artefact folder under their SHA-256: that file is the
dataset, so that every worker, however old, reads the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ucurve.registry.artifacts import CHUNK, location_of
from ucurve.registry.datasets.record_files import (
    MAX_BYTES,
    DataFile,
    DataFileError,
    kind_of,
    open_data,
)
from ucurve.registry.datasets.record_files import too_large as too_large
from ucurve.registry.roots import UPLOADS
from ucurve.registry.suites import Dataset
from ucurve.settings import settings

JOINED = "\n\n"  # between documents: no token that only some tokenizers know
COLUMN = "text"
PREVIEW_CHARACTERS = 200
PLAIN_TABLES = ("csv", "tsv")


def understood_text(dataset: Dataset, path: Path, column: str | None = None) -> Dataset:
    """Return the dataset with the location of its plain text and what was understood of it.

    Raises DataFileError, LocationError and OSError.
    """
    with open_data(path) as data:
        if data.form == "text" and not data.packing:
            head = data.file.read(CHUNK)
            _expect_no_json(path, head)
            return _described(dataset, head, {})
        if data.form == "text":
            _expect_no_json(path, data.file.peek(CHUNK))  # type: ignore[attr-defined]
        target, facts = _written(data, column)
    with target.open("rb") as file:
        head = file.read(CHUNK)
    facts["source"] = path.name
    moved = dataset.model_copy(update={"location": location_of(target)})
    return _described(moved, head, facts)


def _described(dataset: Dataset, head: bytes, facts: dict[str, Any]) -> Dataset:
    preview = preview_of(head[: 4 * PREVIEW_CHARACTERS].decode(errors="ignore"))
    return dataset.model_copy(
        update={"parameters": {**dataset.parameters, **facts, "preview": preview}}
    )


def preview_of(text: str) -> str:
    """Return the first characters, as a database can store them."""
    return text[:PREVIEW_CHARACTERS].replace("\0", "␀")


def _expect_no_json(path: Path, head: bytes) -> None:
    """Raise DataFileError for JSON lines under another name, which would be measured as JSON."""
    import json

    lines = [line for line in head.splitlines()[:3] if line.strip()]
    try:
        objects = [isinstance(json.loads(line), dict) for line in lines]
    except (ValueError, RecursionError):
        return
    if objects and all(objects):
        raise DataFileError(
            f"{path} holds JSON objects: name it .jsonl, so that its documents are read"
        )


def _written(data: DataFile, column: str | None) -> tuple[Path, dict[str, Any]]:
    """Write the text of a data file to the artefacts under its hash; return it with its facts."""
    folder = uploads_with_room(data.path)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".partial-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            facts: dict[str, Any] = {"packing": data.packing} if data.packing else {}
            if data.form == "text":
                sha256 = _copied(data.file, file)
            else:
                sha256, num = _joined(data, column, file)
                facts |= {"documents": num, "joined": "a blank line", "column": column or COLUMN}
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        target = folder / f"{sha256}.txt"
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target, facts


def uploads_with_room(path: Path) -> Path:
    """Return the folder of uploads. Raises DataFileError where it is as full as it may be."""
    folder = settings().artefacts / UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    used = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
    if used >= settings().uploads_gb * 1e9:
        raise DataFileError(
            f"{path} has to be written as plain text, and uploads take the "
            f"{settings().uploads_gb:g} GB that UCURVE_UPLOADS_GB allows: an admin raises it, or "
            f"deletes files of {folder}"
        )
    return folder


def _copied(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := source.read(CHUNK):
        digest.update(part)
        target.write(part)
    return digest.hexdigest()


def _joined(data: DataFile, column: str | None, target: BinaryIO) -> tuple[str, int]:
    """Write the documents; return the SHA-256 and their number. Raises DataFileError."""
    digest, size, num = hashlib.sha256(), 0, 0
    for document in _documents(data, column or COLUMN):
        part = (JOINED if num else "").encode() + document
        num, size = num + 1, size + len(part)
        if size > MAX_BYTES:
            raise DataFileError(too_large(data.path))
        digest.update(part)
        target.write(part)
    if not num:
        raise DataFileError(f"{data.path} holds no documents")
    return digest.hexdigest(), num


def _documents(data: DataFile, column: str) -> Iterator[bytes]:
    for where, row in data.rows():
        if column not in row:
            raise DataFileError(_missing(data.path, where, column, [str(name) for name in row]))
        value = row[column]
        if not isinstance(value, str):
            raise DataFileError(f"{column} in {where} of {data.path} is {kind_of(value)}, no text")
        try:
            yield value.encode()
        except UnicodeEncodeError as error:
            raise DataFileError(
                f"{column} in {where} of {data.path} holds half a character: {error.reason}"
            ) from error


def _missing(path: Path, where: str, column: str, names: list[str]) -> str:
    listed = ", ".join(names[:10])
    message = f"{where} of {path} has no {column!r}, but {listed}"
    if "messages" in names or "conversations" in names:
        return f"{message}: a chat has no one text; write it under {column!r} as models read it"
    return f"{message}: name the column of the text (`column`, --column), or rename it to text"
