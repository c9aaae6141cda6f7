"""Experiments laid over one another: their numbers on one axis, the differences, and what is missing for a fair comparison.

    sides = [ComparedExperiment(experiment.id, experiment.name, parse(experiment.spec), rows, suite), ...] table =
    align_experiments(sides)                       # one row per value: side, change, along, draw, value of
    every quantity differences(table, "1", "2", "tokens")         # A minus B with 95% intervals,
    and how they were paired missing(sides[0], sides[1])                    # the points of A that B
    lacks completing_spec(sides[0], sides[1])                  # the spec that measures exactly those

What a kind's labels mean is said by its `columns` (ucurve.spec); no kind is named here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ucurve.registry.suites import Suite
from ucurve.schemas.measurements import MeasurementRow, decode_metrics
from ucurve.spec import Spec, TableRoles

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = (
    "suite",
    "revision",
    "step",
    "tokens",
    "replicate",
    "phase",
)  # labels that say which checkpoint it is
DRAWS = ("draw", "seed")
UNCHANGED = "base"
LOSS = "nll_mean"  # in nats per token, whatever kind measured it


@dataclass(frozen=True)
class ComparedExperiment:
    """One experiment of a comparison, with its rows so far and the suite of its checkpoints where there is one."""

    id: int
    name: str
    spec: Spec
    rows: Sequence[MeasurementRow]
    suite: Suite | None = None

    @property
    def key(self) -> str:
        return str(self.id)

    @cached_property
    def columns(self) -> TableRoles:
        """As the kind says; where it says nothing, by looking at its labels."""
        said, labels = (
            self.spec.columns,
            {name: value for row in self.rows for name, value in row.labels.items()},
        )
        numbers = [
            name
            for name, value in labels.items()
            if isinstance(value, int | float) and name not in DRAWS
        ]
        along = said.x or ("tokens" if "tokens" in labels else next(iter(numbers), ""))
        draws = said.draws or [name for name in DRAWS if name in labels]
        known = {*CHECKPOINT, *draws, along}
        change = said.treatment if said.x else [name for name in labels if name not in known]
        fields = said.fields or [
            name for name, value in self.spec.model_dump().items() if isinstance(value, list)
        ]
        return TableRoles(
            along,
            change,
            said.baseline,
            said.fixed,
            draws,
            said.seed_field,
            said.metrics,
            said.series,
            fields,
        )

    def is_base(self, labels: Mapping[str, Any]) -> bool:
        """Before any change."""
        base = self.columns.baseline
        return not self.columns.treatment or (
            bool(base) and all(labels.get(name) == value for name, value in base.items())
        )

    def draw(self, labels: Mapping[str, Any]) -> str:
        """What is the same in two experiments exactly when their random numbers are."""
        values = [labels.get(name) for name in self.columns.draws]
        return ",".join(
            str(value + self.first if isinstance(value, int) else value)
            for value in values
            if value is not None
        )

    @property
    def first(self) -> int:
        return int(getattr(self.spec, self.columns.seed_field)) if self.columns.seed_field else 0

    def changed(self, labels: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """The modification, and what it is measured on."""
        names = (
            self.columns.fixed
            if self.is_base(labels)
            else (*self.columns.treatment, *self.columns.fixed)
        )
        return tuple((name, labels[name]) for name in names if labels.get(name) is not None)

    def point(self, labels: Mapping[str, Any]) -> tuple[Any, ...]:
        """What makes a point the counterpart of another experiment's: the checkpoint's place, modification and draw."""
        place = labels.get("replicate"), labels.get(self.columns.x)
        return (*place, self.is_base(labels), self.changed(labels), self.draw(labels))


def named(
    change: Sequence[tuple[str, Any]], constant: frozenset[tuple[str, Any]] = frozenset()
) -> str:
    """A modification in words, without what is the same in all: "gamma 0.2, init_std"."""
    shown = [one for i, one in enumerate(change) if i == 0 or one not in constant]
    words = (
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else str(value)
        for name, value in shown
    )
    return ", ".join(words)


def constants(sides: Iterable[ComparedExperiment]) -> frozenset[tuple[str, Any]]:
    """Parts of modifications that all changed points of all sides have: not worth a word."""
    found = [set(side.changed(row.labels)) for side in sides for row in side.rows]
    changed = [one for one in found if one]
    return frozenset(set.intersection(*changed)) if len(changed) > 1 else frozenset()


def align_experiments(sides: Sequence[ComparedExperiment]) -> pd.DataFrame:
    """All rows of all sides, one per value: `side`, `suite`, `size` (parameters), `replicate`, `change`, `draw`, `state`,
    `measurement`, `unchanged`; the axes `tokens`, `tokens_per_parameter`, `base_loss` and the
    sides' own; every metric; `damage`.

    A point whose draws are inside it gives a row per draw. Damage is the loss minus that of the
    same checkpoint before.
    """
    import pandas as pd

    same = constants(sides)
    table = pd.DataFrame([row for side in sides for row in _rows_of(side, same)])
    if table.empty:
        return table
    for name in (LOSS, "tokens", "size"):
        table[name] = pd.to_numeric(table[name]).astype(float) if name in table else float("nan")
    table["tokens_per_parameter"] = table["tokens"] / table["size"]
    before = table[table["unchanged"] & (table["state"] == "done")].drop_duplicates(
        ["side", "checkpoint", "kept"]
    )
    base = table[["side", "checkpoint", "kept"]].merge(
        before[["side", "checkpoint", "kept", LOSS]], "left", on=["side", "checkpoint", "kept"]
    )
    table["base_loss"] = base[LOSS].to_numpy()
    table["damage"] = table[LOSS] - table["base_loss"]
    return table


def _rows_of(
    side: ComparedExperiment, same: frozenset[tuple[str, Any]]
) -> Iterable[dict[str, Any]]:
    sizes = {c.revision: c.num_parameters for c in side.suite.checkpoints} if side.suite else {}
    columns = side.columns
    for row in side.rows:
        labels, unchanged = row.labels, side.is_base(row.labels)
        change = side.changed(labels)
        words = (
            named([one for one in change if one[0] in columns.fixed], same)
            if unchanged
            else named(change, same)
        )
        kept = named([one for one in change if one[0] in columns.fixed])
        fixed = {
            "side": side.key,
            "suite": labels.get("suite") or side.name,
            "size": sizes.get(labels.get("revision", "")),
            "replicate": 0 if labels.get("replicate") is None else labels["replicate"],
            "checkpoint": labels.get("revision") or str(labels.get(columns.x)),
            "kept": kept,
            "unchanged": unchanged,
            "change": (f"{UNCHANGED}, {words}" if words else UNCHANGED) if unchanged else words,
            "draw": side.draw(labels),
            "state": row.state,
            "measurement": row.id,
            "tokens": labels.get("tokens"),
            columns.x: labels.get(columns.x),
            "windows": (row.series.get("window_nll"), row.series.get("window_tokens"))
            if unchanged
            else None,
        }
        metrics = decode_metrics(row.metrics, row.nonfinite)
        inside = {
            metric: row.series[name]
            for metric, name in columns.series.items()
            if row.series.get(name)
        }
        if not inside:
            yield {**metrics, **fixed}
        for i in range(max(map(len, inside.values()), default=0)):
            drawn = {
                metric: float("nan") if values[i] is None else values[i]
                for metric, values in inside.items()
            }
            yield {
                **metrics,
                **drawn,
                **fixed,
                "draw": f"{side.first}:{(labels.get('draw') or 0) + i}",
            }


def quantities(sides: Sequence[ComparedExperiment], table: pd.DataFrame) -> dict[str, str]:
    """What the y axis can show, with its title: what all sides that measured anything have in common, losses first."""
    measured = [side for side in sides if any(row.metrics for row in side.rows)]
    shared: dict[str, str] = {}
    for i, side in enumerate(measured):
        found = side.columns.metrics or {
            name: name.replace("_", " ")
            for row in side.rows
            for name, value in row.metrics.items()
            if value is not None
        }
        shared = (
            dict(found)
            if i == 0
            else {name: title for name, title in shared.items() if name in found}
        )
    derived = {}
    if LOSS in shared:
        derived = {"loss": shared.pop(LOSS), "perplexity": "perplexity"}
        if not table.empty and not table["unchanged"].all():
            derived["damage"] = "damage / nats"
    return {**derived, **shared}


def axes(sides: Sequence[ComparedExperiment], table: pd.DataFrame) -> dict[str, str]:
    """What the x axis can show, with its title: what is known of some row of every side."""
    titles = {
        "tokens": "pre-training tokens",
        "tokens_per_parameter": "pre-training tokens per parameter",
    }
    titles |= {
        side.columns.x: side.columns.x.replace("_", " ")
        for side in sides
        if side.columns.x not in titles
    }
    titles["base_loss"] = "loss before the change / nats"
    known = (
        table.groupby("side")[[name for name in titles if name in table]].count()
        if len(table)
        else table
    )
    return {
        name: title for name, title in titles.items() if name in known and (known[name] > 0).all()
    }


# ---- what is missing


@dataclass(frozen=True)
class MissingPoints:
    """Points of `of` without a counterpart in `within`; those whose checkpoint the other suite has not got cannot be measured."""

    of: ComparedExperiment
    within: ComparedExperiment
    points: list[dict[str, Any]] = field(default_factory=list)  # labels as `of` calls them
    without_checkpoint: list[dict[str, Any]] = field(default_factory=list)

    @property
    def places(self) -> list[tuple[Any, Any]]:
        """(replicate, where along pre-training) of the missing points, each once."""
        along = self.of.columns.x
        return list(
            dict.fromkeys((labels.get("replicate"), labels.get(along)) for labels in self.points)
        )

    @property
    def sentence(self) -> str:
        """How many of what, in words."""
        along, words = self.of.columns.x, []
        if self.points:
            kinds: dict[str, Collection[Any]] = {
                "checkpoint": self.places,
                "modification": {self.of.changed(labels) for labels in self.points},
            }
            kinds["draw"] = {draw for labels in self.points if (draw := self.of.draw(labels))}
            counts = (
                f"{len(found)} {name}{'s' * (len(found) != 1)}"
                for name, found in kinds.items()
                if found
            )
            number = (
                f"{len(self.points):,} point{'s are' if len(self.points) > 1 else ' is'} missing"
            )
            words.append(
                f"{number} in experiment {self.within.id} that {self.of.id} has: {', '.join(counts)}"
            )
        if self.without_checkpoint:
            places = {labels.get(along) for labels in self.without_checkpoint}
            num, more = len(self.without_checkpoint), "more " if words else ""
            number = f"{num:,} {more}point{'s' * (num != 1)} of experiment {self.of.id} {'has' if num == 1 else 'have'}"
            suite = self.within.suite.name if self.within.suite else ""
            words.append(
                f"{number} no counterpart: {suite} has no checkpoint at {len(places)} of the places ({along})"
            )
        return (
            ". ".join(words) + "."
            if words
            else f"Experiment {self.within.id} has all points of {self.of.id}."
        )


def missing(a: ComparedExperiment, b: ComparedExperiment) -> MissingPoints:
    """What of A is not planned in B, by checkpoint, modification and draw; nothing where their kinds differ."""
    if a.spec.kind != b.spec.kind:
        return MissingPoints(a, b)
    there = {b.point(row.labels) for row in b.rows}
    lacking = {
        a.point(row.labels): row.labels for row in a.rows if a.point(row.labels) not in there
    }
    has = {(c.replicate, c.tokens) for c in b.suite.checkpoints} if b.suite else None
    able: list[dict[str, Any]] = []
    unable: list[dict[str, Any]] = []
    for labels in lacking.values():
        place = labels.get("replicate"), labels.get("tokens")
        (able if has is None or "revision" not in labels or place in has else unable).append(
            dict(labels)
        )
    return MissingPoints(a, b, able, unable)


def completing_spec(found: MissingPoints) -> Spec | None:
    """B measured at the points of A: A's grid, everything else as in B; None where nothing can be added.

    Points that B has already are reused, so that exactly the missing ones are measured. Raises
    ValueError where the two do not go together in one spec.
    """
    a, b = found.of, found.within
    if not found.points:
        return None
    before = b.spec.model_dump(mode="json")
    fields = before | {name: a.spec.model_dump(mode="json")[name] for name in a.columns.fields}
    if "looks" in fields:  # more draws are a further look at what B's have said already
        further = any(fields[name] != before[name] for name in b.spec.repeat_fields)
        fields["looks"] = max(fields["looks"], before["looks"] + further)
    if "checkpoints" in fields and a.suite and b.suite and a.suite.name != b.suite.name:
        wanted = {(row.labels.get("replicate"), row.labels.get("tokens")) for row in a.rows}
        fields["checkpoints"] = [
            c.revision for c in b.suite.checkpoints if (c.replicate, c.tokens) in wanted
        ]
    return type(b.spec).model_validate(fields)


def setting_differences(sides: Sequence[ComparedExperiment]) -> dict[str, list[Any]]:
    """Settings in which experiments of one kind differ, other than which points they measure: what is compared."""
    if len({side.spec.kind for side in sides}) != 1 or len(sides) < 2:
        return {}
    fields = [side.spec.model_dump(mode="json") for side in sides]
    names = [name for name in fields[0] if name not in sides[0].columns.fields]
    return {
        name: [one[name] for one in fields]
        for name in names
        if any(one[name] != fields[0][name] for one in fields)
    }


def measurement_settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """How a number was measured, as far as it decides whether losses are comparable: set, tokenizer, window, precision."""
    parts = {
        name: inputs[name]
        for name in ("evaluation", "precision")
        if isinstance(inputs.get(name), Mapping)
    }
    return {
        f"{name}.{key}": value
        for name, part in parts.items()
        for key, value in part.items()
        if key != "protocol" or value
    }
