"""Fields of a spec that say on which text a model is evaluated, and in which windows."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from ucurve.spec import ADVANCED, Name

EvaluationSet: TypeAlias = Annotated[
    Name | None,
    Field(
        title="Evaluation set",
        description="Default: that of the suite.",
        json_schema_extra={"widget": "dataset"},
    ),
]
Window: TypeAlias = Annotated[
    int | None,
    Field(
        ge=2,
        le=1 << 20,
        description="Tokens per window. Default: 1024, or a row of the built-in language.",
        json_schema_extra=ADVANCED,
    ),
]
Stride: TypeAlias = Annotated[
    int | None,
    Field(
        ge=1,
        le=1 << 20,
        description="Tokens between the starts of windows. Default: the window.",
        json_schema_extra=ADVANCED,
    ),
]
