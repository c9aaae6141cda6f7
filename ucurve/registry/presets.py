"""Presets: suites and datasets of the hub with what their revision names leave out.

>>> for_hub("EleutherAI/pythia-70m").tokens_per_step
2097152
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel, Field

from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.names.revisions import Phase
from ucurve.registry.suites import Dataset

FILE = BUILTIN / "presets.json"


class SuitePreset(BaseModel):
    """A hub repository and what its authors published about its pre-training
    (`builtin/presets.json`).
    """

    hub: str = Field(description="Hub repository owner/name.")
    description: str = Field("", description="What the model is.")
    tokens_per_step: int | str | None = Field(
        None,
        description="Tokens per optimiser step, or ranges FIRST_STEP:TOKENS where the batch grew.",
    )
    phases: list[Phase] = Field([], description="Learning-rate phases: stage, first step, name.")
    evaluation: str | None = Field(None, description="Default evaluation set.")

    @property
    def name(self) -> str:
        """Name of the suite: the repository without its owner."""
        return self.hub.split("/")[-1]


class ReplicatedPreset(BaseModel):
    """Repositories of one model with several pre-training seeds, to register as one suite."""

    name: str = Field(description="Name of the preset.")
    repositories: list[str] = Field(description="Hub repositories, one per pre-training seed.")
    description: str = Field("", description="What the model is.")
    tokens_per_step: int | str | None = Field(None, description="As of a suite of the hub.")
    phases: list[Phase] = Field([], description="Learning-rate phases: stage, first step, name.")
    evaluation: str | None = Field(None, description="Default evaluation set.")


@cache
def suites() -> tuple[SuitePreset, ...]:
    """Return every known suite; `{a,b}` in the file expands to one repository each."""
    return tuple(
        SuitePreset.model_validate({**entry, "hub": hub})
        for entry in _file()["suites"]
        for hub in _expand(entry["hub"])
    )


@cache
def replicated() -> tuple[ReplicatedPreset, ...]:
    """Return presets of several repositories; `*` in these stands for the model's size."""
    presets = []
    for entry in _file()["replicated"]:
        for size in entry["sizes"]:
            patterns = [pattern.replace("*", size) for pattern in entry["repositories"]]
            names = [name for pattern in patterns for name in _expand(pattern)]
            fields = {**entry, "name": entry["name"].replace("*", size), "repositories": names}
            presets.append(ReplicatedPreset.model_validate(fields))
    return tuple(presets)


def replicated_by(repositories: Sequence[str]) -> ReplicatedPreset | None:
    """Return the preset that has all these repositories."""
    wanted = {repository.lower() for repository in repositories}
    return next((p for p in replicated() if wanted <= {n.lower() for n in p.repositories}), None)


@cache
def datasets() -> tuple[Dataset, ...]:
    """Return every known dataset, with the hash that the rebuilt text must have."""
    return tuple(Dataset.model_validate(entry) for entry in _file()["datasets"])


def for_hub(repository: str) -> SuitePreset:
    """Return the preset of a repository, or an empty one."""
    presets = {preset.hub.lower(): preset for preset in suites()}
    if preset := presets.get(repository.lower()):
        return preset
    group = replicated_by([repository])
    details = group.model_dump(exclude={"name", "repositories"}) if group else {}
    return SuitePreset(hub=repository, **details)


@lru_cache(maxsize=1000)
def names_of(repository: str) -> frozenset[str]:
    """Return all names that a repository has or had on the hub, in small letters.

    Results of the Pythia evaluations name the repositories as they were called in 2023.
    """
    groups = (
        {name.lower(), earlier.lower()}
        for pattern, earlier_pattern in _file()["earlier_names"].items()
        for name, earlier in zip(_expand(pattern), _expand(earlier_pattern), strict=True)
    )
    own = repository.lower()
    return frozenset({own}).union(*(group for group in groups if own in group))


def _expand(pattern: str) -> list[str]:
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _file() -> Any:
    return json.loads(FILE.read_text())
