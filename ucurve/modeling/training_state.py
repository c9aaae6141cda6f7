"""A training between two of its steps, on disk: written whole or not at all, and read by the same training only.

    class Training(Resumable):
        progress_names = ("step", "losses")     # plain values that the next step depends on
        def weights(self): ...                  # tensors that the next step depends on, by name

Any worker that restores a saved state takes the same next step, bit for bit.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch

from ucurve.modeling.checkpoints import sync


class ResumableRun:
    """What a training loop saves and continues from; recipe: a dataclass that, with the seed, says which training it is."""

    progress_names: ClassVar[tuple[str, ...]]
    recipe: Any
    seed: int
    optimiser: torch.optim.Optimizer

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The tensors that training changes, themselves and not copies."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Everything the next step depends on, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        state = {name: getattr(self, name) for name in self.progress_names}
        weights = {name: tensor.detach() for name, tensor in self.weights().items()}
        identity = {"recipe": asdict(self.recipe), "seed": self.seed}
        torch.save(
            {**identity, "weights": weights, "optimiser": self.optimiser.state_dict(), **state},
            temporary,
        )
        sync(temporary)
        os.rename(temporary, path)

    def restore(self, path: Path) -> None:
        """Continue from a saved state of the same training, if there is one."""
        if not path.exists():
            return
        weights = self.weights()
        state = torch.load(
            path, map_location=next(iter(weights.values())).device, weights_only=True
        )
        if (state["recipe"], state["seed"]) != (asdict(self.recipe), self.seed):
            raise ValueError(f"{path} is the state of another run; delete it to start afresh")
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(state["weights"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in self.progress_names:
            setattr(self, name, state[name])
