"""Write matching measurements as CSV or Parquet while they are sent.

A column per label and metric; inf and NaN are written as such.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from api.derived_metrics import with_derived_metrics
from db import explorer
from db.explorer import MeasurementFilter
from db.session import allow_idle, open_session
from ucurve.csv_cells import plain_row
from ucurve.schemas.measurements import decode_metrics

CHUNK_ROWS = 5_000  # held in memory at one time
MAX_CHUNK_SECONDS = 300  # in which the client has to read a chunk
FIXED = {
    "id": "integer",
    "identity": "string",
    "repeat": "integer",
    "kind": "string",
    "evaluation": "string",
    "state": "string",
    "finished_at": "moment",
    "error": "string",
}


@dataclass(frozen=True)
class Column:
    """A column of the file: a label or metric under its name, or another where that is taken."""

    name: str
    source: str  # "fixed", "label" or "metric"
    of: str
    type: str  # "integer", "number", "string", "boolean", "moment", or "json" where they are mixed

    def value(self, row: Row[Any], metrics: dict[str, float]) -> Any:
        """Return the cell of a row."""
        if self.source == "fixed":
            return getattr(row, self.of)
        value = (row.labels if self.source == "label" else metrics).get(self.of)
        if value is None or self.type not in ("json", "number"):
            return value
        # Rows of earlier releases have large floats as integers that no column takes.
        return json.dumps(value) if self.type == "json" else float(value)


def columns(session: Session, where: MeasurementFilter) -> list[Column]:
    """Return the columns of the matching measurements."""
    columns = [Column(name, "fixed", name, type) for name, type in FIXED.items()]
    for row in explorer.names(session, where):
        taken = {column.name for column in columns}
        if row.source == "label" and row.name in FIXED:
            continue  # a copy of the fixed column
        name = row.name if row.name not in taken else f"{row.source} {row.name}"
        type = "number" if row.source == "metric" else row.type
        columns.append(Column(name, row.source, row.name, type))
    return columns


def chunks(where: MeasurementFilter) -> Iterator[tuple[list[Column], list[list[Any]]]]:
    """Yield the columns with rows of values, first without any row.

    All from one snapshot of the database. The transaction is idle while a chunk travels to the
    client. It locks no row, so a slow client delays no one, and its time is limited all the same.
    """
    with open_session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        allow_idle(session, MAX_CHUNK_SECONDS)
        header = columns(session, where)
        yield header, []
        for rows in explorer.all_points(session, where, CHUNK_ROWS):
            yield header, [_values(row, header) for row in rows]


def _values(row: Row[Any], header: list[Column]) -> list[Any]:
    fields = with_derived_metrics(row)
    metrics = decode_metrics(fields["metrics"], fields["nonfinite"])
    return [column.value(row, metrics) for column in header]


def csv_parts(where: MeasurementFilter) -> Iterator[bytes]:
    """Yield a header, then a line per point."""
    out = io.StringIO()
    writer = csv.writer(out)
    for header, rows in chunks(where):
        lines = rows or [[column.name for column in header]]
        writer.writerows(plain_row(line) for line in lines)
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()


def parquet_parts(where: MeasurementFilter) -> Iterator[bytes]:
    """Yield a row group per chunk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "moment": pa.timestamp("us", tz="UTC"),
    }
    out = ByteQueue()
    writer: pq.ParquetWriter | None = None
    for header, rows in chunks(where):
        schema = pa.schema([(c.name, types.get(c.type, pa.string())) for c in header])
        writer = writer or pq.ParquetWriter(out, schema, compression="zstd")
        if rows:
            by_column = [
                pa.array(values, field.type)
                for values, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(by_column, schema=schema))
        yield out.pop()
    assert writer is not None, "the first chunk has the columns"
    writer.close()
    yield out.pop()


class ByteQueue(io.RawIOBase):
    """A file that is written to while its contents are taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        """Return True: it is a file to write to."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._length

    def write(self, part: Any) -> int:
        """Append bytes."""
        self._parts.append(bytes(part))
        self._length += len(self._parts[-1])
        return len(self._parts[-1])

    def pop(self) -> bytes:
        """Return what was written since the last call."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
