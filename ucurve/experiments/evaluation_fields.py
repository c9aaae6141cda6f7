"""Fields of a spec that say on which text a model is evaluated, and in which windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from ucurve.spec import ADVANCED, Name

EvaluationSet: TypeAlias = Annotated[
    Name | None,
    Field(
        title="Evaluation set",
        description="Default: that of the suite.",
        json_schema_extra={"widget": "dataset"},
    ),
]
MAX_SETS = 8  # as many as a fine-tuning measures


def _distinct(evaluation: str | list[str] | None) -> str | list[str] | None:
    """Return a list of one name as the name: both are the same experiment, with the same labels."""
    if not isinstance(evaluation, list):
        return evaluation
    twice = [name for name in dict.fromkeys(evaluation) if evaluation.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is listed twice: name every evaluation set once")
    return evaluation if len(evaluation) > 1 else evaluation[0]


EvaluationSets: TypeAlias = Annotated[
    Name | Annotated[list[Name], Field(min_length=1, max_length=MAX_SETS)] | None,
    AfterValidator(_distinct),
    Field(
        title="Evaluation sets",
        description="Default: that of the suite. With several, every model is measured on each, "
        "and a verdict says on how many of them a claim holds.",
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


def names_of(evaluation: str | Sequence[str] | None) -> list[str]:
    """Return the named evaluation sets; empty for that of the suite."""
    if evaluation is None:
        return []
    return [evaluation] if isinstance(evaluation, str) else list(evaluation)


def on_sets(evaluation: str | Sequence[str] | None) -> str:
    """Return the end of an experiment's default name: " on 2 evaluation sets"; empty for one."""
    num = len(names_of(evaluation))
    return f" on {num} evaluation sets" if num > 1 else ""
