"""Curvature of the loss: Hessian-vector products, quadratic forms of probes, the top eigenvalue.

    text = Text.of(tokens, window=64, num_windows=64, device="cpu")
    product = hessian_product(model, parameters, text, signs(0, parameters))
    sum(product.forms.values())                 # one Hutchinson estimate of the trace
    top_eigenvalue(model, parameters, text, signs(0, parameters), tolerance=1e-3, most_steps=100)

Products are exact (double backward) in the precision of the weights; quadratic forms are summed in
float64. Attention is computed by torch's plain kernel, the only one with a second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from ucurve.modeling.perplexity import windows
from ucurve.modeling.perturb import Noise
from ucurve.modeling.throughput import count_tokens

ROWS = 1 << 11  # tokens of a product at once: both graphs and the logits stay in memory
LOGITS = 1 << 25  # and logits: 128 MiB in fp32, a few times over
PART = 1 << 22  # numbers that are summed in float64 at once
Tensors = Mapping[str, torch.Tensor]
Progress = Callable[[float, float], None]


class Directions(Noise):
    """Vectors of +1 and -1: the signs of the noise of a seed, the same on every device."""

    def like(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return the signs for parameter `name`, with shape, device and type of `tensor`."""
        return super().like(name, tensor).sign().to(tensor.dtype)


def signs(directions: Directions, parameters: Tensors) -> dict[str, torch.Tensor]:
    """Return the direction of every parameter."""
    return {name: directions.like(name, tensor) for name, tensor in parameters.items()}


@dataclass(frozen=True)
class Text:
    """The windows on which a Hessian is taken: batches of equal length, and their scored tokens."""

    batches: list[torch.Tensor]  # int64 [num_rows, length] each
    num_scored: int

    @classmethod
    def of(
        cls, tokens: torch.Tensor, window: int, vocabulary: int, device: torch.device | str = "cpu"
    ) -> Text:
        """Return the windows of all tokens, those of "perplexity/1" with a stride of the window."""
        plan = list(windows(len(tokens), window, window))
        rows = max(1, min(ROWS, LOGITS // vocabulary) // window)
        full = [span for span in plan if span.end - span.start == window]
        parts = [full[i : i + rows] for i in range(0, len(full), rows)]
        parts += [[span] for span in plan if span.end - span.start < window]
        batches = [torch.stack([tokens[s.start : s.end] for s in part]) for part in parts]
        scored = sum(span.end - span.score for span in plan)
        return cls([batch.to(device) for batch in batches], scored)


@dataclass(frozen=True)
class Product:
    """A Hessian times a vector, and v . H v by parameter, whose sum is that of all."""

    vector: dict[str, torch.Tensor]
    forms: dict[str, float]


def plain_attention() -> AbstractContextManager[object]:
    """Return the context in which attention has a second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def hessian_product(
    model: PreTrainedModel,
    parameters: Tensors,
    text: Text,
    vector: Tensors,
    progress: Progress = lambda done, total: None,
) -> Product:
    """Return H v, where H is the Hessian of the mean loss of `text` in `parameters`.

    Other parameters are constants, so that a part of all gives the diagonal block of H. Weights are
    not changed, and no gradients are left in them.
    """
    names, weights = list(parameters), list(parameters.values())
    forms = dict.fromkeys(names, 0.0)
    total = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    for i, ids in enumerate(text.batches):
        with torch.enable_grad(), plain_attention():
            loss = _loss(model, ids) / text.num_scored
            gradient = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            along = sum(
                ((g * vector[name]).sum() for name, g in zip(names, gradient, strict=True)),
                torch.zeros((), device=ids.device),
            )
            if along.requires_grad:  # not where the loss is linear in these parameters
                parts = torch.autograd.grad(along, weights, materialize_grads=True)
                for name, part in zip(names, parts, strict=True):
                    total[name] += part
                    forms[name] += dot(vector[name], part)
        count_tokens(ids.numel())
        progress(i + 1, len(text.batches))
    return Product(total, forms)


def _loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the summed loss of all tokens but each row's first."""
    logits = model(ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the inner product of two tensors, summed in float64."""
    pairs = zip(torch.split(a.flatten(), PART), torch.split(b.flatten(), PART), strict=True)
    return math.fsum(float(x.double() @ y.double()) for x, y in pairs)


@dataclass(frozen=True)
class Eigenvalue:
    """The largest eigenvalue, the bound of its error (an eigenvalue is within it), and the steps.

    NaN where a product is not finite.
    """

    value: float
    residual: float
    num_steps: int


def top_eigenvalue(
    product: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    tolerance: float,
    most_steps: int,
) -> Eigenvalue:
    """Return the largest eigenvalue by Lanczos' method with full reorthogonalisation.

    Stops once the residual of the largest Ritz pair is at most `tolerance` times its value, or
    after `most_steps` products. The error of the value is at most the residual, and usually its
    square over the gap to the next eigenvalue.
    """
    basis = [start / math.sqrt(dot(start, start))]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        vector = product(basis[-1])
        diagonal.append(dot(basis[-1], vector))
        if not math.isfinite(diagonal[-1]):
            return Eigenvalue(math.nan, math.nan, len(diagonal))
        for _ in range(2):
            for other in basis:
                vector = vector - dot(other, vector) * other
        length = math.sqrt(dot(vector, vector))
        value, last = _largest(diagonal, beside)
        residual = length * abs(last)
        num = len(diagonal)
        if residual <= tolerance * abs(value) or num >= min(most_steps, len(start)):
            return Eigenvalue(value, residual, num)
        basis.append(vector / length)
        beside.append(length)


def _largest(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """Return the largest eigenvalue of a tridiagonal matrix, and its vector's last entry."""
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values, vectors = np.linalg.eigh(matrix)
    return float(values[-1]), float(vectors[-1, -1])


def flat(tensors: Tensors) -> torch.Tensor:
    """Return all tensors as one vector, in their order."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors.values()])


def unflat(vector: torch.Tensor, like: Tensors) -> dict[str, torch.Tensor]:
    """Return the vector in the shapes of `like`."""
    parts = torch.split(vector, [tensor.numel() for tensor in like.values()])
    return {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}
