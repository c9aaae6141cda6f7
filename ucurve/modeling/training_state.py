"""Training state on disk: written atomically, and restored by the same run only.

    class PretrainingRun(ResumableRun):
        progress_names = ("step", "losses")     # plain values that the next step depends on
        def weights(self): ...                  # tensors that the next step depends on

Any worker that restores a saved state takes the same next step, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch

from ucurve.modeling.optimisers import Optimiser
from ucurve.registry.artifacts import replacement


class ResumableRun:
    """A training loop that can save its state and resume from it.

    Attributes:
        progress_names: attributes with plain values that the next step depends on.
        recipe: dataclass that identifies the run, together with `seed`.
        optimiser: its state is saved, too.
    """

    progress_names: ClassVar[tuple[str, ...]]
    recipe: Any
    seed: int
    optimiser: Optimiser

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the tensors that training changes, by name; not copies."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, atomically."""
        state = {name: getattr(self, name) for name in self.progress_names}
        weights = {name: tensor.detach() for name, tensor in self.weights().items()}
        identity = {"recipe": asdict(self.recipe), "seed": self.seed}
        with replacement(path) as temporary:
            torch.save(
                {**identity, "weights": weights, "optimiser": self.optimiser.state_dict(), **state},
                temporary,
            )

    def restore(self, path: Path) -> None:
        """Resume from a saved state, if any. Raises ValueError for the state of another run."""
        if not path.exists():
            return
        weights = self.weights()
        state = torch.load(
            path, map_location=next(iter(weights.values())).device, weights_only=True
        )
        if (state["recipe"], state["seed"]) != (asdict(self.recipe), self.seed):
            raise ValueError(f"{path} is the state of another run; delete it to start from step 0")
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(state["weights"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in self.progress_names:
            setattr(self, name, state[name])
