"""Experiments aligned with one another: on one axis, with differences and what is missing.

    sides = [ComparedExperiment(id, name, parse(spec), rows, suite), ...]
    table = align_experiments(sides)      # a row per value: side, change, x, draw, every quantity
    gap = missing(sides[0], sides[1])     # the points of A that B lacks
    completing_spec(gap)                  # the spec that measures exactly those

A kind declares what its labels mean in `columns` (ucurve.spec); no kind is named here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ucurve.formatting import counted
from ucurve.registry.suites import Suite
from ucurve.schemas.bits_per_byte import BITS_PER_BYTE
from ucurve.schemas.measurements import MeasurementRow, decode_metrics
from ucurve.spec import Spec, TableRoles

if TYPE_CHECKING:
    import pandas as pd

CHECKPOINT = ("suite", "revision", "step", "tokens", "replicate", "phase")  # labels of a checkpoint
DRAWS = ("draw", "seed")
UNCHANGED = "base"
SET = "evaluation"  # the label, and the field of a spec
LOSS = "nll_mean"  # in nats per token, whichever kind measured it
BITS_INCREASE = "bits_per_byte_increase"  # after a modification minus before


@dataclass(frozen=True)
class ComparedExperiment:
    """One experiment of a comparison: its rows so far, and the suite of its checkpoints if any."""

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
        """The roles of its labels: as the kind declares, else inferred from the labels."""
        declared = self.spec.columns
        labels = {name: value for row in self.rows for name, value in row.labels.items()}
        numbers = [
            name
            for name, value in labels.items()
            if isinstance(value, int | float) and name not in DRAWS
        ]
        x = declared.x or ("tokens" if "tokens" in labels else next(iter(numbers), ""))
        draws = declared.draws or [name for name in DRAWS if name in labels]
        others = [name for name in labels if name not in {*CHECKPOINT, *draws, x}]
        fields = declared.fields or [
            name for name, value in self.spec.model_dump().items() if isinstance(value, list)
        ]
        return replace(
            declared,
            x=x,
            treatment=declared.treatment if declared.x else others,
            draws=draws,
            fields=fields,
        )

    def is_base(self, labels: Mapping[str, Any]) -> bool:
        """Return whether a row is of the unperturbed model."""
        base = self.columns.baseline
        return not self.columns.treatment or (
            bool(base) and all(labels.get(name) == value for name, value in base.items())
        )

    def draw(self, labels: Mapping[str, Any]) -> str:
        """Return a key that is equal in two experiments exactly when their random numbers are."""
        values = [labels.get(name) for name in self.columns.draws]
        first = self.spec.first_seed(labels)
        return ",".join(
            str(value + first if isinstance(value, int) else value)
            for value in values
            if value is not None
        )

    def changed(self, labels: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """Return the modification, and what it is measured on, as (label, value)."""
        names = (
            self.columns.fixed
            if self.is_base(labels)
            else (*self.columns.treatment, *self.columns.fixed)
        )
        return tuple((name, labels[name]) for name in names if labels.get(name) is not None)

    def point(self, labels: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a key that matches points of two experiments: checkpoint, modification, draw."""
        along = labels.get(self.columns.x)
        if along is None:
            along = labels.get("revision")  # checkpoints of unknown tokens are not the same one
        return (
            labels.get("replicate"),
            along,
            self.is_base(labels),
            self.changed(labels),
            self.draw(labels),
        )


def modification_text(
    change: Sequence[tuple[str, Any]], constant: frozenset[tuple[str, Any]] = frozenset()
) -> str:
    """Return a modification without what is the same in all: "gamma 0.2, init_std"."""
    visible = [label for i, label in enumerate(change) if i == 0 or label not in constant]
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else str(value)
        for name, value in visible
    )


def constants(sides: Iterable[ComparedExperiment]) -> frozenset[tuple[str, Any]]:
    """Return the labels that all modified points of all sides share."""
    changes = [set(side.changed(row.labels)) for side in sides for row in side.rows]
    changed = [change for change in changes if change]
    return frozenset(set.intersection(*changed)) if len(changed) > 1 else frozenset()


def evaluation_names(side: ComparedExperiment) -> list[str]:
    """Return the evaluation sets of an experiment that names them in its field `evaluation`."""
    named = getattr(side.spec, SET, None) or (side.suite.evaluation if side.suite else None)
    return [named] if isinstance(named, str) else list(named or ())


def with_evaluation_sets(sides: Sequence[ComparedExperiment]) -> list[ComparedExperiment]:
    """Return the experiments, with the set in the labels of all where some measure several.

    The points of a single set do not name it.
    """
    if not any(SET in row.labels for side in sides for row in side.rows):
        return list(sides)
    return [_with_evaluation_set(side) for side in sides]


def _with_evaluation_set(side: ComparedExperiment) -> ComparedExperiment:
    names = evaluation_names(side)
    if len(names) != 1 or SET not in side.columns.fixed:
        return side
    rows = [row.model_copy(update={"labels": {SET: names[0], **row.labels}}) for row in side.rows]
    return replace(side, rows=rows)


def align_experiments(sides: Sequence[ComparedExperiment]) -> pd.DataFrame:
    """Return all rows of all sides, one per value.

    Columns: `side`, `suite`, `size` (parameters), `replicate`, `change`, `draw`, `state`,
    `measurement`, `unchanged`; the axes `tokens`, `tokens_per_parameter`, `base_loss` and the
    sides' own; every metric; `damage` (loss minus that of the same unperturbed checkpoint, nats),
    and `bits_per_byte_increase` where bytes are known. A point whose draws are inside it gives a
    row per draw.
    """
    import pandas as pd

    sides = with_evaluation_sets(sides)
    shared = constants(sides)
    table = pd.DataFrame([row for side in sides for row in _rows_of(side, shared)])
    if table.empty:
        return table
    for name in (LOSS, "tokens", "size"):
        table[name] = pd.to_numeric(table[name]).astype(float) if name in table else float("nan")
    table["tokens_per_parameter"] = table["tokens"] / table["size"]
    keys = ["side", "checkpoint", "kept"]
    before = table[table["unchanged"] & (table["state"] == "done")].drop_duplicates(keys)
    losses = [LOSS, *([BITS_PER_BYTE] if BITS_PER_BYTE in table else [])]
    base = table[keys].merge(before[[*keys, *losses]], "left", on=keys)
    table["base_loss"] = base[LOSS].to_numpy()
    table["damage"] = table[LOSS] - table["base_loss"]
    if BITS_PER_BYTE in table:
        table[BITS_INCREASE] = table[BITS_PER_BYTE] - base[BITS_PER_BYTE].to_numpy()
    return table


def _rows_of(
    side: ComparedExperiment, shared: frozenset[tuple[str, Any]]
) -> Iterable[dict[str, Any]]:
    sizes = {c.revision: c.num_parameters for c in side.suite.checkpoints} if side.suite else {}
    for row in side.rows:
        metrics = decode_metrics(row.metrics, row.nonfinite)
        fixed = _fixed_columns(side, row, shared, sizes)
        inside = {
            metric: row.series[name]
            for metric, name in side.columns.series.items()
            if row.series.get(name)
        }
        if not inside:
            yield {**metrics, **fixed}
        for i in range(max(map(len, inside.values()), default=0)):
            drawn = {
                metric: float("nan") if values[i] is None else values[i]
                for metric, values in inside.items()
            }
            first = side.spec.first_seed(row.labels)
            draw = f"{first}:{(row.labels.get('draw') or 0) + i}"
            yield {**metrics, **drawn, **fixed, "draw": draw}


def _fixed_columns(
    side: ComparedExperiment,
    row: MeasurementRow,
    shared: frozenset[tuple[str, Any]],
    sizes: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return the columns of a row that are not metrics."""
    labels, along = row.labels, side.columns.x
    unchanged, change = side.is_base(labels), side.changed(labels)
    fixed = [label for label in change if label[0] in side.columns.fixed]
    text = modification_text(fixed if unchanged else change, shared)
    if unchanged:
        text = f"{UNCHANGED}, {text}" if text else UNCHANGED
    return {
        "side": side.key,
        "suite": labels.get("suite") or side.name,
        "size": sizes.get(labels.get("revision", "")),
        "replicate": 0 if labels.get("replicate") is None else labels["replicate"],
        "checkpoint": labels.get("revision") or str(labels.get(along)),
        "kept": modification_text(fixed),
        "unchanged": unchanged,
        "change": text,
        "draw": side.draw(labels),
        "state": row.state,
        "measurement": row.id,
        "tokens": labels.get("tokens"),
        along: labels.get(along),
        "windows": (row.series.get("window_nll"), row.series.get("window_tokens"))
        if unchanged
        else None,
    }


def quantities(sides: Sequence[ComparedExperiment], table: pd.DataFrame) -> dict[str, str]:
    """Return what the y axis can show, with its title: what all measured sides have in common.

    Losses first.
    """
    measured = [side for side in sides if any(row.metrics for row in side.rows)]
    shared: dict[str, str] = {}
    for i, side in enumerate(measured):
        metrics = side.columns.metrics or {
            name: name.replace("_", " ")
            for row in side.rows
            for name, value in row.metrics.items()
            if value is not None
        }
        shared = (
            dict(metrics)
            if i == 0
            else {name: title for name, title in shared.items() if name in metrics}
        )
    derived = {}
    if LOSS in shared:
        derived = {"loss": shared.pop(LOSS), "perplexity": "perplexity"}
        modified = not table.empty and not table["unchanged"].all()
        if modified:
            derived["damage"] = "loss increase / nats"
        if all(any(BITS_PER_BYTE in row.metrics for row in side.rows) for side in measured):
            derived[BITS_PER_BYTE] = "bits per byte"
            derived |= {BITS_INCREASE: "increase in bits per byte"} if modified else {}
    return {**derived, **shared}


def axes(sides: Sequence[ComparedExperiment], table: pd.DataFrame) -> dict[str, str]:
    """Return what the x axis can show, with its title: what some row of every side has."""
    titles = {
        "tokens": "pre-training tokens",
        "tokens_per_parameter": "pre-training tokens per parameter",
    }
    titles |= {
        side.columns.x: side.columns.x.replace("_", " ")
        for side in sides
        if side.columns.x not in titles
    }
    titles["base_loss"] = "unperturbed loss / nats"
    counts = (
        table.groupby("side")[[name for name in titles if name in table]].count()
        if len(table)
        else table
    )
    return {
        name: title for name, title in titles.items() if name in counts and (counts[name] > 0).all()
    }


# ---- what is missing


@dataclass(frozen=True)
class MissingPoints:
    """Points of experiment `of` without a counterpart in `within`.

    points: labels as `of` names them; without_checkpoint: those that cannot be measured because the
    other suite has no such checkpoint.
    """

    of: ComparedExperiment
    within: ComparedExperiment
    points: list[dict[str, Any]] = field(default_factory=list)
    without_checkpoint: list[dict[str, Any]] = field(default_factory=list)

    @property
    def places(self) -> list[tuple[Any, Any]]:
        """(replicate, pre-training length) of the missing points, each once."""
        along = self.of.columns.x
        return list(
            dict.fromkeys((labels.get("replicate"), labels.get(along)) for labels in self.points)
        )

    @property
    def sentence(self) -> str:
        """What is missing, with counts."""
        sentences = []
        if self.points:
            draws = {draw for labels in self.points if (draw := self.of.draw(labels))}
            parts: dict[str, Collection[Any]] = {
                "checkpoint": self.places,
                "modification": {self.of.changed(labels) for labels in self.points},
                "seed": draws,
            }
            listed = ", ".join(counted(len(part), name) for name, part in parts.items() if part)
            sentences.append(
                f"Experiment {self.within.id} lacks {counted(len(self.points), 'evaluation')} of "
                f"experiment {self.of.id}: {listed}."
            )
        if self.without_checkpoint:
            num, more = len(self.without_checkpoint), "more " if sentences else ""
            places = {labels.get(self.of.columns.x) for labels in self.without_checkpoint}
            suite = self.within.suite.name if self.within.suite else ""
            sentences.append(
                f"{counted(num, f'{more}evaluation')} of experiment {self.of.id} cannot be added: "
                f"{suite} has no checkpoint at {len(places)} of their pre-training lengths "
                f"({self.of.columns.x})."
            )
        if not sentences:
            return f"Experiment {self.within.id} has all evaluations of experiment {self.of.id}."
        return " ".join(sentences)


def missing(a: ComparedExperiment, b: ComparedExperiment) -> MissingPoints:
    """Return the points of A that B lacks; none where their kinds differ."""
    if a.spec.kind != b.spec.kind:
        return MissingPoints(a, b)
    a, b = with_evaluation_sets([a, b])
    existing = {b.point(row.labels) for row in b.rows}
    lacking = {
        a.point(row.labels): row.labels for row in a.rows if a.point(row.labels) not in existing
    }
    suite = b.suite.checkpoints if b.suite else []
    places = {(c.replicate, c.tokens) for c in suite if c.tokens is not None} if b.suite else None
    same = (
        {c.revision for c in suite}
        if a.suite and b.suite and a.suite.name == b.suite.name
        else set()
    )
    possible: list[dict[str, Any]] = []
    impossible: list[dict[str, Any]] = []
    for labels in lacking.values():
        place = labels.get("replicate"), labels.get("tokens")
        can_measure = places is None or "revision" not in labels or place in places
        can_measure |= labels.get("revision") in same
        (possible if can_measure else impossible).append(dict(labels))
    return MissingPoints(a, b, possible, impossible)


def completing_spec(gap: MissingPoints) -> Spec | None:
    """Return B's spec with A's grid, so that B measures the missing points; None if there are none.

    Points that B already has are reused. Raises ValueError where both do not fit into one spec.
    """
    a, b = gap.of, gap.within
    if not gap.points:
        return None
    before = b.spec.model_dump(mode="json")
    fields = before | {name: a.spec.model_dump(mode="json")[name] for name in a.columns.fields}
    fields |= _evaluation_sets_of_both(b, gap.points)
    if "looks" in fields:  # more draws are a further interim analysis of B's verdicts
        more_draws = any(fields[name] != before[name] for name in b.spec.repeat_fields)
        fields["looks"] = max(fields["looks"], before["looks"] + more_draws)
    if "checkpoints" in fields and a.suite and b.suite and a.suite.name != b.suite.name:
        places = {(row.labels.get("replicate"), row.labels.get("tokens")) for row in a.rows}
        fields["checkpoints"] = [
            c.revision
            for c in b.suite.checkpoints
            if c.tokens is not None and (c.replicate, c.tokens) in places
        ]
    return type(b.spec).model_validate(fields)


def _evaluation_sets_of_both(
    side: ComparedExperiment, points: Iterable[Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Return the field `evaluation` with the sets of missing points, where it lacks some."""
    names = evaluation_names(side) if SET in type(side.spec).model_fields else []
    needed = [labels[SET] for labels in points if SET in labels]
    both = list(dict.fromkeys([*names, *needed]))
    return {SET: both} if names and both != names else {}


def setting_differences(sides: Sequence[ComparedExperiment]) -> dict[str, list[Any]]:
    """Return the settings in which experiments of one kind differ, except for their grids."""
    if len({side.spec.kind for side in sides}) != 1 or len(sides) < 2:
        return {}
    specs = [side.spec.model_dump(mode="json") for side in sides]
    names = [name for name in specs[0] if name not in sides[0].columns.fields]
    return {
        name: [spec[name] for spec in specs]
        for name in names
        if any(spec[name] != specs[0][name] for spec in specs)
    }


def measurement_settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides whether losses are comparable: set, tokenizer, window, precision."""
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
