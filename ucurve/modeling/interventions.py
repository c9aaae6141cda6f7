"""Branches of a pre-training run: another way of training for the last part of the budget.

    trunk = Trunk(recipe, seed=0, device="cpu", at=350)
    trunk.run(batches, folder / "trunk.pt", [], keep, progress)     # the first 350 updates
    how = {"branch_at": 350, "intervention": "sharpness_aware", "strength": 0.05}
    branch = BranchRun(BranchConfig(**asdict(recipe), **how), seed=0, device="cpu")
    branch.take_over(trunk)
    branch.run(batches, folder / "branch.pt", [437], keep, progress)

A branch begins with the weights, the state of the optimiser and the step of its trunk. Without an
intervention it therefore ends in the weights of a run that was never interrupted, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ucurve.modeling.pretrain import PretrainingConfig, PretrainingRun, learning_rate
from ucurve.modeling.token_data import Batches

Intervention = Literal[
    "none",
    "weight_decay",
    "constant",
    "anneal",
    "sharpness_aware",
    "weight_average",
    "replay",
    "early_stop",
]
TINY = 1e-12  # keeps the length of a zero gradient from dividing by zero


@dataclass(frozen=True)
class BranchConfig(PretrainingConfig):
    """The recipe of a run, and what happens to it after `branch_at` updates.

    strength: of the intervention. weight_decay: factor of the decay. sharpness_aware: the radius
    rho. weight_average: the decay of the average. replay: the share of a batch. Others: 0.
    """

    branch_at: int
    intervention: Intervention
    strength: float


class Trunk(PretrainingRun):
    """The first `at` updates of a run, which all of its branches share."""

    def __init__(self, recipe: PretrainingConfig, seed: int, device: str, at: int) -> None:
        super().__init__(recipe, seed, device)
        self.at = at

    @property
    def last_step(self) -> int:
        """The number of updates after which the branches begin."""
        return self.at


class BranchRun(PretrainingRun):
    """The rest of a run after its trunk, with an intervention."""

    recipe: BranchConfig

    def __init__(self, recipe: BranchConfig, seed: int, device: str) -> None:
        super().__init__(recipe, seed, device)
        averages = recipe.intervention == "weight_average"
        self.average: dict[str, torch.Tensor] = self._copies() if averages else {}

    @property
    def last_step(self) -> int:
        """The number of updates after which the run ends."""
        stops = self.recipe.intervention == "early_stop"
        return self.recipe.branch_at if stops else self.recipe.num_steps

    def take_over(self, trunk: PretrainingRun) -> None:
        """Begin where the trunk ended: with its weights, optimiser, step and losses."""
        assert trunk.step == self.recipe.branch_at or trunk.diverged, "the trunk is not finished"
        own = super().weights()
        with torch.no_grad():
            for name, tensor in trunk.weights().items():
                own[name].copy_(tensor)
        self.optimiser.load_state_dict(trunk.optimiser.state_dict())
        self.step, self.losses = trunk.step, list(trunk.losses)
        self.seconds, self.diverged = trunk.seconds, trunk.diverged
        if self.average:
            self.average = self._copies()

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Return the model's tensors by name, and those of their average."""
        average = {f"average/{name}": tensor for name, tensor in self.average.items()}
        return {**super().weights(), **average}

    def load_average(self) -> None:
        """Give the model the average of its weights, if there is one: no update may follow."""
        assert self.step == self.last_step, "training would go on from the average"
        with torch.no_grad():
            for name, tensor in self.average.items():
                self.model.get_parameter(name).copy_(tensor)

    def _copies(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def _rows(self, batches: Batches) -> torch.Tensor:
        """Return the rows of the next update: with replay, the first ones were read before."""
        rows, at = super()._rows(batches), self.recipe.branch_at
        if self.recipe.intervention != "replay":
            return rows
        number = round(self.recipe.strength * len(rows))
        earlier = batches(self.seed, (self.step - at) % at, len(rows))
        return torch.cat([earlier[:number], rows[number:]])

    def _gradient(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the gradient, with sharpness-aware steps that of a point uphill from here.

        The loss is that of the weights themselves.
        """
        loss = super()._gradient(rows)
        if self.recipe.intervention != "sharpness_aware":
            return loss
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad.detach().clone() for p in parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        )
        if not bool(norm.isfinite()):
            return loss  # the run has diverged, and its update is not made
        originals = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient * (self.recipe.strength / (norm + TINY)))
        super()._gradient(rows)
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)
        return loss

    def _set_rates(self) -> None:
        """Set learning rate and weight decay of the next update."""
        super()._set_rates()
        recipe, intervention = self.recipe, self.recipe.intervention
        start = learning_rate(recipe, recipe.branch_at)
        left = (recipe.num_steps - self.step) / (recipe.num_steps - recipe.branch_at)
        rate = {"constant": start, "anneal": start * left}.get(intervention)
        matrices, others = self.optimiser.param_groups
        for group in (matrices, others):
            group["lr"] = group["lr"] if rate is None else rate
        if intervention == "weight_decay":
            decay = recipe.weight_decay * recipe.strength
            matrices["weight_decay"] = decay
            others["weight_decay"] = decay if recipe.decayed == "all" else 0.0

    def _update(self, rows: torch.Tensor) -> None:
        """Make one optimiser step on `rows`, and move the average towards the new weights."""
        step = self.step
        super()._update(rows)
        if self.step > step:
            for name, tensor in self.average.items():
                weight = self.model.get_parameter(name).detach()
                tensor.lerp_(weight, 1 - self.recipe.strength)
