"""The curves of an experiment as experiment trackers take them: runs of metrics by step.

    for curve in curves_of(rows): curve.name, curve.points   # {step: {"nll_mean": 3.2, ...}}

A curve is one setting: all labels but the checkpoint and the seed. Its step is the number of
pre-training tokens, else of features learned, else of steps. A metric is the mean over seeds on the
loss; where a value is not finite there is no mean, and `METRIC/not_finite` counts such values:
trackers store inf as a large number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ucurve.schemas.measurements import MeasurementRow, decode_metrics

STEPS = ("tokens", "features", "step")  # the first that a row has is its step
PLACE = {*STEPS, "revision", "checkpoint", "phase", "draw", "seed"}  # differ within a curve
LOSS = "nll_mean"
TRAINING = {"training_loss": "training_tokens"}  # series with their steps
NOT_FINITE = "not_finite"


@dataclass
class TrackedCurve:
    """One setting of an experiment: its labels, and metrics by step."""

    labels: dict[str, Any]
    step_name: str
    points: dict[int, dict[str, float]] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The labels as text: "gamma=0.2, scale=init_std"; "all" where there are none."""
        parts = [f"{name}={_text(value)}" for name, value in self.labels.items()]
        return ", ".join(parts) or "all"

    @property
    def key(self) -> str:
        """The labels as canonical text, by which the curve is found again."""
        return json.dumps(self.labels, sort_keys=True)


def curves_of(rows: Sequence[MeasurementRow]) -> list[TrackedCurve]:
    """Return a curve per setting, of the rows that are measured, in the order of the plan."""
    groups: dict[str, list[MeasurementRow]] = {}
    for row in sorted(rows, key=lambda row: row.position):
        if row.state == "done":
            groups.setdefault(json.dumps(_setting(row), sort_keys=True), []).append(row)
    return [_curve(group) for group in groups.values()]


def _setting(row: MeasurementRow) -> dict[str, Any]:
    step = _step_name(row)
    left_out = PLACE if step != "step" or "tokens" in row.labels else PLACE - {"step"}
    if set(TRAINING) & set(row.series):
        left_out = PLACE - {"step"}  # a run of its own: its length tells it from others
    return {
        name: value
        for name, value in row.labels.items()
        if name not in left_out and value is not None
    }


def _step_name(row: MeasurementRow) -> str:
    return next((name for name in STEPS if row.labels.get(name) is not None), "position")


def _curve(rows: Sequence[MeasurementRow]) -> TrackedCurve:
    curve = TrackedCurve(_setting(rows[0]), _step_name(rows[0]))
    curve.identities = [row.identity for row in rows]
    by_step: dict[int, list[dict[str, float]]] = {}
    for row in rows:
        step = int(row.labels.get(curve.step_name) or 0)
        by_step.setdefault(step, []).append(decode_metrics(row.metrics, row.nonfinite))
        for step, name, value in _training(row):
            curve.points.setdefault(step, {})[name] = value
            curve.step_name = "tokens"
    if not any(_training(row) for row in rows):
        curve.points = {step: _means(metrics) for step, metrics in sorted(by_step.items())}
    return curve


def _training(row: MeasurementRow) -> list[tuple[int, str, float]]:
    """Return (step, name, value) of the finite values of a training run."""
    return [
        (int(step), name, value)
        for name, steps in TRAINING.items()
        for step, value in zip(row.series.get(steps, ()), row.series.get(name, ()), strict=False)
        if step is not None and value is not None
    ]


def _means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over seeds of every metric, or how many of its values are not finite."""
    names = dict.fromkeys(name for row in metrics for name in row)
    means: dict[str, float] = {"num_seeds": float(len(metrics))}
    for name in names:
        values = [row[name] for row in metrics if name in row]
        broken = sum(not math.isfinite(value) for value in values)
        if broken:
            means[f"{name}/{NOT_FINITE}"] = float(broken)
        elif math.isfinite(mean := _mean(values)):
            means[name] = mean
    if LOSS in means and means[LOSS] < 700:  # exp of more is beyond double precision
        means["perplexity"] = math.exp(means[LOSS])
    return means


def _mean(values: Sequence[float]) -> float:
    return math.fsum(value / len(values) for value in values)  # the sum may overflow, this cannot


def metric_names(curves: Iterable[TrackedCurve]) -> list[str]:
    """Return the metrics of all curves, in order."""
    return list(
        dict.fromkeys(name for curve in curves for point in curve.points.values() for name in point)
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
