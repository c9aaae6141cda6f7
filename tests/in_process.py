"""The runtime that a kind's run() sees, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ucurve.spec import PointInterrupted


@dataclass
class Context:
    """ucurve.spec.Context without a worker; stops the run at `stop_at` and keeps all reports."""

    artefacts: Path
    stop_at: float = math.inf
    kept: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    device: str = "cpu"

    @property
    def state_dir(self) -> Path:
        return self.artefacts / "state"

    def progress(self, done: float, total: float, **metrics: float) -> None:
        self.calls.append((done, total))
        self.losses += metrics.values()
        if done >= self.stop_at:
            raise PointInterrupted

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]
