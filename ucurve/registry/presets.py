"""Presets: suites and datasets of the hub with what their revision names leave out.

>>> for_hub("EleutherAI/pythia-70m").tokens_per_step
2097152
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.revisions import Phase
from ucurve.registry.suites import Dataset

FILE = BUILTIN / "presets.json"


class SuitePreset(BaseModel):
    """A hub repository and what its authors published about its pre-training
    (`builtin/presets.json`).
    """

    hub: str = Field(description="Hub repository owner/name.")
    description: str = Field("", description="What the model is.")
    tokens_per_step: int | None = Field(None, description="Tokens per optimiser step.")
    phases: list[Phase] = Field([], description="Learning-rate phases: stage, first step, name.")
    evaluation: str | None = Field(None, description="Default evaluation set.")

    @property
    def name(self) -> str:
        """Name of the suite: the repository without its owner."""
        return self.hub.split("/")[-1]


@cache
def suites() -> tuple[SuitePreset, ...]:
    """Return every known suite; `{a,b}` in the file expands to one repository each."""
    return tuple(
        SuitePreset.model_validate({**entry, "hub": hub})
        for entry in _file()["suites"]
        for hub in _expand(entry["hub"])
    )


@cache
def datasets() -> tuple[Dataset, ...]:
    """Return every known dataset, with the hash that the rebuilt text must have."""
    return tuple(Dataset.model_validate(entry) for entry in _file()["datasets"])


def for_hub(repository: str) -> SuitePreset:
    """Return the preset of a repository, or an empty one."""
    presets = {preset.hub.lower(): preset for preset in suites()}
    return presets.get(repository.lower(), SuitePreset(hub=repository))


def _expand(pattern: str) -> list[str]:
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _file() -> Any:
    return json.loads(FILE.read_text())
