"""How `pytest -n 4` gives tests to its processes: a module is never split, long ones start first.

Modules of the shared lab go to the same process, in two groups: with pages and without.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NEEDS = ("slow", "browser", "lab", "engines", "data")  # the longest first
PAGES = re.compile(r"\b(page|browser): ")


@cache
def group_of(path: Path) -> str:
    """Return the name of the group of a test module, by its source."""
    source = path.read_text()
    if "\nSHARED_LAB = True\n" not in source:
        return path.stem
    return "shared lab, pages" if PAGES.search(source) else "shared lab"


def longest_first(items: list[pytest.Item]) -> None:
    """Order the groups by what they need, then by their number of tests."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.path), []).append(item)
    items[:] = [item for group in sorted(groups.values(), key=_length) for item in group]


def _length(tests: list[pytest.Item]) -> tuple[int, int]:
    places = [
        place
        for place, need in enumerate(NEEDS)
        if any(item.get_closest_marker(need) for item in tests)
    ]
    return min(places, default=len(NEEDS)), -len(tests)


def scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler of pytest-xdist that gives whole groups to a process, in our order."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(config.rootpath / nodeid.split("::")[0])

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)
