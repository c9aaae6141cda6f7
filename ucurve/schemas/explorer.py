"""Explorer: filters, pivots, points and facets of all measurements of the lab.

    PointFilter(suite=["tiny"], where=["scale=init_std", "gamma>=0.1"], tokens_from=1_000_000)

A condition is a label, one of = >= <=, and a value; several with = on one label are alternatives.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ucurve.bounds import Name, Names
from ucurve.schemas.measurements import (
    DERIVED,
    LABELS,
    METRICS,
    NONFINITE,
    REPEAT,
    MeasurementState,
    Metrics,
    NonFinite,
)

Aggregate = Literal["mean", "median", "min", "max", "count"]
CONDITION = re.compile(r"([^<>=]+)(<=|>=|=)(.*)", re.DOTALL)
LOSS, PERPLEXITY = "nll_mean", "perplexity"  # the second is exp of the first, after averaging


def condition(text: str) -> tuple[str, str, Any]:
    """Parse a condition into (label, comparison, value).

    Numbers, true, false and null are read as such. Raises ValueError that says how to write it.

    >>> condition("gamma>=0.1")
    ('gamma', '>=', 0.1)
    """
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not a condition: write a label, one of = >= <=, and a value, such as "
            "gamma=0.1"
        )
    name, comparison, literal = (part.strip() for part in match.groups())
    try:
        value = json.loads(literal)
    except ValueError:
        value = literal
    if isinstance(value, list | dict):
        value = literal
    if comparison != "=" and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise ValueError(f"{text!r}: {comparison} compares numbers")
    return name, comparison, value


def _check_condition(text: str) -> str:
    condition(text)
    return text


class PointFilter(BaseModel):
    """Which measurements; an empty field does not restrict."""

    model_config = ConfigDict(extra="forbid")

    suite: Names = Field([], description="Suites.")
    kind: Names = Field([], description="Experiment types.")
    evaluation: Names = Field([], description="Evaluation sets.")
    tokens_from: int | None = Field(
        None, ge=0, le=2**62, description="Minimum number of pre-training tokens."
    )
    tokens_to: int | None = Field(
        None, ge=0, le=2**62, description="Maximum number of pre-training tokens."
    )
    where: list[Annotated[Name, AfterValidator(_check_condition)]] = Field(
        [],
        max_length=50,
        description="Conditions on labels: gamma=0.1, scale=init_std, learning_rate>=0.001.",
    )
    finished_after: datetime | None = Field(None, description="Finished at this time or later.")
    finished_before: datetime | None = Field(None, description="Finished before this time.")
    repeats: bool = Field(False, description="Include re-measured results of the same points.")


class PointStateFilter(PointFilter):
    """Which measurements in which states."""

    state: list[MeasurementState] = Field(
        ["done"], max_length=20, description="States of the measurements."
    )


class PointPageQuery(PointStateFilter):
    """A page of matching measurements."""

    before: int | None = Field(None, description="`next` of the previous page.")
    limit: int = Field(100, ge=1, le=1000, description="Points per page.")


class TableQuery(PointStateFilter):
    """All matching measurements as a file."""

    format: Literal["csv", "parquet"] = Field("csv", description="File format.")


class PivotQuery(PointFilter):
    """What to aggregate, grouped by which labels."""

    rows: Name = Field("tokens", description="A label, or one of suite, kind, evaluation, tokens.")
    columns: Name | None = Field(None, description="As rows; empty: a single column.")
    metric: Name = Field(
        LOSS,
        description="perplexity is exp of the mean of nll_mean; bits_per_byte exists for texts.",
    )
    aggregate: Aggregate = Field("mean", description="How the points of a cell are combined.")


class Cell(BaseModel):
    """One cell of a pivot.

    A mean over numbers of which one is not finite is not finite either; a median is of all of them.
    Numbers that are not finite or missing are counted, never dropped silently.
    """

    row: Any = Field(description="Value of the row label.")
    column: Any = Field(None, description="Value of the column label.")
    value: float | None = Field(
        description="The aggregate; null when there is none, or when it is not finite."
    )
    low: float | None = Field(None, description="Mean minus one standard error.")
    high: float | None = Field(None, description="Mean plus one standard error.")
    num: int = Field(description="Number of finite values.")
    pos_inf: int = Field(0, description="Number of values that are +inf.")
    neg_inf: int = Field(0, description="Number of values that are -inf.")
    nan: int = Field(0, description="Number of values that are NaN.")
    missing: int = Field(0, description="Number of finished points without this metric.")


class Pivot(BaseModel):
    """A metric aggregated by two labels."""

    cells: list[Cell] = Field(description="Cells in the order of rows and columns.")
    num_points: int = Field(description="Number of aggregated points.")
    averaged_over: dict[str, int] = Field(
        {}, description="Other labels that vary within cells, with the number of their values."
    )
    repeated_over: dict[str, int] = Field(
        {}, description="Draws and seeds, which the standard error is over."
    )


class PointRow(BaseModel):
    """A measurement under the labels with which it was first planned."""

    id: int = Field(description="Id of the measurement.")
    identity: str = Field(description="SHA-256 of everything that determines the result.")
    repeat: int = Field(description=REPEAT)
    kind: str = Field(description="Experiment type.")
    suite: str | None = Field(description="Suite of its checkpoint.")
    tokens: int | None = Field(description="Pre-training tokens of its checkpoint.")
    evaluation: str | None = Field(description="Evaluation set.")
    labels: dict[str, Any] = Field(description=LABELS)
    state: MeasurementState = Field(description="open: waiting for a worker.")
    metrics: Metrics = Field(description=METRICS + DERIVED)
    nonfinite: dict[str, NonFinite] = Field(description=NONFINITE)
    error: str | None = Field(description="Last line of a failed point's traceback.")
    finished_at: datetime | None = Field(description="Time when it ended.")


class PointPage(BaseModel):
    """A page of matching measurements."""

    points: list[PointRow] = Field(description="Measurements, last planned first.")
    next: int | None = Field(description="`before` of the next page; null on the last one.")


class LabelFacet(BaseModel):
    """A label with its values."""

    name: str = Field(description="Name of the label.")
    num_values: int = Field(description="Number of its values.")
    values: list[Any] = Field(description="Its values; empty when there are more than 200.")


class Facets(BaseModel):
    """What to filter and group by."""

    suites: list[str] = Field(description="All suites with measurements.")
    kinds: list[str] = Field(description="All experiment types with measurements.")
    evaluations: list[str] = Field(description="All evaluation sets with measurements.")
    labels: list[LabelFacet] = Field(description="Labels within the chosen ones.")
    metrics: list[str] = Field(
        description="Metrics of the latest 100 points of each chosen experiment type."
    )
