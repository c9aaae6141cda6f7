"""Penalties that keep fine-tuned weights near the base's: L2-SP and EWC, as gradients added before clipping.

penalty = Penalty(0.1, anchor)                                     # L2-SP (Li et al. 2018)
penalty = Penalty(1000.0, anchor, fisher(model, parameters, rows)) # EWC (Kirkpatrick et al. 2017)
loss.backward(); penalty.add_gradient_(parameters)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Regularizer:
    """strength / 2 * sum_i w_i (theta_i - anchor_i)^2, with w_i = 1 where there are no `weights`.

    anchor, weights: by parameter name; a parameter without an anchor (a new head) is not held.
    """

    strength: float
    anchor: Tensors
    weights: Tensors | None = None

    def add_gradient_(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """strength * w_i * (theta_i - anchor_i) onto every gradient."""
        with torch.no_grad():
            for name, parameter in parameters.items():
                if name in self.anchor:
                    assert parameter.grad is not None, (
                        f"{name} has no gradient: call backward first"
                    )
                    force = parameter - self.anchor[name]
                    parameter.grad.add_(
                        force if self.weights is None else force * self.weights[name],
                        alpha=self.strength,
                    )


def fisher(
    model: PreTrainedModel,
    rows: torch.Tensor,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> dict[str, torch.Tensor]:
    """Diagonal of the empirical Fisher information, by parameter name: mean over rows of the squared gradient of the row's
    mean loss per token. rows: pre-training data, int64 [num_rows, context]. Leaves no gradient behind.
    """
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    fisher = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for done, row in enumerate(rows.to(model.device)):
        loss = cross_entropy(model(input_ids=row[None]).logits[0, :-1].float(), row[1:])
        for name, gradient in zip(
            fisher, torch.autograd.grad(loss, list(parameters.values())), strict=True
        ):
            fisher[name] += gradient.square() / len(rows)
        progress(done + 1, len(rows))
    return fisher
