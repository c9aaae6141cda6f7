"""Intervals of changed models hold the value on new text, not only on the one measured."""

from __future__ import annotations

import block_calibration
import calibrate_text
import numpy as np
import pandas as pd
import pytest
import real_draws
from scipy.linalg import toeplitz

from ucurve.analysis import statistics, text_error


def test_the_interval_of_a_rise_holds_it_on_new_text_in_95_percent() -> None:
    """The measured case: text 0.0016 nats, 8 draws 0.0008 to 0.0013 nats; seed 1."""
    for draws_error in (0.0008, 0.0013):
        found = calibrate_text.coverage(2000, 1, draws_error=draws_error, text_error=0.0016)
        assert 0.93 < found["with text"] < 0.97, (draws_error, found)
        assert found["draws only"] < 0.85  # what it was


@pytest.mark.parametrize(("draws", "text"), [(0.002, 0.0), (0.0, 0.002), (0.001, 0.001)])
def test_coverage_holds_where_one_of_both_errors_is_all_there_is(draws: float, text: float) -> None:
    found = calibrate_text.coverage(1500, 2, draws_error=draws, text_error=text)
    assert 0.93 < found["with text"] < 0.975, found


def test_what_draws_and_blocks_share_counts_once() -> None:
    """Noise of single cells is in the variance of draws already."""
    found = calibrate_text.coverage(1500, 3, draws_error=0.0, text_error=0.0, cell_error=0.001)
    assert 0.93 < found["with text"] < 0.985, found


def test_blocks_without_text_error_or_with_broken_draws_widen_nothing() -> None:
    draws = np.arange(4.0)[:, None] * np.ones(32)
    assert text_error.half_width(draws) == pytest.approx(0, abs=1e-12)
    draws[1, 3] = np.nan
    assert text_error.half_width(draws) == 0
    assert text_error.half_width(None) == 0
    assert text_error.widened((1.0, 4.0), 2.0, 0.0) == (1.0, 4.0)
    assert text_error.widened((1.0, 4.0), 2.0, 1.5)[1] == pytest.approx(4.5)


def test_a_half_width_is_that_of_students_t_over_blocks() -> None:
    blocks = np.random.default_rng(0).standard_normal((1, 32))
    long = blocks[0].reshape(8, 4).mean(axis=1)
    np.testing.assert_allclose(statistics.long_blocks(blocks[0]), long)
    mean, low, _ = statistics.mean_interval(long)
    assert text_error.half_width(blocks) == pytest.approx(mean - low)


@pytest.mark.parametrize("num", [1, 5, 8, 9, 13, 32])
def test_long_blocks_keep_the_mean_of_the_text(num: int) -> None:
    blocks = np.random.default_rng(num).standard_normal((3, num))
    long = statistics.long_blocks(blocks)
    assert long.shape == (3, min(num, 8))
    np.testing.assert_allclose(long.mean(axis=1), blocks.mean(axis=1))


def test_blocks_that_resemble_their_neighbours_give_the_error_of_the_mean_as_it_is() -> None:
    correlations = np.r_[1, 0.26, 0.17, 0.15, np.zeros(28)]
    factor = np.linalg.cholesky(toeplitz(correlations))
    texts = np.random.default_rng(3).standard_normal((4000, 1, 32)) @ factor.T
    true = texts.mean(axis=-1).std()
    stated = np.sqrt(text_error.variance(texts).mean())
    assert 0.8 < stated / true <= 1, "with 32 blocks it is 0.68"


def test_rows_without_blocks_or_of_another_text_have_none() -> None:
    row = {"block_loss": [1.0, 2.0]}
    found = text_error.of_rows([row, {"block_loss": [3.0, None]}])
    assert found is not None
    assert found.shape == (2, 2)
    assert text_error.of_rows([row, {}]) is None
    assert text_error.of_rows([row, {"block_loss": [1.0, 2.0, 3.0]}]) is None
    assert text_error.of_rows([]) is None
    assert text_error.of_rows([None]) is None


# ---- blocks that resemble their neighbours, and real draws


def test_blocks_are_simulated_with_the_stated_correlations_and_mislead_the_test() -> None:
    wrong = {}
    for name, correlations in block_calibration.CORRELATIONS.items():
        losses = block_calibration.blocks(1500, 5, correlations, np.random.default_rng(3))
        assert losses.var() == pytest.approx(1, abs=0.02)
        for lag in (1, 2, 3):
            measured = (losses[..., lag:] * losses[..., :-lag]).mean()
            assert measured == pytest.approx(correlations[lag], abs=0.02), (name, lag)
        wrong[name] = block_calibration.row(losses)[0]
    assert wrong["independent"] < 4.5
    assert 6 < wrong["0.25 at lag 1, AR(1)"] < wrong["0.26, 0.17, 0.15 at lags 1 to 3"] < 18


def test_real_draws_are_those_of_one_run_by_tokens_and_none_may_be_missing() -> None:
    rows = [
        {"replicate": r, "tokens": t, "gamma": g, "draw": d, "nll_mean": r * 100 + t + (d or 0)}
        for r in (0, 1)
        for t in (20, 10)
        for g, d in ((0.0, None), (0.1, 0), (0.1, 1))
    ]
    table = pd.DataFrame(rows)
    assert real_draws.losses_of(table, 1, 2).tolist() == [[110, 111], [120, 121]]
    table.loc[5, "nll_mean"] = None
    assert real_draws.losses_of(table, 1, 2).shape == (2, 2), "the other run lacks nothing"
    with pytest.raises(ValueError, match="3 finite losses of 2 checkpoints"):
        real_draws.losses_of(table, 0, 2)
