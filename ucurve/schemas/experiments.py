"""Experiments: submission, preview, progress, list pages, edits and extensions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ucurve.bounds import JsonObject
from ucurve.schemas.strict_numbers import StrictNumbers
from ucurve.schemas.webhooks import Webhook

ExperimentState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
MAX_NAME, MAX_TAGS, MAX_NOTES, MAX_PRIORITY = 200, 20, 20_000, 10
PRIORITY = "Among your own experiments, higher priority runs first."
WEBHOOK = "URL to notify when the experiment finishes or fails. Requests are signed."
Stripped = StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME)
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]


class Submission(StrictNumbers):
    """A new experiment. `spec` is validated against the experiment types of the server."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        "", max_length=MAX_NAME, description="Shown in lists; generated from the spec when empty."
    )
    tags: list[Tag] = Field(default=[], max_length=MAX_TAGS, description="Labels to filter by.")
    notes: str = Field("", max_length=MAX_NOTES, description="Markdown.")
    priority: int = Field(0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description=PRIORITY)
    webhook: Webhook | None = Field(None, description=WEBHOOK)
    fresh: bool = Field(
        False,
        description="Re-measure everything, ignoring cached results, and compare with them: see "
        "/v1/experiments/{id}/agreement.",
    )
    spec: JsonObject = Field(
        description="What to measure; `kind` selects the experiment type, its fields follow."
    )


class PlanPreview(BaseModel):
    """What a submission would measure."""

    num_points: int = Field(description="Points of the experiment.")
    num_existing: int = Field(description="Cached points, whose results are available at once.")
    num_running: int = Field(description="Points already queued or running, which are shared.")
    num_new: int = Field(description="Points that nothing has measured yet.")
    num_again: int = Field(0, description="Cached points that would be re-measured (`fresh`).")
    estimated_seconds: float | None = Field(
        description="Estimated time on the live workers; null when none can run it."
    )
    num_workers: int = Field(description="Live workers that can run at least one of the points.")
    waits_for: str | None = Field(
        None, description="Why nothing would start now, such as a missing GPU, and what to do."
    )
    warnings: list[str] = Field([], description="What to check before submitting.")
    notes: list[str] = Field(
        [], description="Texts in tokens, examples in steps, and what does not fit the context."
    )


class Progress(BaseModel):
    """Point counts of an experiment."""

    total: int = Field(description="All points.")
    done: int = Field(description="Finished points, reused ones included.")
    failed: int = Field(description="Failed points.")
    running: int = Field(description="Points that a worker is measuring now.")
    reused: int = Field(description="Points that were finished before the submission.")
    points_per_second: float | None = Field(None, description="Rate over the last minute.")


class Experiment(BaseModel):
    """An experiment with its state and progress."""

    id: int = Field(description="Number of the experiment, as in #7.")
    name: str = Field(description="Name shown in lists.")
    kind: str = Field(description="Experiment type.")
    owner: str = Field(description="User who submitted it.")
    tags: list[str] = Field(description="Labels to filter by.")
    notes: str = Field(description="Markdown.")
    priority: int = Field(description=PRIORITY)
    state: ExperimentState = Field(
        description="queued: nothing of it runs yet; running: some point is being measured; done: "
        "all points ended and at least one succeeded; failed: none succeeded."
    )
    progress: Progress = Field(description="Point counts.")
    eta_seconds: float | None = Field(description="Estimated time left; null when unknown.")
    waits_for: str | None = Field(
        description="Why nothing runs although there is work, and what to do."
    )
    created_at: datetime = Field(description="Time of submission.")
    started_at: datetime | None = Field(description="Time when its first point started.")
    finished_at: datetime | None = Field(description="Time when its last point ended.")
    url: str = Field(description="URL of this experiment in the API.")
    spec: dict[str, Any] = Field(description="What it measures, complete with defaults.")
    remarks: list[str] = Field(
        [],
        description="What the weights of its checkpoints say against their names, such as two that "
        "are one model; empty in lists.",
    )
    warnings: list[str] = Field(
        [],
        description="What its plan warns of, as in the preview; only in the answer to a "
        "submission.",
    )
    plan_notes: list[str] = Field(
        [],
        description="What its plan says of texts and examples (`notes` of the preview); only in "
        "the answer to a submission.",
    )
    fresh: bool = Field(False, description="Whether it re-measured cached points.")
    archived: bool = Field(False, description="Whether it is hidden from lists by default.")
    starred: bool = Field(False, description="Whether the current user has starred it.")
    webhook: str | None = Field(
        None,
        description="Webhook URL; only its host, unless you are the owner or an admin: the rest "
        "may hold a secret.",
    )


class ExperimentPage(BaseModel):
    """A page of experiments."""

    experiments: list[Experiment] = Field(description="Experiments of this page, in order.")
    total: int = Field(description="Number of matching experiments on all pages.")


class Edit(StrictNumbers):
    """Changes to an experiment: fields in the request change, the others stay."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Stripped] = Field("-", description="Name shown in lists.")
    tags: list[Tag] = Field([], max_length=MAX_TAGS, description="Labels; they replace all tags.")
    notes: str = Field("", max_length=MAX_NOTES, description="Markdown.")
    priority: int = Field(0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description=PRIORITY)
    archived: bool = Field(False, description="Hide it from lists by default.")
    webhook: Webhook | None = Field(None, description=WEBHOOK)


class Extension(StrictNumbers):
    """An extension of an experiment: more draws, changed fields of the spec, or both."""

    model_config = ConfigDict(extra="forbid")

    draws: int | None = Field(
        None, ge=1, le=1000, description="Number of draws or seeds to add to every setting."
    )
    changes: JsonObject = Field(
        {}, description='New values of spec fields: {"gammas": [0.1, 0.2, 0.4]}.'
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Extension:
        if self.draws is None and not self.changes:
            raise ValueError(
                'Give draws (a number), or changes such as {"gammas": [0.1, 0.2, 0.4]}.'
            )
        return self
