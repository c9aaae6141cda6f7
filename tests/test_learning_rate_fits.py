"""Learning-rate sweeps: best rates, their trend over tokens, and the law of growth."""

import numpy as np
import pytest
from sweep_calibration import RATES, TOKENS, grown, sweep

from ucurve.analysis.learning_rate_fits import (
    at_matched_loss,
    best_rate,
    growth_law,
    optima,
    rate_trend,
)


def test_the_set_of_rates_that_may_be_the_best_grows_with_the_error() -> None:
    losses = np.array([[1.30, 1.34], [1.00, 1.041], [1.03, 1.07], [1.20, 1.24]])
    tight = best_rate(losses)
    assert tight is not None
    assert (tight.index, tight.candidates, tight.at_edge) == (1, (1,), False)
    loose = best_rate(losses, error=0.2)
    assert loose is not None
    assert loose.candidates == (0, 1, 2, 3)
    edge = best_rate(np.array([[1.0], [np.inf], [2.0]]))
    assert edge is not None
    assert (edge.index, edge.candidates, edge.at_edge) == (0, (0, 2), True)
    assert best_rate(np.array([[np.inf], [np.inf]])) is None


def test_the_optimum_lies_between_the_rates_of_the_grid() -> None:
    truth = np.log(np.array([7e-4, 1e-3, 2.9e-3]))
    means = (np.log(RATES)[None, :] - truth[:, None]) ** 2
    assert optima(RATES, means) == pytest.approx(truth)
    assert optima(RATES, np.stack([RATES, -RATES])) == pytest.approx(np.log(RATES[[0, -1]])), (
        "at the edge, the edge"
    )


@pytest.mark.parametrize("seeds", [3, 8])
def test_a_constant_best_rate_is_called_falling_at_the_nominal_rate(seeds: int) -> None:
    """Two-sided 95%: 2.5% falling. 300 sweeps: at most 16 (P > 0.999)."""
    generator = np.random.default_rng(0)
    found = [
        rate_trend(TOKENS, RATES, *sweep(generator, 0.0, 0.6, 0.01, seeds)) for _ in range(300)
    ]
    assert sum("falling" in trend.speed for trend in found) <= 16
    covered = np.mean([trend.p_interval[0] <= 0 <= trend.p_interval[1] for trend in found])
    assert covered >= 0.91
    assert sum(trend.speed == "constant" for trend in found) > 30 or seeds == 3


@pytest.mark.parametrize(
    ("p", "q", "speed"),
    [(0.5, 0.2, "quickly falling"), (0.5, 1.2, "slowly falling"), (-0.5, 0.2, "rising")],
)
def test_the_speed_is_found_where_there_is_one(p: float, q: float, speed: str) -> None:
    generator = np.random.default_rng(1)
    found = [rate_trend(TOKENS, RATES, *sweep(generator, p, q, 0.01, 5)) for _ in range(40)]
    assert sum(trend.speed == speed for trend in found) >= 36
    assert np.mean([trend.p for trend in found]) == pytest.approx(p, abs=0.05)
    assert np.mean([trend.excess for trend in found]) == pytest.approx(p - q, abs=0.1)


def test_where_growth_and_fall_balance_quickly_is_rarely_denied() -> None:
    generator = np.random.default_rng(2)
    found = [rate_trend(TOKENS, RATES, *sweep(generator, 0.5, 0.5, 0.01, 5)) for _ in range(200)]
    assert sum(trend.speed == "slowly falling" for trend in found) <= 13


def test_the_trend_is_undetermined_where_the_grid_or_the_forgetting_does_not_allow_one() -> None:
    losses, forgetting = sweep(np.random.default_rng(3), 0.3, 0.5, 0.001, 5)
    assert rate_trend(TOKENS[:2], RATES, losses[:2], forgetting[:2]).speed == "undetermined"
    assert "edge" in rate_trend(TOKENS, RATES[4:], losses[:, 4:], forgetting[:, 4:]).reason
    assert "positive" in rate_trend(TOKENS, RATES, losses, forgetting - forgetting.max()).reason
    assert "2 seeds" in rate_trend(TOKENS, RATES, losses[:, :, :1], forgetting[:, :, :1]).reason


@pytest.mark.parametrize(("law", "sign"), [("power", -1), ("exponential", 1)])
def test_the_law_of_growth_is_found_and_never_the_other_one(law: str, sign: int) -> None:
    generator = np.random.default_rng(4)
    found = [growth_law(RATES, grown(generator, law)) for _ in range(60)]
    told = [
        0 if one is None or one.interval[0] <= 0 <= one.interval[1] else np.sign(one.advantage)
        for one in found
    ]
    assert told.count(sign) >= 57
    assert told.count(-sign) == 0


def test_a_curve_between_both_laws_is_told_either_way_at_the_nominal_rate() -> None:
    """Both laws fit log forgetting equally badly: 5% of 200 sweeps may decide (20: P > 0.999)."""
    generator = np.random.default_rng(5)
    decided = 0
    for _ in range(200):
        one = growth_law(RATES, grown(generator, "between"))
        assert one is not None
        decided += not one.interval[0] <= 0 <= one.interval[1]
    assert decided <= 20


def test_the_law_needs_rates_at_which_there_is_forgetting() -> None:
    noise = np.random.default_rng(6).normal(0, 1, (5, len(RATES), 5))
    assert growth_law(RATES, noise) is None
    assert growth_law(RATES, np.abs(noise[:, :, :1])) is None


def test_forgetting_at_matched_loss_is_read_between_the_rates() -> None:
    losses, forgetting = np.array([3.0, 2.0, 1.5, 1.8]), np.array([0.1, 0.2, 0.4, 2.0])
    assert at_matched_loss(losses, forgetting, 2.5) == pytest.approx(0.15)
    assert at_matched_loss(losses, forgetting, 1.5) == pytest.approx(0.4)
    assert np.isnan(at_matched_loss(losses, forgetting, 1.4))
    assert np.isnan(at_matched_loss(losses, forgetting, 3.5)), (
        "below it at the smallest rate already"
    )
