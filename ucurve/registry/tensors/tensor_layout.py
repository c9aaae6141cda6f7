"""The layout of a checkpoint: its architecture, and the names and shapes of its tensors.

All checkpoints of a suite share one, as a rule; a lab stores it once, by its hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from ucurve.bounds import Name
from ucurve.registry.tensors.tensor_names import NamedTensor, named_tensors
from ucurve.registry.tensors.tensor_selection import group_of


class Layout(BaseModel):
    """Architecture, names and shapes of a checkpoint's tensors."""

    model_config = ConfigDict(frozen=True)

    architecture: Name = Field(description="`model_type` of the config.")
    tied: bool | None = Field(description="`tie_word_embeddings` of the config.")
    tensors: dict[str, tuple[int, ...]] = Field(
        max_length=1_000_000, description="Shapes of floating-point tensors by stored name."
    )

    @cached_property
    def sha256(self) -> str:
        """The hash of the layout."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def parameters(self) -> list[NamedTensor]:
        """The parameters of the model, by canonical names."""
        return named_tensors(self.tensors, self.architecture, self.tied)

    def unexplained(self, names: Iterable[str]) -> str | None:
        """Return the first of the library's names of parameters that is no tensor of the files."""
        stored = named_tensors(self.tensors, self.architecture, tied=False)
        stored_names = {tensor.canonical for tensor in stored}
        wanted = [NamedTensor.of(name, self.architecture, ()) for name in names]
        unknown = [tensor for tensor in wanted if tensor.canonical not in stored_names]
        # A tied embedding may be stored under the name of the unembedding only.
        if len(unknown) == 1 and self.tied is not False and group_of(unknown[0]) == "embedding":
            return None
        return unknown[0].canonical if unknown else None

    @cached_property
    def spelled_by_library(self) -> bool:
        """Whether the files spell every tensor as transformers 5 does."""
        names = {tensor.library for tensor in self.parameters if tensor.library != tensor.canonical}
        return names <= self.tensors.keys()
