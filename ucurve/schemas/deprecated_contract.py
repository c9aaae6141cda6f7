"""Old names in `ucurve/spec.py`, kept for one release with a warning.

class Point(RenamedPointFields): ...  # point.stage warns and returns point.priority_stage
renamed(RenamedPointFields)  # {"stage": "priority_stage", ...}
"""

from __future__ import annotations

from typing import Any, ClassVar

from ucurve.schemas.deprecated_names import RenamedAttribute


class RenamedPointFields:
    """Old names of the fields of a point."""

    source = RenamedAttribute("artifacts")
    group = RenamedAttribute("affinity")
    stage = RenamedAttribute("priority_stage")
    seconds = RenamedAttribute("estimated_seconds")
    requires = RenamedAttribute("resources")
    repeat = RenamedAttribute("repetition")


class RenamedSpecAttributes:
    """Old names of the class variables and methods of an experiment type."""

    rank: ClassVar[Any] = RenamedAttribute("order")
    called: ClassVar[Any] = RenamedAttribute("name_template")
    repeats: ClassVar[Any] = RenamedAttribute("repeat_fields")
    measurable_again: ClassVar[Any] = RenamedAttribute("repeatable")
    sparse_series: ClassVar[Any] = RenamedAttribute("series_filter")
    in_words: ClassVar[Any] = RenamedAttribute("default_name")
    kind_in_words: ClassVar[Any] = RenamedAttribute("kind_title")
    extended: ClassVar[Any] = RenamedAttribute("with_more_draws")


# Old to new names of the arguments of TableRoles.
COLUMN_NAMES = {
    "along": "x",
    "change": "treatment",
    "base": "baseline",
    "kept": "fixed",
    "first": "seed_field",
}


def renamed(names: type) -> dict[str, str]:
    """Return the old and new names of the RenamedAttributes of a class."""
    return {
        old: attribute.new
        for old, attribute in vars(names).items()
        if isinstance(attribute, RenamedAttribute)
    }
