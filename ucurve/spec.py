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

The form, the OpenAPI schema, the worker and the contract tests pick it up; nothing else names it.
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

from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.canonical_json import canonical as canonical
from ucurve.schemas.deprecated_names import (
    RenamedAttribute,
    adapt_figures,
    adopt_old_names,
    renamed_arguments,
)
from ucurve.schemas.results import Figure as Figure
from ucurve.schemas.results import Verdict as Verdict
from ucurve.schemas.strict_numbers import StrictNumbers

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class SpecError(ValueError):
    """A valid spec that cannot be planned with these suites and datasets.

    Names field and remedy.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class PointInterrupted(Exception):  # noqa: N818 - an event, not an error
    """The point is no longer needed or the worker is leaving; raised by `Context.progress`."""


Stopped = PointInterrupted  # the old name, for one release


@dataclass(frozen=True)
class Resources:
    """What a worker must have to measure a point."""

    device: Literal["any", "cuda"] = "any"
    memory_gb: float = 0.0


Requires = Resources  # the old name, for one release
POINT_NAMES = {
    "source": "artifacts",
    "group": "affinity",
    "stage": "priority_stage",
    "seconds": "estimated_seconds",
    "requires": "resources",
    "repeat": "repetition",
}


@renamed_arguments(POINT_NAMES)
@dataclass(frozen=True)
class Point:
    """One planned measurement, plain JSON.

    Attributes:
        inputs: everything that determines the number, each step of the protocol with its version.
            Their hash is the identity under which every experiment finds the number again. Never
            the experiment type, never a name.
        labels: columns of the experiment's table: suite, revision, tokens, gamma, seed.
        artifacts: where to find what `inputs` names by hash; not part of the identity.
        affinity: points with the same value are cheap one after another (same checkpoint loaded).
        priority_stage: lower stages come first, so that every curve is readable early.
        estimated_seconds: rough cost on one CPU core, for slices and the first estimate only.
        resources: what a worker must have.
        repetition: 0 for the number that all experiments share; above 0 it is re-measured without
            anything cached from an earlier one.
    """

    inputs: Mapping[str, Any]
    labels: Mapping[str, Any]
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    affinity: str = ""
    priority_stage: int = 0
    estimated_seconds: float = 1.0
    resources: Resources = Resources()
    repetition: int = 0

    source = RenamedAttribute("artifacts")
    group = RenamedAttribute("affinity")
    stage = RenamedAttribute("priority_stage")
    seconds = RenamedAttribute("estimated_seconds")
    requires = RenamedAttribute("resources")
    repeat = RenamedAttribute("repetition")

    @property
    def identity(self) -> str:
        """SHA-256 of the canonical JSON of `inputs`, in hex."""
        return hashlib.sha256(canonical(self.inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """The outcome of one measurement.

    Attributes:
        metrics: scalars; inf and NaN are allowed and are stored as a state, not as a number.
        series: curves, such as loss sums per window or a training loss.
        suite: the suite that this point created or extended: name, evaluation set, recipe, and the
            new checkpoints; recorded in the finishing transaction.
    """

    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    suite: Suite | None = None


class Context(Protocol):
    """What an experiment sees of the runtime."""

    device: str  # "cpu" or "cuda"
    state_dir: Path  # this measurement's folder, shared by all workers, to resume from
    artefacts: Path  # root of what outlives a measurement: suites, hub cache, texts

    def progress(self, done: float, total: float, **metrics: float) -> None:
        """Report progress; metrics become live curves.

        Raises PointInterrupted when it must stop.
        """

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """Return the value cached under `key` in this process, or make it; the cache is small."""


class Catalogue(Protocol):
    """Registered suites and datasets, for plan(). Both raise SpecError when there is none."""

    def suite(self, name: str, field: str = "suite") -> Suite: ...
    def find_suite(self, name: str) -> Suite | None: ...
    def dataset(self, name: str, field: str = "evaluation") -> Dataset: ...


def _summary(value: Any) -> Any:
    """Return a list as text: "0.05 to 0.3" of numbers, else its members."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if all(isinstance(member, int | float) for member in value):
        return f"{min(value):g} to {max(value):g}" if len(value) > 1 else f"{value[0]:g}"
    return ", ".join(map(str, value))


@dataclass(frozen=True)
class TableRoles:
    """Roles of labels and metrics, so that experiments can be compared; empty ones are guessed.

    Attributes:
        x: the label that advances with pre-training.
        treatment: labels of what was changed, its size first.
        baseline: labels and values of a row before any change.
        fixed: labels of what it is measured on, the same before and after.
        draws: labels that distinguish repetitions.
        seed_field: field of the spec with the seed of the first draw.
        metrics: metrics worth a curve, each with its name and unit.
        series: metric -> series that holds its draws, where one point has many.
        fields: fields of the spec that say which points are measured; all others say how.
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


@renamed_arguments(
    {
        "along": "x",
        "change": "treatment",
        "base": "baseline",
        "kept": "fixed",
        "first": "seed_field",
    }
)
class Columns(TableRoles):
    """The old name of TableRoles, for one release."""


# `json_schema_extra` of fields that the form shows under "More settings"
ADVANCED: dict[str, Any] = {"advanced": True}
Looks = Annotated[
    int,
    Field(
        ge=1,
        le=50,
        title="Interim looks so far",
        description="How often these verdicts were read before, with fewer seeds; adding seeds counts "
        "on. Each interim look spends part of the 5 % error rate, so that adding seeds until the "
        "answer is yes does not work.",
        json_schema_extra=ADVANCED,
    ),
]
SPEC_NAMES = {
    "rank": "order",
    "called": "name_template",
    "repeats": "repeat_fields",
    "measurable_again": "repeatable",
    "sparse_series": "series_filter",
    "in_words": "default_name",
    "kind_in_words": "kind_title",
    "extended": "with_more_draws",
}


class Spec(StrictNumbers):
    """Base of every experiment type. The class docstring is the help of its form.

    Fields carry title, description and bounds. The form also reads `json_schema_extra`: {"unit":
    "s"}, {"widget": "suite"} or {"widget": "dataset"} for names of what is registered, and
    ADVANCED.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    title: ClassVar[str] = ""  # of the experiment type; made from `kind` when empty
    order: ClassVar[int] = 9  # in the list of experiment types; the form opens on the lowest
    name_template: ClassVar[str] = "{title}"  # default name, with attributes of the spec
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # named starting values for the form
    repeatable: ClassVar[bool] = True  # False where re-measuring would overwrite what it made
    # numbers of draws, lists of seeds
    repeat_fields: ClassVar[Sequence[str]] = ()
    columns: ClassVar[TableRoles] = TableRoles()
    # series -> labels of the rows whose series figures and verdicts read; all rows when missing
    series_filter: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    rank: ClassVar[Any] = RenamedAttribute("order")
    called: ClassVar[Any] = RenamedAttribute("name_template")
    repeats: ClassVar[Any] = RenamedAttribute("repeat_fields")
    measurable_again: ClassVar[Any] = RenamedAttribute("repeatable")
    sparse_series: ClassVar[Any] = RenamedAttribute("series_filter")
    in_words: ClassVar[Any] = RenamedAttribute("default_name")
    kind_in_words: ClassVar[Any] = RenamedAttribute("kind_title")
    extended: ClassVar[Any] = RenamedAttribute("with_more_draws")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Adapt an experiment type written for the version before, with a DeprecationWarning."""
        super().__pydantic_init_subclass__(**kwargs)
        adopt_old_names(cls, SPEC_NAMES)
        adapt_figures(cls)

    def default_name(self) -> str:
        """Return the name of an experiment without one: "Fine-tuning of tiny, learning rate 0.003"."""
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

    def with_more_draws(self, more: int) -> Self | None:
        """Return the spec with `more` further draws or seeds; None where nothing is repeated.

        Raises pydantic.ValidationError where a field allows no more.
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
        """Yield every measurement, cheap ones first.

        Pure and bounded. Raises SpecError naming the field.
        """
        raise NotImplementedError

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Measure one point, on a worker only. The point alone determines the number."""
        raise NotImplementedError

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return the figures by short name, from the rows measured so far.

        verdicts: those of the table, or of an earlier state of it; empty while they are computed. A
        figure draws what they hold (minima, intervals) and computes no verdict itself.
        """
        return {}

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return what the data supports; 'undetermined' is an answer."""
        return []
