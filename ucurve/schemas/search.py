"""What is asked of the list of experiments."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.schemas.experiments import ExperimentState

Order = Literal["newest", "oldest", "name", "owner", "state", "progress", "finished"]


class ExperimentFilter(BaseModel):
    """Filters; what is empty does not restrict."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field("", max_length=500, description="Words, each found in name, notes or tags.")
    tag: list[str] = Field([], description="All of these.")
    kind: list[str] = []
    suite: list[str] = []
    owner: list[str] = Field([], description='Names; "me" is whoever asks.')
    state: list[ExperimentState] = []
    created_after: datetime | None = Field(None, description="Submitted at this moment or later.")
    created_before: datetime | None = Field(None, description="Submitted before this moment.")
    starred: bool = Field(False, description="Only those that whoever asks has starred.")
    archived: Literal["no", "also", "only"] = "no"


class ExperimentQuery(ExperimentFilter):
    """A page of them."""

    sort: Order = "newest"
    limit: int = Field(50, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**31)


class FilterOptions(BaseModel):
    """What experiments can be filtered by, the most used first."""

    kinds: list[str]
    suites: list[str]
    owners: list[str]
    tags: list[str]
