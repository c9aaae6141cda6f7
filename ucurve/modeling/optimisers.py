"""Optimisers of fine-tuning by name: torch's AdamW, SGD and Muon, and Lion of lion-pytorch.

    optimiser = build_optimiser({"protocol": "muon/1", "momentum": 0.95, ...}, trained, hidden, ...)

All have one learning rate for all tensors. Muon is for the matrices of hidden layers only; AdamW
steps what is left, and both are one optimiser here, with one state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch

EPS = 1e-8  # of AdamW


class Optimiser(Protocol):
    """What training needs of an optimiser."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...
    def zero_grad(self) -> None: ...
    def step(self) -> object: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


class MuonWithAdamW:
    """Muon for hidden matrices and AdamW for all other tensors, as one optimiser.

    `param_groups` are those of both, so that one learning rate reaches both. The saved state holds
    the momentum of Muon and the moments of AdamW.
    """

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.parts: dict[str, torch.optim.Optimizer] = {"muon": muon, "adamw": adamw}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return the groups themselves, not copies."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts.values():
            part.zero_grad()

    def step(self) -> None:
        """Step both; they share no tensor, so that the order is of no consequence."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state_dict[name])


def build_optimiser(
    optimiser: str | Mapping[str, Any],
    trained: Mapping[str, torch.nn.Parameter],
    hidden: Collection[int],
    *,
    rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> Optimiser:
    """Return the optimiser of a recipe.

    Args:
        optimiser: as the inputs of a measurement have it: "adamw", "sgd", or the protocol of
            another with its settings, {"protocol": "lion/1", "beta1": 0.9, "beta2": 0.99}.
        trained: the parameters to train, by name.
        hidden: ids of the weight matrices of hidden linear layers, for Muon.
        rate: the first learning rate; the training sets that of every update.
        weight_decay: decoupled, theta - rate * weight_decay * theta; of SGD part of the gradient.
        betas: of "adamw".

    Raises:
        ValueError: this version has no such protocol.
    """
    parameters = list(trained.values())
    common: dict[str, Any] = {"lr": rate, "weight_decay": weight_decay}
    if optimiser == "adamw":
        return torch.optim.AdamW(parameters, betas=betas, eps=EPS, fused=True, **common)
    if optimiser == "sgd":
        return torch.optim.SGD(parameters, **common)
    assert isinstance(optimiser, Mapping), f"unknown optimiser {optimiser}"
    match optimiser["protocol"]:
        case "sgd_momentum/1":
            return torch.optim.SGD(parameters, momentum=optimiser["momentum"], **common)
        case "lion/1":
            from lion_pytorch import Lion

            lion: Optimiser = Lion(parameters, betas=_betas(optimiser), **common)
            return lion
        case "muon/1":
            return _muon(optimiser, parameters, hidden, common)
    raise ValueError(
        f"this version of ucurve has no optimiser {optimiser['protocol']!r}: update the worker"
    )


def _muon(
    optimiser: Mapping[str, Any],
    parameters: list[torch.nn.Parameter],
    hidden: Collection[int],
    common: Mapping[str, Any],
) -> MuonWithAdamW:
    """Return Muon, its updates scaled to the size of AdamW's: one learning rate serves both."""
    matrices = [p for p in parameters if id(p) in hidden]
    others = [p for p in parameters if id(p) not in hidden]
    assert matrices, "Muon needs hidden matrices"
    assert others, "an embedding is no hidden matrix"
    muon = torch.optim.Muon(
        matrices,
        momentum=optimiser["momentum"],
        nesterov=True,
        ns_steps=5,
        adjust_lr_fn="match_rms_adamw",
        **common,
    )
    adamw = torch.optim.AdamW(others, betas=_betas(optimiser), eps=EPS, fused=True, **common)
    return MuonWithAdamW(muon, adamw)


def _betas(optimiser: Mapping[str, Any]) -> tuple[float, float]:
    return optimiser["beta1"], optimiser["beta2"]
