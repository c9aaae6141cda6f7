"""Measures one point on this machine, without any service.

result = measure(PointFile.model_validate_json(Path("point.json").read_text()), artefacts,
report=print)
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from ucurve.experiments import kinds
from ucurve.schemas.point_file import PointFile
from ucurve.spec import Point, Result

T = TypeVar("T")
ProgressCallback = Callable[[float, float], None]


@dataclass
class Local:
    """What an experiment sees of this process (ucurve.spec.Context)."""

    device: str
    artefacts: Path
    state_dir: Path
    report: ProgressCallback
    cache: dict[str, Any] = field(default_factory=dict)

    def progress(self, done: float, total: float, **metrics: float) -> None:
        self.report(done, total)

    def cached(self, key: str, make: Callable[[], T]) -> T:
        if key not in self.cache:
            self.cache[key] = make()
        return cast(T, self.cache[key])


def measure(
    point: PointFile,
    device: str,
    artefacts: Path,
    report: ProgressCallback = lambda done, total: None,
) -> Result:
    """The point's number, made anew: nothing that an earlier measurement left in `artefacts` is
    used.

    artefacts: where what `source` names is looked for (suites, texts), and where hub files are
        kept. Raises ValueError where the kind is unknown, or would write over what others made; and
        whatever the experiment raises.
    """
    kind = kinds().get(point.kind)
    if kind is None:
        raise ValueError(
            f"this ucurve does not know the kind {point.kind!r}; it knows {', '.join(kinds())}"
        )
    if not kind.repeatable and artefacts.exists() and any(artefacts.iterdir()):
        raise ValueError(
            f"{point.kind} makes a suite: give it an empty folder of its own with --artefacts"
        )
    artefacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ucurve-") as state:
        repeated = Point(
            point.inputs, point.labels, point.source, point.group, repetition=time.time_ns()
        )
        if repeated.identity != point.identity:
            raise ValueError(
                "the inputs in this file are not those of its identity: somebody changed them"
            )
        return kind.run(repeated, Local(device, artefacts, Path(state), report))
