"""Regularizers towards the pre-trained weights: L2-SP and EWC, as gradients added before clipping.

regularizer = Regularizer(0.1, anchor)  # L2-SP (Li et al. 2018)
regularizer = Regularizer(1000.0, anchor, fisher(model, rows))  # EWC (Kirkpatrick et al. 2017)
loss.backward(); regularizer.add_gradient_(parameters)
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
    """The penalty strength / 2 * sum_i w_i (theta_i - anchor_i)^2.

    Attributes:
        strength: 0 disables it.
        anchor: pre-trained tensors by parameter name; a parameter that is not in it (a new head) is
            not regularized.
        weights: w_i by parameter name, for EWC the Fisher information; None means w_i = 1 (L2-SP).
    """

    strength: float
    anchor: Tensors
    weights: Tensors | None = None

    def add_gradient_(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Add strength * w_i * (theta_i - anchor_i) to every gradient, in place."""
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
    """Return the diagonal of the empirical Fisher information, by parameter name.

    It is the mean over `rows` (pre-training data, int64 [num_rows, context]) of the squared
    gradient of the row's mean loss per token (Kirkpatrick et al. 2017). `.grad` is not touched.
    """
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    fisher = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for done, row in enumerate(rows.to(model.device)):
        logits = model(input_ids=row[None], use_cache=False).logits
        loss = cross_entropy(logits[0, :-1].float(), row[1:])
        for name, gradient in zip(
            fisher, torch.autograd.grad(loss, list(parameters.values())), strict=True
        ):
            fisher[name] += gradient.square() / len(rows)
        progress(done + 1, len(rows))
    with torch.no_grad():  # RecurrentGemma keeps its last state, and with it the graph of a row
        model(input_ids=rows[:1, :2].to(model.device), use_cache=False)
    return fisher
