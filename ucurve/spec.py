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

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ucurve.formatting import compact, p_value
from ucurve.registry.suites import Dataset, Suite
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


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text. Refuses inf and NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


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


class Verdict(BaseModel):
    """One claim, answered from the table; `sentence` can stand alone."""

    model_config = ConfigDict(frozen=True)

    claim: str  # "progressive sensitivity"
    scope: str = ""  # "gamma 0.2 under init_std, replicate 0"
    answer: Literal["yes", "no", "undetermined"]
    sentence: str
    effect: float | None = None
    effect_name: str = ""  # "rise of the loss after its minimum, nats"
    interval: tuple[float, float] | None = None  # 95%
    p_value: float | None = None
    test: str = ""  # the test and its assumptions
    num_draws: int | None = None
    draw_name: str = "draws"  # what num_draws counts, in the plural: seeds, targets
    evidence: dict[str, Any] = {}

    @property
    def basis(self) -> str:
        """The numbers behind the answer: "rise after the minimum, nats: 0.21 [0.12, 0.30] · p = 0.003 · 8 draws"."""
        parts = []
        if self.effect is not None:
            interval = (
                f" [{compact(self.interval[0], 4)}, {compact(self.interval[1], 4)}]"
                if self.interval
                else ""
            )
            parts.append(f"{self.effect_name or 'effect'}: {compact(self.effect, 4)}{interval}")
        if self.p_value is not None:
            parts.append(p_value(self.p_value))
        if self.num_draws:
            parts.append(
                f"{self.num_draws:,} {self.draw_name if self.num_draws > 1 else self.draw_name.removesuffix('s')}"
            )
        return " · ".join(parts)


def _ranged(value: Any) -> Any:
    """A list in words: "0.05 to 0.3" of numbers, else its members."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if all(isinstance(one, int | float) for one in value):
        return f"{min(value):g} to {max(value):g}" if len(value) > 1 else f"{value[0]:g}"
    return ", ".join(map(str, value))


@dataclass(frozen=True)
class Figure:
    """A chart whose data can be swapped in place: Vega-Lite that names its datasets, and their rows.

    chart: Vega-Lite JSON in which every `data` is `{"name": ...}`; it depends on the spec only, so that new results
        change `datasets` and leave the chart (its node, zoom, legend choices) alone.
    """

    title: str
    caption: str
    chart: dict[str, Any]
    datasets: dict[str, list[dict[str, Any]]]

    def vega_lite(self) -> dict[str, Any]:
        """The chart with its data inside, for files."""
        return {**self.chart, "datasets": self.datasets}


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

    def figures(self, table: pd.DataFrame) -> dict[str, Figure]:
        """The figures, by short name, from whatever rows there are so far."""
        return {}

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """What the data supports; 'undetermined' is an answer."""
        return []
