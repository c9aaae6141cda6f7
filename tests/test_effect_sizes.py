"""A significant effect below the smallest one of interest stays a yes, and is called negligible."""

from __future__ import annotations

import numpy as np
import pytest

from ucurve.analysis import combined_verdicts, condition_verdicts
from ucurve.analysis.conditions import Condition
from ucurve.analysis.effect_sizes import is_negligible, remark

TOKENS = np.array([1e6, 2e6, 4e6, 8e6])
BASE = np.repeat(np.array([[3.0], [2.8], [2.7], [2.6]]), 8, axis=1)


def condition(growth: float, spread: float = 1e-5, unit: str = "nats") -> Condition:
    """Loss increases that grow by `growth` from the first checkpoint to the last, in 8 draws."""
    draws = spread * np.random.default_rng(0).standard_normal((4, 8))
    losses = BASE + 0.001 + growth * np.array([[0.0], [0.3], [0.6], [1.0]]) + draws
    return Condition(f"growth {growth:g}", TOKENS, losses, BASE, unit=unit, smallest_effect=0.01)


@pytest.mark.parametrize(
    ("effect", "interval", "text"),
    [
        (0.0004, (0.0003, 0.0005), " Significant, but below 0.01 nats: negligible."),
        (
            0.008,
            (0.001, 0.02),
            " Significant, but below 0.01 nats; the interval includes relevant effects.",
        ),
        (0.01, (0.009, 0.011), ""),
        (1.3, (1.2, 1.4), ""),
        (None, None, ""),  # of replaced values nothing is said
    ],
)
def test_the_remark_depends_on_the_effect_and_its_interval(
    effect: float | None, interval: tuple[float, float] | None, text: str
) -> None:
    assert remark(effect, interval, 0.01, "nats") == text


def test_rounding_to_8_bits_grows_significantly_and_negligibly_and_the_answer_stays() -> None:
    """The measured case: 0.0004 nats; at 3 bits it is 0.25."""
    tiny, large = condition_verdicts.progressive_sensitivity([condition(0.0004), condition(0.25)])
    assert (tiny.answer, large.answer) == ("yes", "yes")
    assert tiny.p_value is not None
    assert tiny.alpha is not None
    assert tiny.p_value < tiny.alpha
    assert tiny.sentence.endswith("Significant, but below 0.01 nats: negligible.")
    assert "Significant" not in large.sentence
    assert is_negligible(tiny)
    assert not is_negligible(large)
    summary = combined_verdicts.over_conditions([tiny, large], "under init_std")
    assert summary.answer == "yes"
    assert summary.sentence == "Yes for growth 0.0004 (negligible), growth 0.25."


def test_a_negligible_rise_after_the_minimum_is_named_too() -> None:
    steps = np.array([[0.01], [0.0], [0.001], [0.003]])
    draws = 1e-5 * np.random.default_rng(1).standard_normal((4, 8))
    flat = np.full((4, 8), 2.5)
    rising = Condition("gamma 0.1", TOKENS, 2.6 + steps + draws, flat)
    [verdict] = condition_verdicts.catastrophic_overtraining([rising])
    assert verdict.answer == "yes"
    assert "below 0.01 nats: negligible." in verdict.sentence


def test_no_and_undetermined_get_no_remark() -> None:
    [falling] = condition_verdicts.progressive_sensitivity([condition(-0.0005)])
    [unclear] = condition_verdicts.progressive_sensitivity([condition(0.004, spread=0.05)])
    assert {falling.answer, unclear.answer} == {"no", "undetermined"}
    for verdict in (falling, unclear):
        assert "Significant" not in verdict.sentence
        assert not is_negligible(verdict)
