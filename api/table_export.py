"""Found measurements as a file, made while it is sent: a column per label and metric, inf and NaN as such."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from db import explorer
from db.session import open_session
from ucurve.schemas.experiments import restored

CHUNK = 5_000  # rows held at one time
FIXED = {
    "id": "integer", "identity": "string", "repeat": "integer", "kind": "string", "evaluation": "string", "state": "string",
    "finished_at": "moment", "error": "string",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the file: a label or a metric under its name, or under another where that is taken."""

    name: str
    source: str  # "fixed", "label" or "metric"
    of: str
    type: str  # "integer", "number", "string", "boolean", or "json" where they are mixed

    def value(self, row: Row[Any], metrics: dict[str, float]) -> Any:
        if self.source == "fixed":
            return getattr(row, self.of)
        found = (row.labels if self.source == "label" else metrics).get(self.of)
        return json.dumps(found) if self.type == "json" and found is not None else found


def columns(session: Session, sought: explorer.Sought) -> list[Column]:
    found = [Column(name, "fixed", name, type) for name, type in FIXED.items()]
    for row in explorer.names(session, sought):
        taken = {column.name for column in found}
        if row.source == "label" and row.name in FIXED:
            continue  # says the same
        name = row.name if row.name not in taken else f"{row.source} {row.name}"
        found.append(
            Column(name, row.source, row.name, "number" if row.source == "metric" else row.type)
        )
    return found


def chunks(sought: explorer.Sought) -> Iterator[tuple[list[Column], list[list[Any]]]]:
    """The columns, and rows of values; first without any row. All from one snapshot of the database."""
    with open_session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        wanted = columns(session, sought)
        yield wanted, []
        for rows in explorer.all_points(session, sought, CHUNK):
            numbers = [restored(row.metrics, row.nonfinite) for row in rows]
            yield (
                wanted,
                [
                    [c.value(row, metrics) for c in wanted]
                    for row, metrics in zip(rows, numbers, strict=True)
                ],
            )


def csv_parts(sought: explorer.Sought) -> Iterator[bytes]:
    """A header, then a line per point."""
    out = io.StringIO()
    writer = csv.writer(out)
    for wanted, rows in chunks(sought):
        writer.writerows(rows or [[column.name for column in wanted]])
        yield out.getvalue().encode()
        out.seek(0)
        out.truncate()


def parquet_parts(sought: explorer.Sought) -> Iterator[bytes]:
    """A row group per chunk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "moment": pa.timestamp("us", tz="UTC"),
    }
    out = Written()
    writer: pq.ParquetWriter | None = None
    for wanted, rows in chunks(sought):
        schema = pa.schema(
            [(column.name, types.get(column.type, pa.string())) for column in wanted]
        )
        writer = writer or pq.ParquetWriter(out, schema, compression="zstd")
        if rows:
            by_column = [
                pa.array(values, field.type)
                for values, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(by_column, schema=schema))
        yield out.taken()
    assert writer is not None, "the first chunk has the columns"
    writer.close()
    yield out.taken()


class Written(io.RawIOBase):
    """What was written and not yet taken away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._length += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
