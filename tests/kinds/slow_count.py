"""A kind of the tests: counts slowly, saves what it counted, and fails or hangs when told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ucurve.spec import Catalogue, Context, Figure, Point, Result, Spec, Verdict

if TYPE_CHECKING:
    import pandas as pd

HELD_AT = 30  # where a held count stays, reporting progress, until its file is gone


class SlowCount(Spec):
    """Counts to a number, one step at a time."""

    kind: Literal["slow_count"] = "slow_count"
    title = "Slow count"
    to: list[int] = Field(
        [10],
        title="Count to",
        description="Negative numbers fail, zero hangs, 666 gives what cannot be stored.",
        max_length=1000,
    )
    step_seconds: float = Field(
        0.02, ge=0, le=10, description="Time of one step.", json_schema_extra={"unit": "s"}
    )
    hold: str = Field(
        "", description=f"A file: while it exists, no point counts further than {HELD_AT}."
    )

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        for to in self.to:
            inputs: dict[str, Any] = {
                "protocol": "slow_count/1",
                "to": to,
                "step_seconds": self.step_seconds,
            }
            if self.hold:
                inputs["hold"] = self.hold
            yield Point(
                inputs=inputs, labels={"to": to}, estimated_seconds=max(to, 1) * self.step_seconds
            )

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        to, saved = point.inputs["to"], context.state_dir / "count"
        if to < 0:
            raise ValueError(f"cannot count to {to}")
        if to == 0:
            time.sleep(3600)
        if to == 666:
            return Result(metrics={"not storable \0": 1.0})
        resumed = int(saved.read_text()) if saved.exists() else 0
        logging.getLogger(__name__).warning("counting to %d from %d", to, resumed)
        context.state_dir.mkdir(parents=True, exist_ok=True)
        for count in range(resumed, to):
            context.progress(count, to, value=float(count))
            time.sleep(point.inputs["step_seconds"])
            while (
                count == HELD_AT and "hold" in point.inputs and Path(point.inputs["hold"]).exists()
            ):
                context.progress(count, to, value=float(count))
                time.sleep(point.inputs["step_seconds"])
            part = saved.with_name("part")  # a kill or a full disk leaves the old count
            part.write_text(str(count + 1))
            part.replace(saved)
        return Result(
            metrics={"counted": to, "resumed": resumed, "endless": float("inf")},
            series={"counts": list(range(to))},
        )

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        rows = [
            {"to": row.to, "counted": row.counted}
            for row in table.itertuples()
            if row.state == "done"
        ]
        chart = {
            "data": {"name": "points"},
            "mark": "point",
            "encoding": {
                "x": {"field": "to", "type": "quantitative"},
                "y": {"field": "counted", "type": "quantitative"},
            },
        }
        return {"counts": Figure("Counted", "How far each point counted.", chart, {"points": rows})}

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        done = int((table["state"] == "done").sum())
        return [
            Verdict(
                claim="it counts",
                answer="yes" if done else "undetermined",
                sentence=f"{done} points counted.",
            )
        ]
