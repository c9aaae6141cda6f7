"""A rise of the loss is overtraining while the unperturbed loss explains less than half of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ucurve.analysis import condition_verdicts
from ucurve.analysis.conditions import Condition
from ucurve.schemas.results import Verdict

TOKENS = np.array([0.9e6, 1.8e6, 3.5e6, 7e6, 14e6])


def overtraining(
    rise: float, change: float, error: float = 0.0005, num_blocks: int = 32, **fields: Any
) -> Verdict:
    """Judge a loss that rises by `rise` while the base changes by `change`, with this error."""
    losses = np.array([2.9, 2.7, 2.6, 2.6 + rise / 2, 2.6 + rise])[:, None]
    blocks = np.linspace(-1, 1, num_blocks) if num_blocks > 1 else np.zeros(1)
    scale = error * np.sqrt(num_blocks) / (blocks.std(ddof=1) if num_blocks > 1 else 1)
    base = np.array([2.6, 2.4, 2.3, 2.3 + change / 2, 2.3 + change])[:, None]
    base = base + scale * blocks * np.array([0, 0, 0, 0.5, 1])[:, None]
    noise = 0.002 * np.random.default_rng(0).standard_normal((5, 8))
    noise -= noise.mean(axis=1, keepdims=True)
    [verdict] = condition_verdicts.catastrophic_overtraining(
        [Condition("gamma 0.2", TOKENS, losses + noise, base, **fields)]
    )
    return verdict


def test_a_rise_of_which_the_base_explains_a_hundredth_is_a_yes_that_says_so() -> None:
    verdict = overtraining(1.33, 0.015)
    assert verdict.answer == "yes"
    assert "changes by +0.015 nats" in verdict.sentence
    assert "which explains 1.1% of the rise (95% CI: 1.1% to 1.2%)" in verdict.sentence
    assert verdict.evidence["base_share"] == pytest.approx(0.015 / 1.33)


@pytest.mark.parametrize(
    ("rise", "change", "answer"),
    [(1.0, 0.3, "yes"), (0.1, 0.045, "yes"), (0.1, 0.055, "no"), (0.55, 0.3, "no")],
)
def test_half_of_the_rise_divides_yes_from_no(rise: float, change: float, answer: str) -> None:
    verdict = overtraining(rise, change)
    assert verdict.answer == answer
    assert f"explains {change / rise:.1%} of the rise" in verdict.sentence


def test_more_than_half_is_called_a_base_that_rises_too() -> None:
    verdict = overtraining(0.1, 0.08)
    assert verdict.answer == "no"
    assert "explains 80.0% of the rise" in verdict.sentence
    assert "the unperturbed loss rises, too" in verdict.sentence


@pytest.mark.parametrize("change", [0.04, 0.06])
def test_a_base_whose_interval_holds_half_of_the_rise_needs_more_text(change: float) -> None:
    verdict = overtraining(0.1, change, error=0.01)
    assert verdict.answer == "undetermined"
    assert "half of the rise" in verdict.sentence
    assert "use more evaluation text" in verdict.sentence


def test_a_base_that_falls_explains_nothing() -> None:
    verdict = overtraining(0.5, -0.2)
    assert verdict.answer == "yes"
    assert "explains" not in verdict.sentence


def test_an_exact_base_is_judged_by_its_share_alone() -> None:
    assert overtraining(0.1, 0.04, num_blocks=1, unit="MSE").answer == "yes"
    assert overtraining(0.1, 0.06, num_blocks=1, unit="MSE").answer == "no"


def test_a_single_window_of_text_leaves_the_share_open() -> None:
    verdict = overtraining(1.33, 0.015, num_blocks=1)
    assert (verdict.answer, "more evaluation text" in verdict.sentence) == ("undetermined", True)


def test_a_base_that_grows_as_pythia_70ms_does_leaves_the_published_rise_a_yes() -> None:
    """Base 85.4 -> 86.6 and the loss after gamma 0.04 rises by 0.8 nats: a share of 1.7%."""
    verdict = overtraining(0.8, float(np.log(86.6 / 85.4)), error=0.002)
    assert verdict.answer == "yes"
    assert "explains 1.7% of the rise" in verdict.sentence
