"""A suite is one model at many checkpoints; revision names say after how many tokens.

    >>> parse_revision("stage1-step928646-tokens3896B")
    Revision(step=928646, tokens=3896000000000, stage=1)
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Location(BaseModel):
    """Where a worker finds a checkpoint or a text: under the package, the artefact root, an absolute path, or a hub."""

    model_config = ConfigDict(frozen=True)

    scheme: Literal["builtin", "artefacts", "path", "hub"]
    path: str  # folder of the checkpoint / file of the text; for a hub the repository "owner/name"
    commit: str | None = None  # hub only: the 40 hex digits that were resolved at registration


class Checkpoint(BaseModel):
    """One saved state of the model's weights."""

    model_config = ConfigDict(frozen=True)

    suite: str
    revision: str  # unique in its suite
    location: Location
    step: int | None = None
    tokens: int | None = None  # pre-training tokens seen; None where nobody knows
    replicate: int = 0  # seed of the pre-training run: curves are drawn per replicate
    phase: str | None = None  # learning-rate phase: "warm-up", "constant", "decay", "annealed"; None where unknown
    num_parameters: int | None = None
    weights_sha256: str | None = None  # of the weights file(s)
    config_sha256: str | None = None
    tokenizer_sha256: str | None = None
    size_bytes: int | None = None
    unresolved: str | None = None  # why the hashes are missing ("not plannable yet: ..."), None when resolved


class Suite(BaseModel):
    """A named list of checkpoints, sorted by replicate and tokens."""

    name: str
    description: str = ""
    checkpoints: list[Checkpoint] = []
    evaluation: str | None = None  # the evaluation set meant by "the suite's own"
    recipe: str | None = None  # hash of the pre-training spec that makes it, if ours
    warnings: list[str] = []


class Dataset(BaseModel):
    """An evaluation set or a training text: a built-in generator, a registered file, or a hub preset."""

    name: str
    description: str = ""
    kind: Literal["language", "text"]  # the built-in synthetic language, or a text file
    parameters: dict[str, str | int | float] = {}  # of the generator
    location: Location | None = None
    sha256: str | None = None  # of the file's bytes, or of the generator's name, version and parameters
    size_bytes: int | None = None
    unresolved: str | None = None
