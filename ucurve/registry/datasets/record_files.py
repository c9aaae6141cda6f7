"""Data files as people have them: JSON lines, JSON, CSV, TSV and Parquet, compressed or not.

>>> with open_data(Path("/data/reviews.jsonl.gz")) as data:      # doctest: +SKIP
...     for where, row in data.rows():
...         ...

Contents decide about compression and Parquet, the name about the rest. What is unpacked is counted,
so that a small file cannot fill memory or disk.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ucurve.registry.roots import open_file

MAX_BYTES = 2**28  # of a file, unpacked
MAX_PLAIN_BYTES = 10**9  # of a file that is not packed
MAX_ARRAY_BYTES = 2**26  # of a .json file, which is read as a whole
BATCH_ROWS = 256
PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
FORMS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
REFUSED = {
    b"PK\x03\x04": "a zip archive (.zip, .docx, .epub): unpack it and register the text",
    b"%PDF": "a PDF: extract its text first",
    b"ARROW1": "an Arrow file: write it with `dataset.to_parquet(FILE)`",
    b"\xff\xff\xff\xff": "an Arrow stream: write it with `dataset.to_parquet(FILE)`",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"\x93NUMPY": "an array of numbers: register the text itself, which every suite tokenizes",
    b"7z\xbc\xaf": "a 7z archive: unpack it and register the text",
    b"SQLite": "a database: export its text",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run `git lfs pull`",
}
INSIDE = {  # a packed file, at this place
    (b"PAR1", 0): "a packed Parquet file: unpack it, it is compressed within",
    (b"ustar", 257): "an archive of files (tar): unpack it and register the files",
    (b"WARC/", 0): "an archive of web pages (WARC): extract their text first",
}
csv.field_size_limit(MAX_BYTES)  # the library's 131,072 characters are fewer than a book has


class DataFileError(ValueError):
    """A file that cannot be read as data; the message names the line and the remedy."""


@dataclass(frozen=True)
class DataFile:
    """An open data file.

    Attributes:
        path: as users named it, for messages.
        file: its content, unpacked and bounded.
        form: text, jsonl, json, csv, tsv or parquet.
        packing: gzip, zstd, bzip2, xz, or empty.
    """

    path: Path
    file: BinaryIO
    form: str
    packing: str = ""

    def rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield ("line 3", row) for each row; blank lines are skipped. Raises DataFileError."""
        readers = {
            "jsonl": self._json_lines,
            "json": self._json,
            "csv": self._csv,
            "tsv": self._tsv,
            "parquet": self._parquet,
        }
        try:
            yield from readers[self.form]()
        except UnicodeDecodeError as error:
            raise DataFileError(f"{self.path} is not UTF-8 text ({error.reason})") from error

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, numbered, without a byte order mark."""
        for number, line in enumerate(self.file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip("\r\n ") or "\t" in text:
                yield number, text

    def _json_lines(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, line in self._lines():
            yield f"line {number}", self._object(line, f"line {number}")

    def _json(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the objects of an array, or those of JSON lines that are named .json."""
        if self._starts_with(b"{\n") or self._starts_with(b"{\r\n"):
            raise DataFileError(
                f"{self.path} holds one JSON object over several lines: write an array of objects, "
                "or an object per line (.jsonl)"
            )
        if not self._starts_with(b"["):
            yield from self._json_lines()
            return
        content = self.file.read(MAX_ARRAY_BYTES + 1)
        if len(content) > MAX_ARRAY_BYTES:
            raise DataFileError(
                f"{self.path} is larger than {MAX_ARRAY_BYTES >> 20} MiB: write JSON lines (.jsonl)"
            )
        entries = self._parsed(content.decode("utf-8-sig"), "the array")
        for number, entry in enumerate(entries, start=1):
            yield f"entry {number}", self._mapping(entry, f"entry {number}")

    def _starts_with(self, mark: bytes) -> bool:
        peeked = cast(io.BufferedReader, self.file).peek(64)
        return peeked.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(mark)

    def _object(self, text: str, where: str) -> Mapping[str, Any]:
        return self._mapping(self._parsed(text, where), where)

    def _parsed(self, text: str, where: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{where} of {self.path} is no JSON object") from error

    def _mapping(self, entry: Any, where: str) -> Mapping[str, Any]:
        if not isinstance(entry, dict):
            raise DataFileError(f"{where} of {self.path} is no JSON object: {kind_of(entry)}")
        return entry

    def _csv(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        lines = io.TextIOWrapper(self.file, "utf-8-sig", newline="")
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, [])
            self._expect_commas(header)
            for values in reader:
                if values:
                    yield self._row(reader.line_num, header, values)
        except csv.Error as error:
            raise DataFileError(f"line {reader.line_num} of {self.path}: {error}") from error
        finally:
            lines.detach()

    def _expect_commas(self, header: list[str]) -> None:
        """Raise DataFileError for a header that other separators cut."""
        separators = {";": "semicolons", "\t": "tabs", "|": "bars"}
        for mark, words in separators.items():
            if len(header) == 1 and mark in header[0]:
                raise DataFileError(
                    f"{self.path} separates its columns by {words}: "
                    + ("name it .tsv" if mark == "\t" else "save it with commas")
                )

    def _tsv(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the rows of a TSV: no quoting, a tab or a line end is never part of a value."""
        header: list[str] | None = None
        for number, line in self._lines():
            values = line.rstrip("\n").rstrip("\r").split("\t")
            if header is None:
                header = values
            else:
                yield self._row(number, header, values)

    def _row(
        self, number: int, header: list[str], values: list[str]
    ) -> tuple[str, Mapping[str, Any]]:
        if len(values) != len(header):
            raise DataFileError(
                f"line {number} of {self.path} has {len(values)} columns, its header {len(header)}"
            )
        return f"line {number}", dict(zip(header, values, strict=True))

    def _parquet(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.ParquetFile(self.file)
            number = 0
            for batch in table.iter_batches(BATCH_ROWS):
                if batch.nbytes > MAX_BYTES:
                    raise DataFileError(too_large(self.path))
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
        except (pa.ArrowException, OSError) as error:
            raise DataFileError(f"{self.path} is no complete Parquet file: {error}") from error


def kind_of(value: Any) -> str:
    """Return what a value is, as JSON calls it: "null", "a list"."""
    if value is None:
        return "null"
    names = {
        bool: "true or false",
        list: "a list",
        dict: "an object",
        str: "a text",
        bytes: "bytes",
    }
    return names.get(type(value), "a number")


def too_large(path: Path) -> str:
    """Return the message about a file that unpacks to too much."""
    return (
        f"{path} holds more than {MAX_BYTES >> 20} MiB unpacked: split it, or write a part of it "
        "as a plain text file, which may have any size"
    )


@contextmanager
def open_data(path: Path, artefacts: Path | None = None) -> Iterator[DataFile]:
    """Open a data file. Raises LocationError, OSError and DataFileError."""
    with open_file(path, artefacts) as raw:
        head = raw.read(32)
        raw.seek(0)
        packing = next((name for mark, name in PACKED.items() if head.startswith(mark)), "")
        suffixes = [suffix.lower() for suffix in path.suffixes]
        if suffixes and suffixes[-1] in PACKED_SUFFIXES:
            suffixes.pop()
        form = FORMS.get(suffixes[-1] if suffixes else "", "text")
        if not packing and head.startswith(b"PAR1"):
            yield DataFile(path, raw, "parquet")
            return
        with suppress(StopIteration):
            reason = next(text for mark, text in REFUSED.items() if head.startswith(mark))
            raise DataFileError(f"{path} is {reason}")
        try:
            stream: Any = _unpacked(raw, packing) if packing else raw
            most = MAX_BYTES if packing else MAX_PLAIN_BYTES
            file = io.BufferedReader(_Bounded(stream, path, most))
            if packing:
                _expect_data(path, file.peek(512)[:512])
            yield DataFile(path, file, form, packing)
        except (EOFError, OSError, ValueError) as error:
            if isinstance(error, DataFileError) or not packing:
                raise
            raise DataFileError(f"{path} is no complete {packing} file") from error


def _expect_data(path: Path, head: bytes) -> None:
    """Raise DataFileError where a packed file holds a format of its own."""
    for (mark, place), reason in INSIDE.items():
        if head[place:].startswith(mark):
            raise DataFileError(f"{path} is {reason}")


def _unpacked(file: BinaryIO, packing: str) -> Any:
    if packing == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=file)
    if packing == "bzip2":
        import bz2

        return bz2.BZ2File(file)
    if packing == "xz":
        import lzma

        return lzma.LZMAFile(file)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `most` bytes."""

    def __init__(self, source: Any, path: Path, most: int) -> None:
        self._source, self._path, self._most, self._done = source, path, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._source.read(len(buffer))
        except Exception as error:  # zlib, lzma and Arrow have each their own
            raise EOFError(str(error)) from error
        self._done += len(part)
        if self._done > self._most:
            raise DataFileError(too_large(self._path))
        buffer[: len(part)] = part
        return len(part)
