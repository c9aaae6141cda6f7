"""Bands of Pareto fronts hold the whole true front, whichever rates are on it."""

from __future__ import annotations

import numpy as np
import pytest
from fine_tuning_cases import EXAMPLE, named, planned, sensitive, table_of
from rate_calibration import fronts_hold
from rate_simulation import RateWorld

from ucurve.analysis.pareto_fronts import front_band, true_front
from ucurve.experiments.fine_tuning import FineTuning


@pytest.mark.parametrize("skewed", [False, True])
def test_the_band_holds_the_true_front(skewed: bool) -> None:
    """Nominal 95%: of 200, at least 179 (P > 0.999)."""
    assert fronts_hold(RateWorld(gap=0.001, skewed=skewed), 5, 200) >= 89.5


def test_the_front_leaves_out_what_another_rate_beats_in_both() -> None:
    task = np.array([[3.0, 3.2], [2.0, 2.2], [2.5, 2.7], [np.inf, 1.0]])
    retention = np.array([[1.0, 1.1], [1.5, 1.6], [1.9, 1.9], [0.0, 0.0]])
    band = front_band(task, retention)
    assert band is not None
    assert [(rate, round(x, 3), round(y, 3)) for rate, x, y in band.front] == [
        (1, 2.1, 1.55),
        (0, 3.1, 1.05),
    ]


def test_the_band_is_open_above_where_no_rate_is_reached_for_certain() -> None:
    rng = np.random.default_rng(0)
    task = np.array([2.0, 1.0])[:, None] + 0.01 * rng.standard_normal((2, 5))
    retention = np.array([1.0, 2.0])[:, None] + 0.01 * rng.standard_normal((2, 5))
    band = front_band(task, retention)
    assert band is not None
    assert [np.isinf(high) for _, _, high in band.steps] == [True, False, False, False]
    assert band.holds([(1.0, 2.0), (2.0, 1.0)])
    assert not band.holds([(1.0, 2.5), (2.0, 1.0)])
    assert not band.holds([(0.5, 2.0), (2.0, 1.0)]), "below the band nothing is reached"
    assert front_band(task[:, :1], retention[:, :1]) is None
    assert front_band(task * np.inf, retention) is None


def test_the_true_front_has_the_rates_that_no_other_beats() -> None:
    assert true_front(np.array([3.0, 2.0, 2.5]), np.array([1.0, 1.5, 1.9])) == [
        (3.0, 1.0),
        (2.0, 1.5),
    ]


def test_the_figure_draws_fronts_and_bands_within_the_picture() -> None:
    spec, table = FineTuning(**EXAMPLE), table_of(planned(), sensitive)
    figure = spec.figures(table)["pareto_fronts"]
    means = named(figure, "mean", replicate=0, tokens=4_000_000)
    assert [row["learning_rate"] for row in means] == [1e-3, 3e-4]
    assert means[0]["x"] < means[1]["x"]
    assert means[0]["y"] > means[1]["y"]
    for tokens in (1e6, 4e6):
        steps = named(figure, "band", replicate=0, tokens=tokens)
        assert [row["x"] for row in steps] == sorted(row["x"] for row in steps)
        assert all(row["band_low"] <= row["band_high"] for row in steps)
        assert {"low", "high"}.isdisjoint(steps[0])
