"""An experiment type for tests: points that break the device, or their process for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ucurve.spec import Catalogue, Context, Point, Result, Spec


class BreakingDevice(Spec):
    """Each point does as it is told."""

    kind: Literal["breaking_device"] = "breaking_device"
    what: list[Literal["fine", "breaks once", "breaks always", "spoils once"]] = Field(
        ["fine"], max_length=100
    )

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        for number, what in enumerate(self.what):
            yield Point(
                inputs={"protocol": "break/1", "what": what, "of": self.what, "number": number},
                labels={"number": number},
            )

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        import torch

        if getattr(torch, "spoilt", False):
            raise RuntimeError("this process measures nothing any more")
        what, happened = point.inputs["what"], context.artefacts / f"happened-{point.identity}"
        first = not happened.exists()
        happened.touch()
        if what == "breaks always" or (what == "breaks once" and first):
            # As after a CUDA error: every further call on the device raises the same error.
            torch.ones = _sticky
            torch.ones(1)
        if what == "spoils once" and first:
            torch.spoilt = True  # type: ignore[attr-defined]
        return Result(metrics={"number": float(point.inputs["number"])})


def _sticky(*_: object, **__: object) -> object:
    raise RuntimeError("CUDA error: device-side assert triggered")
