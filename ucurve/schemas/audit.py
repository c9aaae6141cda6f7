"""The audit trail: who changed what, when and from where."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SOURCE_HEADER = "Ucurve-Client"
Source = Literal["api", "python", "cli", "dashboard", "lab"]
CLIENT_SOURCES: tuple[Source, ...] = ("python", "cli", "dashboard")  # what clients may say


class AuditRecord(BaseModel):
    """One change."""

    id: int = Field(description="Number of the record; later records have higher ones.")
    at: datetime = Field(description="Time of the change.")
    user: str = Field(description="Name of the user who made it.")
    token: int | None = Field(description="Id of the access token in use; null without one.")
    action: str = Field(description="What was done, such as submit, cancel or revoke.")
    object: str = Field(description="What it was done to, such as experiment 7.")
    source: Source = Field(
        description="What the client calls itself: dashboard, cli, python; api: another program; "
        "lab: the lab at its start."
    )
    address: str | None = Field(description="Address that the request came from.")
    details: dict[str, Any] = Field(description="Fields of the request, without secrets.")


class AuditFilter(BaseModel):
    """Which records; an empty field does not restrict."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(None, max_length=200, description="Name of the user.")
    action: str | None = Field(None, max_length=200, description="Action, such as cancel.")
    object: str | None = Field(None, max_length=500, description="Object, such as experiment 7.")
    since: datetime | None = Field(None, description="At this time or later.")
    until: datetime | None = Field(None, description="Before this time.")


class AuditQuery(AuditFilter):
    """A page of matching records."""

    before: int | None = Field(
        None, ge=1, le=2**63 - 1, description="`next` of the previous page; omit it for the first."
    )
    limit: int = Field(100, ge=1, le=1000, description="Maximum number of records.")


class AuditPage(BaseModel):
    """A page of records, newest first."""

    records: list[AuditRecord] = Field(description="The records.")
    next: int | None = Field(description="`before` of the next page; null: this is the last one.")
