"""Nothing is claimed of losses that are not finite; the verdict says where, how many, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ucurve.analysis import condition_verdicts, learning_rate_fits
from ucurve.analysis.conditions import Condition
from ucurve.schemas.results import Verdict

TOKENS = np.array([1e6, 2e6, 4e6, 8e6, 16e6])
BROKEN = [np.inf, np.nan, -np.inf]
Array = NDArray[np.float64]


def u_curve(draws: int = 8) -> Array:
    """Return losses with their minimum at 4M tokens, [5, draws]."""
    noise = 0.003 * np.random.default_rng(3).standard_normal((5, draws))
    return np.array([2.9, 2.75, 2.6, 2.9, 3.3])[:, None] + noise


def judged(losses: Array, base_at: int | None = None, **labels: Any) -> dict[str, Verdict]:
    """Return the verdicts by claim; base_at: the checkpoint whose unperturbed loss is NaN."""
    base = np.linspace(2.5, 2.2, 5)[:, None] + np.linspace(0, 1e-3, 32)
    broken = np.zeros(5, bool)
    if base_at is not None:
        base[base_at], broken[base_at] = np.nan, True
    condition = Condition("gamma 0.2", TOKENS, losses, base, labels=labels, broken_base=broken)
    return {verdict.claim: verdict for verdict in condition_verdicts.all_verdicts([condition])}


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("count", [1, 3])
def test_a_minimum_with_broken_draws_is_no_minimum_and_says_so(value: float, count: int) -> None:
    losses = u_curve()
    losses[2, :count] = value
    found = judged(losses, gamma=0.2)
    for claim in ("catastrophic overtraining", "inflection point"):
        verdict = found[claim]
        assert (verdict.answer, verdict.effect, verdict.interval) == ("undetermined", None, None)
        assert f"{count} of 8 losses at 4M tokens" in verdict.sentence
        assert "(nll_mean)" in verdict.sentence
        assert "smaller gamma" in verdict.sentence
        assert "count as the largest finite one" not in verdict.sentence
    assert found["inflection point"].minimum is None


def test_a_broken_fine_tuning_asks_for_a_smaller_learning_rate() -> None:
    losses = u_curve()
    losses[2, 0] = np.inf
    sentence = judged(losses, learning_rate=1e-2)["catastrophic overtraining"].sentence
    assert "smaller learning rate" in sentence


def test_a_broken_checkpoint_that_is_not_the_lowest_is_none_to_rise_from() -> None:
    """Finite draws at 3.0 and one at infinity: their mean is infinite, so nothing rises from it."""
    losses = u_curve()
    losses[2] += 1  # the minimum is now 2M tokens
    losses[0] = 2.9 + 0.001 * np.arange(8)
    losses[0, 1] = np.inf
    verdict = judged(losses)["catastrophic overtraining"]
    assert (verdict.answer, verdict.evidence["lowest_at"]) == ("yes", 2e6)
    falling = np.array([3.0, 4.0, 3.9, 3.8, 3.5])[:, None] + 0.001 * np.arange(8)
    assert judged(falling)["catastrophic overtraining"].answer == "yes"
    falling[0, 0] = np.inf  # the only checkpoint below the last
    assert judged(falling)["catastrophic overtraining"].answer == "undetermined"


def test_broken_draws_at_every_checkpoint_claim_nothing() -> None:
    losses = u_curve()
    losses[:, 0] = np.nan
    for claim, verdict in judged(losses).items():
        if claim != condition_verdicts.BASE_CLAIM:
            assert (claim, verdict.answer) == (claim, "undetermined")
            assert verdict.interval is None


@pytest.mark.parametrize("place", [0, 4])
def test_no_ratio_or_rise_is_given_from_or_to_a_broken_base(place: int) -> None:
    found = judged(u_curve(), base_at=place)
    growth = found["growth of sensitivity"]
    assert (growth.answer, growth.effect, growth.interval) == ("undetermined", None, None)
    assert f"at {(1, 16)[place > 0]}M tokens" in growth.sentence
    assert not growth.evidence
    sensitivity = found["progressive sensitivity"]
    assert (sensitivity.answer, sensitivity.effect) == ("undetermined", None)
    if place:
        for claim in ("catastrophic overtraining", "inflection point"):
            assert found[claim].answer == "undetermined"
            assert (found[claim].effect, found[claim].interval) == (None, None)


def test_draws_broken_at_the_last_checkpoint_alone_are_still_a_rise() -> None:
    losses = u_curve()
    losses[4, :2] = np.inf
    verdict = judged(losses)["catastrophic overtraining"]
    assert (verdict.answer, verdict.effect) == ("yes", None)


def test_a_rate_with_a_broken_seed_has_no_place_in_the_law_of_forgetting() -> None:
    rates = np.array([1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3])
    seeds = 1 + 0.01 * np.random.default_rng(0).standard_normal((3, 5, 6))
    forgetting = 100 * rates[None, :, None] ** 1.0 * seeds
    whole = learning_rate_fits.growth_law(rates, forgetting)
    forgetting[:, 4, 0] = np.inf
    broken = learning_rate_fits.growth_law(rates, forgetting)
    assert whole is not None
    assert broken is not None
    assert (whole.num_rates, broken.num_rates) == (5, 4)
    assert broken.exponent == pytest.approx(1.0, abs=0.02)


def test_a_trend_of_the_best_rate_names_what_is_not_finite() -> None:
    rates = np.array([1e-4, 2e-4, 4e-4, 8e-4])
    losses = (np.log(rates / 2.5e-4) ** 2)[None, :, None] + 0.01 * np.random.default_rng(
        0
    ).standard_normal((3, 4, 6))
    forgetting = 100 * rates[None, :, None] * np.ones((3, 4, 6))
    forgetting[1, 3, 2] = np.inf
    trend = learning_rate_fits.rate_trend(TOKENS[:3], rates, losses, forgetting)
    assert trend.speed == "undetermined"
    assert trend.reason == (
        "1 of 72 forgettings is not finite, at learning rate 0.0008: leave that rate out"
    )
