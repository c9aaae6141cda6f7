"""Suites and evaluation sets of the hub that this project knows by name: what their revision names leave out.

>>> for_hub("EleutherAI/pythia-70m").tokens_per_step
2097152
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ucurve.registry.suites import Dataset, Phase

FILE = Path(__file__).parents[1] / "builtin" / "presets.json"


class SuitePreset(BaseModel):
    """A hub repository with what its authors published about its pre-training; `builtin/presets.json` is the source."""

    hub: str
    description: str = ""
    tokens_per_step: int | None = None
    phases: list[Phase] = []
    evaluation: str | None = None

    @property
    def name(self) -> str:
        """The name under which it is offered: the repository's, without its owner."""
        return self.hub.split("/")[-1]


@cache
def suites() -> tuple[SuitePreset, ...]:
    """Every known suite; `{a,b}` in the file stands for one repository each."""
    return tuple(
        SuitePreset.model_validate({**entry, "hub": hub})
        for entry in _file()["suites"]
        for hub in _spelled_out(entry["hub"])
    )


@cache
def datasets() -> tuple[Dataset, ...]:
    """Every known evaluation set, with the hash that the rebuilt text must have."""
    return tuple(Dataset.model_validate(entry) for entry in _file()["datasets"])


def for_hub(repository: str) -> SuitePreset:
    """What is known about a repository: its preset, or one that says nothing."""
    known = {preset.hub.lower(): preset for preset in suites()}
    return known.get(repository.lower(), SuitePreset(hub=repository))


def _spelled_out(pattern: str) -> list[str]:
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _file() -> Any:
    return json.loads(FILE.read_text())
