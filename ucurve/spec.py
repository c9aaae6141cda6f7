"""The contract of an experiment kind: fields, plan(), run(), figures(), verdicts().

One kind is one file in `ucurve/experiments/`:

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

import functools
import hashlib
import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import ConfigDict, Field

from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.canonical_json import canonical as canonical
from ucurve.schemas.results import Figure as Figure
from ucurve.schemas.results import Verdict as Verdict
from ucurve.schemas.strict_numbers import StrictNumbers

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class SpecError(ValueError):
    """A spec that is valid by itself but cannot be planned here; names the field and the remedy."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class Stopped(Exception):  # noqa: N818 - an event, not an error
    """Nobody wants this number any more, or the worker is leaving: raised by `Context.progress`."""


@dataclass(frozen=True)
class Requires:
    """What a worker must have to measure a point."""

    device: Literal["any", "cuda"] = "any"
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Point:
    """One planned measurement, plain JSON.

    inputs: everything that determines the number, each step of the protocol with its version; their hash is the
        identity under which any experiment of the team finds the number again. Never the kind, never a name.
    labels: what this experiment calls it (suite, revision, tokens, gamma, seed): the columns of its table.
    source: where to find what `inputs` names by hash; no part of the identity.
    group: points of one group are cheap to measure one after another (the same checkpoint is loaded).
    stage: lower stages come first, so that every curve is readable early.
    seconds: rough cost on one CPU core, for slices and the first estimate only.
    repeat: 0 for the number that everybody shares. Above: it is measured afresh, so nothing kept from an earlier one is used.
    """

    inputs: Mapping[str, Any]
    labels: Mapping[str, Any]
    source: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    stage: int = 0
    seconds: float = 1.0
    requires: Requires = Requires()
    repeat: int = 0

    @property
    def identity(self) -> str:
        """SHA-256 of the canonical JSON of `inputs`, in hex."""
        return hashlib.sha256(canonical(self.inputs).encode()).hexdigest()


@dataclass(frozen=True)
class Result:
    """What one measurement gave.

    metrics: scalars; inf and NaN are legal here and are stored as a state, not as a number.
    series: curves, such as loss sums per window or a training loss.
    suite: the suite that this point made or added to: its name, evaluation set, recipe, and the new checkpoints; recorded
        in the finishing transaction.
    """

    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)
    suite: Suite | None = None


class Context(Protocol):
    """All that an experiment sees of the runtime."""

    device: str  # "cpu" or "cuda"
    state_dir: Path  # this measurement's own folder, shared by all workers: what is saved here is there on resuming
    artefacts: Path  # root of everything that outlives a measurement (suites, hub cache, texts)

    def progress(self, done: float, total: float, **metrics: float) -> None:
        """Report work done; metrics become live curves. Raises Stopped when the point is to stop."""

    def cached(self, key: str, make: Callable[[], T]) -> T:
        """The value made under `key` by an earlier point of this process, or a new one; only few are kept."""


class Catalogue(Protocol):
    """What plan() may ask: registered suites and evaluation sets. Both raise SpecError when there is none."""

    def suite(self, name: str, field: str = "suite") -> Suite: ...
    def find_suite(self, name: str) -> Suite | None: ...
    def dataset(self, name: str, field: str = "evaluation") -> Dataset: ...


def _ranged(value: Any) -> Any:
    """A list in words: "0.05 to 0.3" of numbers, else its members."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if all(isinstance(one, int | float) for one in value):
        return f"{min(value):g} to {max(value):g}" if len(value) > 1 else f"{value[0]:g}"
    return ", ".join(map(str, value))


@dataclass(frozen=True)
class Columns:
    """What a kind's labels and metrics mean, so that experiments can be laid over one another. What is left empty is guessed.

    along: the label that advances with pre-training.
    change: labels that say what was changed, its size first; a row with the labels in `base` is before any change.
    kept: labels of what it is measured on, the same before and after.
    draws: labels that tell repetitions apart; `first` is the spec's field from which they count on.
    metrics: those worth a curve, each with its name and unit.
    series: metric -> series that holds its draws, where one point has many.
    fields: of the spec, those that say which points are measured; all others say how.
    """

    along: str = ""
    change: Sequence[str] = ()
    base: Mapping[str, Any] = field(default_factory=dict)
    kept: Sequence[str] = ()
    draws: Sequence[str] = ()
    first: str = ""
    metrics: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = ()


ADVANCED: dict[str, Any] = {
    "advanced": True
}  # `json_schema_extra` of fields that the form folds away
Looks = Annotated[
    int,
    Field(
        ge=1,
        le=50,
        title="Look",
        description="How often these verdicts have been looked at, with fewer draws before; extending counts on. Every look "
        "spends a part of the 5% of a wrong yes, so that adding draws until it is yes is no way to get one.",
        json_schema_extra=ADVANCED,
    ),
]


class Spec(StrictNumbers):
    """Base of every kind. Fields carry title, description and bounds; the class docstring is its help.

    The form also reads `json_schema_extra`: {"unit": "s"}, {"widget": "suite"} or {"widget": "dataset"} for names of what is
    registered, and ADVANCED.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    title: ClassVar[str] = ""  # the kind in words, for the form; the kind's name when empty
    rank: ClassVar[int] = 9  # among the kinds that are offered; the form opens on the lowest
    called: ClassVar[str] = (
        "{title}"  # an experiment that nobody named: words and attributes of the spec
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # named starting values for the form
    measurable_again: ClassVar[bool] = (
        True  # False where a second time would overwrite what the first one made
    )
    repeats: ClassVar[
        Sequence[str]
    ] = ()  # fields that say how often all is repeated: numbers of draws, lists of seeds
    columns: ClassVar[Columns] = Columns()
    sparse_series: ClassVar[
        Mapping[str, Mapping[str, Any]]
    ] = {}  # figures and verdicts read these of rows with such labels only

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Adapt a kind whose figures() takes the table only, as before version 0.2; deprecated."""
        super().__pydantic_init_subclass__(**kwargs)
        draw = cls.__dict__.get("figures")
        if draw is None or len(inspect.signature(draw).parameters) > 2:
            return
        warnings.warn(
            f"{cls.__name__}.figures(table) is deprecated: define figures(table, verdicts=())",
            DeprecationWarning,
            stacklevel=2,
        )

        @functools.wraps(draw)
        def figures(
            self: Spec, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()
        ) -> dict[str, Figure]:
            drawn: dict[str, Figure] = draw(self, table)
            return drawn

        cls.figures = figures  # type: ignore[method-assign]

    def in_words(self) -> str:
        """What the experiment is called where nobody named it: "Gaussian perturbation of tiny, γ 0.05 to 0.3, 8 draws"."""
        named = {
            name for _, name, _, _ in Formatter().parse(self.called) if name and name != "title"
        }
        return self.called.format(
            title=self.kind_in_words(), **{name: _ranged(getattr(self, name)) for name in named}
        )

    @classmethod
    def kind_in_words(cls) -> str:
        return cls.title or str(cls.model_fields["kind"].default).replace("_", " ")

    def extended(self, more: int) -> Self | None:
        """The same with `more` further draws or seeds, keeping those there are; None where nothing is repeated.

        Raises pydantic.ValidationError where a field allows no more.
        """
        if not self.repeats:
            return None
        fields = self.model_dump(mode="json")
        for name in self.repeats:
            if isinstance(now := fields[name], list):
                unused = (seed for seed in itertools.count() if seed not in now)
                fields[name] = [*now, *itertools.islice(unused, more)]
            else:
                fields[name] = now + more
        if "looks" in fields:
            fields["looks"] += 1
        return type(self).model_validate(fields)

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Every measurement, cheap first; pure and bounded. Raises SpecError naming the field to mend."""
        raise NotImplementedError

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Measure one point; on a worker only. The point alone determines the number, so no spec is given."""
        raise NotImplementedError

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return the figures by short name, from the rows measured so far.

        verdicts: those of the table, or of an earlier state of it; empty while they are computed. A
        figure draws what they hold (minima, intervals) and computes no verdict itself.
        """
        return {}

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """What the data supports; 'undetermined' is an answer."""
        return []
