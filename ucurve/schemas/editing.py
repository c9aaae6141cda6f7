"""What may be changed of an experiment after it was submitted, and how one is extended, as it travels over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ucurve.schemas.webhooks import Webhook


class Edit(BaseModel):
    """What is PATCHed to /v1/experiments/{id}: the fields that are given change, the others stay."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] = (
        "-"
    )
    tags: list[
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
    ] = Field([], max_length=20)
    notes: str = Field("", max_length=20_000, description="Markdown.")
    priority: int = Field(
        0, ge=-10, le=10, description="Higher is measured first among your own experiments."
    )
    archived: bool = Field(False, description="Left out of the list unless it is asked for.")
    webhook: Webhook | None = Field(
        None, description="Address that is told when the experiment is done or failed."
    )


class Extension(BaseModel):
    """What is POSTed to /v1/experiments/{id}/extend: more draws, other values of fields, or both."""

    model_config = ConfigDict(extra="forbid")

    draws: int | None = Field(
        None, ge=1, le=1000, description="So many further draws, or seeds, of everything."
    )
    changes: dict[str, Any] = Field(
        {}, description='New values of the spec\'s fields: {"gammas": [0.1, 0.2, 0.4]}.'
    )

    @model_validator(mode="after")
    def _something(self) -> Extension:
        if self.draws is None and not self.changes:
            raise ValueError(
                'Give draws (a number), or changes such as {"gammas": [0.1, 0.2, 0.4]}.'
            )
        return self
