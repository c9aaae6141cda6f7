"""Sizes of what a request may contain: no text, list or object in it is of any size.

A test walks all requests and specs, and fails on a field without a bound.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

MAX_REVISIONS = 10_000  # of a suite

Name = Annotated[str, Field(max_length=200)]  # of a suite, user, label, revision, or a hash
FilePath = Annotated[str, Field(max_length=4096)]
Prose = Annotated[str, Field(max_length=100_000)]  # descriptions, notes, reasons
Log = Annotated[str, Field(max_length=2_000_000)]  # tracebacks and ends of logs
Cursor = Annotated[str, Field(max_length=2000)]  # of a page, in a URL
Names = Annotated[list[Name], Field(max_length=100)]
Pattern = Annotated[str, Field(max_length=200)]  # a shell pattern, matched in linear time
JsonObject = Annotated[dict[str, Any], Field(max_length=1000)]
