"""Experiment types outside the package may use the old names of the contract for one release."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from ucurve import spec as contract
from ucurve.spec import (
    Catalogue,
    Figure,
    Point,
    PointInterrupted,
    Resources,
    Spec,
    TableRoles,
)


class Plain(Spec):
    kind: Literal["plain"] = "plain"
    num: int = 1


def old_kind() -> type[Spec]:
    """An experiment type as one was written for the version before."""

    class Flips(Spec):
        """How often does a coin show heads?"""

        kind: Literal["flips"] = "flips"
        title: ClassVar[str] = "Coin flips"
        rank: ClassVar[int] = 7
        called: ClassVar[str] = "{title} of {draws} draws"
        repeats: ClassVar[tuple[str, ...]] = ("draws",)
        measurable_again: ClassVar[bool] = False
        sparse_series: ClassVar[dict[str, dict[str, Any]]] = {"heads": {"bias": 0.5}}
        columns: ClassVar[TableRoles] = contract.Columns(
            along="n", change=("bias",), base={"bias": 0}, kept=("coin",), first="draws"
        )
        draws: int = 3

        def in_words(self) -> str:
            return "flips"

        @classmethod
        def kind_in_words(cls) -> str:
            return "FLIPS"

        def plan(self, catalogue: Catalogue) -> Iterator[Point]:
            yield Point({}, {}, source={"a": 1}, group="g", stage=2, seconds=3.0, repeat=4)

        def figures(self, table: Any) -> dict[str, Figure]:  # type: ignore[override]
            return {"curve": table}

    return Flips


def test_class_attributes_and_methods_with_old_names_are_honoured_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        kind = old_kind()
    messages = [str(warning.message) for warning in warned]
    assert "Flips.rank is deprecated: use Flips.order" in messages
    assert "Flips.figures(table) is deprecated: define figures(table, verdicts=())" in messages
    assert "Columns(along=...) is deprecated: use Columns(x=...)" in messages
    assert kind.order == 7
    assert kind.repeat_fields == ("draws",)
    assert not kind.repeatable
    assert kind.series_filter == {"heads": {"bias": 0.5}}
    assert kind.columns == contract.Columns("n", ("bias",), {"bias": 0}, ("coin",), (), "draws")
    spec = kind()
    assert spec.default_name() == "flips"
    assert kind.kind_title() == "FLIPS"
    assert (more := spec.with_more_draws(2))
    assert more.model_dump()["draws"] == 5
    assert spec.figures("table", []) == {"curve": "table"}  # type: ignore[arg-type, comparison-overlap]


def test_a_point_takes_and_gives_its_old_names_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="is deprecated: use") as warned:
        point = Point(
            {}, {}, source={"a": 1}, group="g", stage=2, seconds=3.0, requires=Resources("cuda")
        )
    assert "Point(seconds=...) is deprecated: use Point(estimated_seconds=...)" in [
        str(warning.message) for warning in warned
    ]
    assert point == Point({}, {}, {"a": 1}, "g", 2, 3.0, Resources("cuda"), 0)
    with pytest.warns(
        DeprecationWarning, match=r"Point.stage is deprecated: use Point.priority_stage"
    ):
        assert point.stage == 2
    with pytest.warns(DeprecationWarning, match="Point.source is deprecated"):
        assert point.source == {"a": 1}


def test_old_names_can_be_read_from_a_new_experiment_type() -> None:
    with pytest.warns(DeprecationWarning, match="Plain.rank is deprecated: use Plain.order"):
        assert Plain.rank == Plain.order == 9
    with pytest.warns(DeprecationWarning, match="Plain.in_words is deprecated"):
        assert Plain().in_words() == "plain"
    with pytest.warns(DeprecationWarning, match="Plain.extended is deprecated"):
        assert Plain().extended(1) is None
    assert contract.Stopped is PointInterrupted
    assert contract.Requires is Resources


def test_the_package_itself_uses_no_old_name() -> None:
    code = (
        "from ucurve.experiments import kinds, parse\n"
        "for name, kind in kinds().items():\n"
        "    spec = parse({'kind': name})\n"
        "    spec.default_name(), spec.with_more_draws(1)\n"
        "import api.experiment_store, ucurve.analysis.comparison\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:ucurve", "-c", code],
        check=True,
        cwd=Path(__file__).parents[1],
        timeout=120,
    )
