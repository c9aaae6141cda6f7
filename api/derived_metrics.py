"""Metrics that rows have when they are read: derived from stored ones, and stored nowhere."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from ucurve.schemas.bits_per_byte import with_bits_per_byte


def with_derived_metrics(row: Row[Any]) -> dict[str, Any]:
    """Return a row of the database with bits per byte, where the bytes of its text are known."""
    fields = dict(row._mapping)
    tokens_per_byte = fields.pop("tokens_per_byte", None)
    metrics, nonfinite = with_bits_per_byte(fields["metrics"], fields["nonfinite"], tokens_per_byte)
    return {**fields, "metrics": metrics, "nonfinite": nonfinite}
