"""Search of experiments: filters, order, pages and filter options."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.bounds import Names
from ucurve.schemas.experiments import ExperimentState

Order = Literal["newest", "oldest", "name", "owner", "state", "progress", "finished"]


class ExperimentFilter(BaseModel):
    """Which experiments; an empty field does not restrict."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(
        "", max_length=500, description="Words; each must occur in name, notes or tags."
    )
    tag: Names = Field([], description="Tags; an experiment must have all of them.")
    kind: Names = Field([], description="Experiment types.")
    suite: Names = Field([], description="Suites.")
    owner: Names = Field([], description='User names; "me" is the current user.')
    state: list[ExperimentState] = Field([], max_length=20, description="States.")
    created_after: datetime | None = Field(None, description="Submitted at this time or later.")
    created_before: datetime | None = Field(None, description="Submitted before this time.")
    starred: bool = Field(False, description="Only experiments that the current user has starred.")
    archived: Literal["no", "also", "only"] = Field("no", description="Archived experiments.")


class ExperimentQuery(ExperimentFilter):
    """A page of matching experiments."""

    sort: Order = Field("newest", description="Order of the experiments.")
    limit: int = Field(50, ge=1, le=500, description="Experiments per page.")
    offset: int = Field(0, ge=0, le=2**31, description="Number of experiments to skip.")


class FilterOptions(BaseModel):
    """Values in use that experiments can be filtered by, the most frequent first."""

    kinds: list[str] = Field(description="Experiment types.")
    suites: list[str] = Field(description="Suites.")
    owners: list[str] = Field(description="Users with experiments.")
    tags: list[str] = Field(description="Tags.")
