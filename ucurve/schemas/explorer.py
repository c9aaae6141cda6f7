"""What is looked for over all measurements, and what is found: filters, pivots, points, and what there is to choose from.

    Sought(suite=["tiny"], where=["scale=init_std", "gamma>=0.1"], tokens_from=1_000_000)

A condition is a label, one of = >= <=, and a value; several with = on the same label are alternatives.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ucurve.schemas.measurements import MeasurementState, NonFinite

Aggregate = Literal["mean", "median", "min", "max", "count"]
CONDITION = re.compile(r"([^<>=]+)(<=|>=|=)(.*)", re.DOTALL)
LOSS, PERPLEXITY = "nll_mean", "perplexity"  # the second is exp of the first, taken after averaging


def condition(text: str) -> tuple[str, str, Any]:
    """(label, comparison, value): numbers, true, false and null are read as such. Raises ValueError saying how to write it."""
    found = CONDITION.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{text!r} is no condition: write a label, one of = >= <=, and a value, such as gamma=0.1"
        )
    name, comparison, typed = (part.strip() for part in found.groups())
    try:
        value = json.loads(typed)
    except ValueError:
        value = typed
    if isinstance(value, list | dict):
        value = typed
    if comparison != "=" and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise ValueError(f"{text!r}: {comparison} compares numbers")
    return name, comparison, value


def _readable(text: str) -> str:
    condition(text)
    return text


class PointFilter(BaseModel):
    """Which measurements; what is empty does not restrict."""

    model_config = ConfigDict(extra="forbid")

    suite: list[str] = []
    kind: list[str] = []
    evaluation: list[str] = Field([], description="Evaluation sets.")
    tokens_from: int | None = Field(None, ge=0, le=2**62)
    tokens_to: int | None = Field(None, ge=0, le=2**62)
    where: list[Annotated[str, AfterValidator(_readable)]] = Field(
        [],
        max_length=50,
        description="Conditions on labels as they were first planned: gamma=0.1, scale=init_std, learning_rate>=0.001.",
    )
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    repeats: bool = Field(
        False,
        description="Also numbers that were asked for afresh: the same point measured once more.",
    )


class PointStateFilter(PointFilter):
    """Which measurements in which states."""

    state: list[MeasurementState] = ["done"]


class PointPageQuery(PointStateFilter):
    """A page of them."""

    before: int | None = Field(None, description="`next` of the last page.")
    limit: int = Field(100, ge=1, le=1000)


class TableQuery(PointStateFilter):
    """All of them, as a file."""

    format: Literal["csv", "parquet"] = "csv"


class PivotQuery(PointFilter):
    """What is laid out how."""

    rows: str = Field("tokens", description="A label, or one of suite, kind, evaluation, tokens.")
    columns: str | None = Field(None, description="The same; empty: one column.")
    metric: str = Field(LOSS, description="perplexity is exp of the mean of nll_mean.")
    aggregate: Aggregate = "mean"


class Cell(BaseModel):
    """One cell. A mean over numbers of which one is not finite is not finite either; a median is of all of them. What is not finite
    or missing is counted, never left out silently.
    """

    row: Any
    column: Any = None
    value: (
        float | None
    )  # None: there is no number, it is not finite, or the perplexity is beyond all numbers
    low: float | None = None  # of a mean: one standard error below and above
    high: float | None = None
    num: int  # finite numbers
    pos_inf: int = 0
    neg_inf: int = 0
    nan: int = 0
    missing: int = 0  # finished points without this metric


class Pivot(BaseModel):
    """The cells, in the order of rows and columns."""

    cells: list[Cell]
    num_points: int
    averaged_over: dict[
        str, int
    ] = {}  # further labels that a cell may mix, with how many values; repeats such as draws are not here
    repeated_over: dict[str, int] = {}  # draws and seeds, of which the standard error speaks


class PointRow(BaseModel):
    """A measurement under the labels with which it was first planned."""

    id: int
    identity: str
    repeat: int
    kind: str
    suite: str | None
    tokens: int | None
    evaluation: str | None
    labels: dict[str, Any]
    state: MeasurementState
    metrics: dict[str, float | None]
    nonfinite: dict[str, NonFinite]
    error: str | None
    finished_at: datetime | None


class PointPage(BaseModel):
    """A page, the newest first; ask again with `before=next`."""

    points: list[PointRow]
    next: int | None


class LabelFacet(BaseModel):
    """A label and its values, among all that was ever planned in the same places; none are listed where there are over 200."""

    name: str
    num_values: int
    values: list[Any]


class Facets(BaseModel):
    """What there is to choose from. Suites, kinds and evaluation sets are those of the whole database, labels those within the
    chosen ones; metrics are those of the latest 100 points of each chosen kind.
    """

    suites: list[str]
    kinds: list[str]
    evaluations: list[str]
    labels: list[LabelFacet]
    metrics: list[str]
