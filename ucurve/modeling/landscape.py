"""The loss around a model on a text: quadratic forms, the top eigenvalue, and both ends of a move.

landscape = Landscape.of(model, tokens, window=64)
landscape.quadratic_form(Directions(0))["trace"]      # one Hutchinson estimate
landscape.antithetic_rise(Directions(0), 0.01, landscape.losses())[0]["rise"]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from transformers import PreTrainedModel

from ucurve.modeling import curvature
from ucurve.modeling.curvature import Directions
from ucurve.modeling.parameter_names import parameters_of
from ucurve.modeling.perplexity import WindowLosses, window_losses
from ucurve.modeling.perturb import perturbed
from ucurve.registry.tensors.tensor_selection import group_of

Progress = Callable[[float, float], None]
Metrics = dict[str, float]


def silent(done: float, total: float) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Landscape:
    """A model and a text: parameters by canonical name (tied ones once), and their groups."""

    model: PreTrainedModel
    parameters: Mapping[str, torch.Tensor]
    groups: Mapping[str, str]
    tokens: torch.Tensor
    window: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokens: torch.Tensor, window: int) -> Landscape:
        """Return the landscape in all parameters of a model in eval mode."""
        named = parameters_of(model)
        return cls(
            model,
            {tensor.canonical: parameter for tensor, parameter in named.items()},
            {tensor.canonical: group_of(tensor) for tensor in named},
            tokens,
            window,
        )

    def losses(self) -> WindowLosses:
        """Return the loss on the text by window."""
        with curvature.plain_attention():
            return window_losses(self.model, self.tokens, window=self.window, stride=self.window)

    def quadratic_form(
        self,
        directions: Directions,
        progress: Progress = silent,
        stds: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    ) -> Metrics:
        """Return v . H v along a direction, which estimates the trace, and its part by group.

        stds: by noise scale and canonical name, sigma of every parameter. For each scale the sum of
        sigma^2 v . H v over tensors, so that noise of gamma sigma costs gamma^2 / 2 times it.
        """
        vector, text = curvature.signs(directions, self.parameters), self._text()
        product = curvature.hessian_product(self.model, self.parameters, text, vector, progress)
        metrics = {
            "trace": math.fsum(product.forms.values()),
            "num_tokens": float(text.num_scored),
        }
        for group in dict.fromkeys(self.groups.values()):
            names = [name for name, of in self.groups.items() if of == group]
            metrics[f"trace_{group}"] = math.fsum(product.forms[name] for name in names)
            sizes = [self.parameters[name].numel() for name in names]
            metrics[f"weights_{group}"] = float(sum(sizes))
        for scale, sigmas in stds.items():
            metrics[f"scaled_trace_{scale}"] = math.fsum(
                sigmas[name] ** 2 * form for name, form in product.forms.items()
            )
        return metrics

    def top_eigenvalue(
        self,
        directions: Directions,
        group: str | None,
        tolerance: float,
        most_steps: int,
        progress: Progress = silent,
    ) -> Metrics:
        """Return the largest eigenvalue in all parameters, or in those of a group.

        Raises ValueError where the model has none of that group.
        """
        wanted = {
            name: parameter
            for name, parameter in self.parameters.items()
            if group in (None, self.groups[name])
        }
        if not wanted:
            raise ValueError(f"this model has no tensors of the group {group!r}")
        text, done = self._text(), 0

        def product(vector: torch.Tensor) -> torch.Tensor:
            nonlocal done
            along = curvature.unflat(vector, wanted)
            image = curvature.hessian_product(self.model, wanted, text, along)
            done += 1
            progress(done, most_steps)
            return curvature.flat(image.vector)

        start = curvature.flat(curvature.signs(directions, wanted))
        eigenvalue = curvature.top_eigenvalue(product, start, tolerance, most_steps)
        return {
            "top_eigenvalue": eigenvalue.value,
            "residual": eigenvalue.residual,
            "num_products": float(eigenvalue.num_steps),
        }

    def antithetic_rise(
        self,
        directions: Directions,
        sigma: float,
        base: WindowLosses,
        progress: Progress = silent,
    ) -> tuple[Metrics, dict[str, list[float]]]:
        """Return the mean rise of the loss over both ends of a direction, from `base` = losses().

        And in blocks of the text, whose mean it is.
        """
        tensors = {name: parameter.data for name, parameter in self.parameters.items()}
        stds = dict.fromkeys(tensors, 1.0)
        ends, moved = [], []
        for i, size in enumerate((sigma, -sigma)):
            with perturbed(tensors, stds, size, directions) as relative_change:
                ends.append(self.losses())
            moved.append(relative_change)
            progress(i + 1, 2)
        mean = sum(end.nll_mean for end in ends) / 2
        rise = mean - base.nll_mean
        metrics = {
            "rise": rise,
            "curvature": 2 * rise / sigma**2,
            "nll_mean": mean,
            "base_nll": base.nll_mean,
            "relative_change": sum(moved) / 2,
        }
        blocks = (ends[0].in_blocks() + ends[1].in_blocks()) / 2 - base.in_blocks()
        return metrics, {"block_rise": blocks.tolist()}

    def _text(self) -> curvature.Text:
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, torch.nn.Embedding), "embeds its tokens in an unknown way"
        return curvature.Text.of(
            self.tokens, self.window, embedding.num_embeddings, self.model.device
        )
