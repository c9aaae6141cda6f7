"""The contract of an experiment type: fields, plan(), run(), figures(), verdicts().

One experiment type is one file in `ucurve/experiments/`:

    class CoinFlips(Spec):
        "How often does a coin of given bias show heads?"
        kind: Literal["coin_flips"] = "coin_flips"
        biases: list[float] = Field([0.5], description="Probability of heads.")

        def plan(self, catalogue):
            for bias in self.biases:
                yield Point(inputs={"protocol": "coin/1", "bias": bias}, labels={"bias": bias})

        @staticmethod
        def run(point, context):
            return Result(metrics={"heads": flip(point.inputs["bias"])})

The form, the OpenAPI schema, the workers and the contract tests discover it; no other file names
it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import ConfigDict, Field

from ucurve.bounds import MAX_REVISIONS as MAX_REVISIONS
from ucurve.bounds import Name as Name
from ucurve.bounds import Pattern as Pattern
from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.canonical_json import canonical as canonical
from ucurve.schemas.deprecated_contract import (
    COLUMN_NAMES,
    RenamedPointFields,
    RenamedSpecAttributes,
    renamed,
)
from ucurve.schemas.deprecated_names import adapt_figures, adopt_old_names, renamed_arguments
from ucurve.schemas.results import Figure as Figure
from ucurve.schemas.results import Verdict as Verdict
from ucurve.schemas.strict_numbers import StrictNumbers

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class SpecError(ValueError):
    """A valid spec that cannot be planned with the registered suites and datasets.

    Names the field and the fix.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class PointInterrupted(Exception):  # noqa: N818 - an event, not an error
    """Raised by `Context.progress`: the point is no longer needed, or the worker shuts down."""


Stopped = PointInterrupted  # the old name, for one release


@dataclass(frozen=True)
class Resources:
    """Requirements of a point on its worker."""

    device: Literal["any", "cuda"] = "any"
    memory_gb: float = 0.0


Requires = Resources  # the old name, for one release


@renamed_arguments(renamed(RenamedPointFields))
@dataclass(frozen=True)
class Point(RenamedPointFields):
    """One planned measurement, plain JSON.

    Attributes:
        inputs: everything that determines the result, each step of the protocol with its version.
            Their hash is the identity under which all experiments share the result, so that they
            contain neither the experiment type nor names.
        labels: columns of the experiment's table: suite, revision, tokens, gamma, seed.
        artifacts: where to find what `inputs` names by hash; not part of the identity.
        affinity: points with the same value run cheaply in sequence (same checkpoint loaded).
        priority_stage: lower stages run first, so that every curve is readable early.
        estimated_seconds: rough cost on one CPU core, for slices and the first estimate only.
        resources: requirements on the worker.
        repetition: 0 for the result that all experiments share; above 0 the point is re-measured
            without reusing files of earlier measurements.
    """

    inputs: Mapping[str, Any]
    labels: Mapping[str, Any]
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    affinity: str = ""
    priority_stage: int = 0
    estimated_seconds: float = 1.0
    resources: Resources = Resources()
    repetition: int = 0

    @property
    def identity(self) -> str:
        """SHA-256 of the canonical JSON of `inputs`, in hex."""
        return hashlib.sha256(canonical(self.inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """The outcome of one measurement.

    Attributes:
        metrics: scalars; inf and NaN are allowed and stored as a state, not as a number.
        series: curves, such as loss sums per window or the training loss.
        suite: the suite that this point created or extended, with its name, evaluation set, recipe
            and new checkpoints; recorded in the transaction that finishes the point.
    """

    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    suite: Suite | None = None


class Context(Protocol):
    """The runtime as a running point sees it."""

    device: str  # "cpu" or "cuda"
    state_dir: Path  # folder of this measurement, shared by all workers, to resume from
    artefacts: Path  # root of everything that outlives a measurement: suites, hub cache, texts

    def progress(self, done: float, total: float, **metrics: float) -> None:
        """Report progress; metrics become live curves.

        Raises PointInterrupted when the point must stop.
        """

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """Return the value cached under `key` in this process, or make it. The cache is small."""


class Catalogue(Protocol):
    """Registered suites and datasets, for plan().

    suite() and dataset() raise SpecError naming `field` when the name is not registered.
    """

    def suite(self, name: str, field: str = "suite") -> Suite: ...
    def find_suite(self, name: str) -> Suite | None: ...
    def dataset(self, name: str, field: str = "evaluation") -> Dataset: ...


def _summary(value: Any) -> Any:
    """Format a list of numbers as their range, "0.05 to 0.3", and other lists by their items."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if all(isinstance(member, int | float) for member in value):
        return f"{min(value):g} to {max(value):g}" if len(value) > 1 else f"{value[0]:g}"
    return ", ".join(map(str, value))


@dataclass(frozen=True)
class TableRoles:
    """Roles of labels and metrics in comparisons of experiments; empty roles are guessed.

    Attributes:
        x: the label that advances with pre-training.
        treatment: labels of the change, its size first.
        baseline: labels and values of a row before any change.
        fixed: labels of the measurement that are the same before and after the change.
        draws: labels that distinguish repetitions.
        seed_field: field of the spec with the seed of the first draw.
        metrics: metrics to plot, each with its name and unit.
        series: metric -> series with its draws, for points of several draws.
        fields: fields of the spec that select the points; all others define the measurement.
    """

    x: str = ""
    treatment: Sequence[str] = ()
    baseline: Mapping[str, Any] = field(default_factory=dict)
    fixed: Sequence[str] = ()
    draws: Sequence[str] = ()
    seed_field: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = ()


@renamed_arguments(COLUMN_NAMES)
class Columns(TableRoles):
    """The old name of TableRoles, for one release."""


# `json_schema_extra` of fields that the form shows under "More settings".
ADVANCED: dict[str, Any] = {"advanced": True}
Looks = Annotated[
    int,
    Field(
        ge=1,
        le=50,
        title="Interim looks so far",
        description="How often these verdicts were read before, with fewer seeds; adding seeds "
        "counts on. Each interim look spends part of the 5 % error rate, so that adding seeds "
        "until the answer is yes does not work.",
        json_schema_extra=ADVANCED,
    ),
]


class Spec(RenamedSpecAttributes, StrictNumbers):
    """Base of every experiment type. The docstring of a subclass is the help text of its form.

    Fields have a title, a description and bounds. The form also reads `json_schema_extra`:
    {"unit": "s"}; {"widget": "suite"} and {"widget": "dataset"} to select a registered name;
    ADVANCED.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    # Title of the experiment type; derived from `kind` when empty.
    title: ClassVar[str] = ""
    # Position in the list of experiment types; the form opens on the lowest.
    order: ClassVar[int] = 9
    # Default name of an experiment; braces hold attributes of the spec.
    name_template: ClassVar[str] = "{title}"
    # Named initial values of the form.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    # The preset that the form opens with; None: the defaults of the fields.
    opens_with: ClassVar[str | None] = None
    # False where re-measuring would overwrite files of the first measurement.
    repeatable: ClassVar[bool] = True
    # Fields with a number of draws or a list of seeds.
    repeat_fields: ClassVar[Sequence[str]] = ()
    columns: ClassVar[TableRoles] = TableRoles()
    # Series -> labels of the rows whose series figures and verdicts read; all rows when missing.
    series_filter: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Adapt an experiment type written for the previous version, with a DeprecationWarning."""
        super().__pydantic_init_subclass__(**kwargs)
        adopt_old_names(cls, renamed(RenamedSpecAttributes))
        adapt_figures(cls)

    def default_name(self) -> str:
        """Return the default name: "Fine-tuning of tiny, learning rate 0.003, full"."""
        fields = {
            name
            for _, name, _, _ in Formatter().parse(self.name_template)
            if name and name != "title"
        }
        return self.name_template.format(
            title=self.kind_title(), **{name: _summary(getattr(self, name)) for name in fields}
        )

    @classmethod
    def kind_title(cls) -> str:
        """Return the title of the experiment type."""
        return cls.title or str(cls.model_fields["kind"].default).replace("_", " ")

    def first_seed(self, labels: Mapping[str, Any]) -> int:
        """Return the seed of the first draw at a point with these labels; later ones count on."""
        return int(getattr(self, self.columns.seed_field)) if self.columns.seed_field else 0

    def with_more_draws(self, more: int) -> Self | None:
        """Return the spec with `more` additional draws or seeds, None without repeat_fields.

        Raises pydantic.ValidationError when a field exceeds its bounds.
        """
        if not self.repeat_fields:
            return None
        fields = self.model_dump(mode="json")
        for name in self.repeat_fields:
            current = fields[name]
            if isinstance(current, list):
                unused = (seed for seed in itertools.count() if seed not in current)
                fields[name] = [*current, *itertools.islice(unused, more)]
            else:
                fields[name] = current + more
        if "looks" in fields:
            fields["looks"] += 1
        return type(self).model_validate(fields)

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield every point, cheap ones first. Pure and bounded.

        Raises SpecError naming the field.
        """
        raise NotImplementedError

    def count(self, catalogue: Catalogue) -> int | None:
        """Return how many points plan() yields, without building them; None where unknown.

        A plan that is too large is refused by this number. Raises SpecError as plan() does.
        """
        return None

    def warnings(self, catalogue: Catalogue) -> list[str]:
        """Return what to know about the plan, such as parts that are left out, each with its field.

        Raises SpecError as plan() does.
        """
        return []

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Measure one point on a worker. Only the point determines the result."""
        raise NotImplementedError

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return the figures of the rows measured so far, by short name.

        verdicts: verdicts of the table or of an earlier state of it; empty while they are being
            computed. Figures draw their evidence (minima, intervals) and compute none.
        """
        return {}

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the verdicts that the data supports; 'undetermined' is one of the answers."""
        return []
