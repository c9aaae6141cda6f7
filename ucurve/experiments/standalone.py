"""Measure one point on this machine, without any service.

point = PointFile.model_validate_json(Path("point.json").read_text())
result = measure(point, "cpu", artefacts, report=print)
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
    """Context of a point in this process; implements `ucurve.spec.Context`."""

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
    """Re-measure a point and return the result; reuse nothing that earlier measurements left.

    Args:
        point: the point to measure.
        device: "cpu" or "cuda".
        artefacts: folder with the suites and texts that `source` names; hub files are stored here.
        report: progress callback.

    Raises:
        ValueError: the kind is unknown, the inputs do not match the identity, or the point would
            overwrite existing suites.
        Exception: any error of the experiment itself.
    """
    kind = kinds().get(point.kind)
    if kind is None:
        raise ValueError(
            f"unknown kind {point.kind!r}: this version of ucurve has {', '.join(kinds())}"
        )
    if not kind.repeatable and artefacts.exists() and any(artefacts.iterdir()):
        raise ValueError(f"{point.kind} creates a suite: choose an empty folder with --artefacts")
    artefacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ucurve-") as state:
        repeated = Point(
            point.inputs, point.labels, point.source, point.group, repetition=time.time_ns()
        )
        if repeated.identity != point.identity:
            raise ValueError("the inputs do not match the identity: the file was modified")
        return kind.run(repeated, Local(device, artefacts, Path(state), report))
