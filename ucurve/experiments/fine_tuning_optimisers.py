"""Optimisers of fine-tuning: their inputs, usual learning rates, and what they cannot train.

    optimiser_inputs("lion", None, (0.9, 0.999))
    # {"optimiser": {"protocol": "lion/1", "beta1": 0.9, "beta2": 0.99}}

The updates are written out in docs/protocols/optimisers.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from ucurve.spec import SpecError

OptimiserName = Literal["adamw", "sgd", "sgd_momentum", "lion", "muon"]
MOMENTUM = {"sgd_momentum": 0.9, "muon": 0.95}
LION_BETAS = {"beta1": 0.9, "beta2": 0.99}  # Chen et al. 2023, section 5
ADAMW_BETAS = (0.9, 0.999)


class Rates(NamedTuple):
    """Default learning rates for language modelling and for tasks with classes."""

    language_modelling: float
    classes: float


ADAMW = Rates(1e-3, 2e-5)
DEFAULT_RATES = {
    "adamw": ADAMW,
    "sgd": ADAMW,
    "sgd_momentum": Rates(1e-1, 2e-3),
    "lion": Rates(3e-4, 6e-6),
    "muon": ADAMW,
}
SLOWER = {"sgd": 1000, "sgd_momentum": 100}  # times AdamW's rate, measured on `tiny`
# Bytes per trained weight of the optimiser's own state, in fp32. Muon has one number for hidden
# matrices and two for all others; a small model with a large vocabulary is mostly of the latter.
STATE_BYTES = {"adamw": 8, "sgd": 0, "sgd_momentum": 4, "lion": 4, "muon": 8}


def default_rate(optimiser: OptimiserName, task: str) -> float:
    """Return the learning rate where a spec has none."""
    rates = DEFAULT_RATES[optimiser]
    return rates.language_modelling if task == "language_modelling" else rates.classes


def optimiser_inputs(
    optimiser: OptimiserName, momentum: float | None, betas: tuple[float, float]
) -> dict[str, Any]:
    """Return the part of a recipe that determines the update rule.

    adamw and sgd have had their names and both betas in it since before there were others; these
    are protocols with the settings that they read.
    """
    beta1, beta2 = betas
    adamw = {"beta1": beta1, "beta2": beta2}
    if optimiser in ("adamw", "sgd"):
        return {"optimiser": optimiser, **adamw}
    settings: dict[str, Any] = {"protocol": f"{optimiser}/1"}
    if optimiser == "lion":
        settings |= LION_BETAS
    else:
        settings["momentum"] = MOMENTUM[optimiser] if momentum is None else momentum
    return {"optimiser": {**settings, **(adamw if optimiser == "muon" else {})}}


def name_of(recipe: dict[str, Any]) -> str:
    """Return the name of the optimiser in the inputs of a measurement."""
    optimiser = recipe["optimiser"]
    return str(optimiser if isinstance(optimiser, str) else optimiser["protocol"].split("/")[0])


def expect_trainable(optimiser: OptimiserName, methods: Sequence[str]) -> None:
    """Raise SpecError where Muon has no hidden matrix to step."""
    if optimiser != "muon":
        return
    reasons = {
        "head": "head trains the last layer only",
        "lora": "an orthogonal step of LoRA's factors is none of their product",
    }
    for method, reason in reasons.items():
        if method in methods:
            raise SpecError(
                "methods",
                f"muon steps the matrices of hidden layers, but {reason}. Choose full, l2_sp or "
                "ewc, or another optimiser.",
            )


def optimiser_warnings(
    optimiser: OptimiserName,
    rates: Sequence[float],
    task: str,
    momentum: float | None = None,
    betas: tuple[float, float] = ADAMW_BETAS,
    rate_field: str = "learning_rates",
) -> list[str]:
    """Return which fields the optimiser does not read, and whether all rates are those of AdamW."""
    messages = []
    if momentum is not None and optimiser not in MOMENTUM:
        messages.append(f"momentum: not used: {optimiser} has none that can be set.")
    if betas != ADAMW_BETAS and optimiser not in ("adamw", "muon"):
        changed = "beta1" if betas[0] != ADAMW_BETAS[0] else "beta2"
        own = " Lion's are 0.9 and 0.99." if optimiser == "lion" else ""
        messages.append(f"{changed}: not used: it is AdamW's, not {optimiser}'s.{own}")
    usual = default_rate("adamw", task)
    times = SLOWER.get(optimiser, 0)
    if times and max(rates) < times / 10 * usual:
        messages.append(
            f"{rate_field}: none is above {max(rates):g}. {optimiser} usually needs about {times} "
            f"times AdamW's, {times * usual:g} here: the model may hardly change."
        )
    if optimiser == "lion" and min(rates) > usual:
        messages.append(
            f"{rate_field}: none is below {min(rates):g}. lion usually needs 3 to 10 times less "
            f"than AdamW, {usual / 10:g} to {usual / 3:.1g} here."
        )
    return messages
