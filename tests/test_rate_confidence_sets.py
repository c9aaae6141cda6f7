"""The set of learning rates that may be the best holds it as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from rate_calibration import sets_hold
from rate_simulation import validated

from ucurve.analysis.fine_tuning import Design, task_blocks
from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.rate_confidence_sets import candidates
from ucurve.schemas.measurements import MeasurementRow


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_the_set_holds_the_best_rate_however_rates_share_the_validation_error(
    share: float,
) -> None:
    """Nominal 95%: of 150, at least 132 (P > 0.999), whether in blocks or by the bound."""
    held = sets_hold(5, 0.0, 0.003, share, 150)
    assert held["blocks"] >= 88
    assert held["bound"] >= 88
    assert (held["seeds only"] >= 88) == (share == 1.0), "seeds alone do not know of that error"
    if share < 1:  # the rule of Breiman et al. (1984) is no confidence set
        assert held["one standard error"] < 92


def test_rates_that_are_clearly_worse_are_left_out() -> None:
    rng = np.random.default_rng(0)
    task = 2 + 0.1 * np.array([4.0, 1.0, 0.0, 1.0, 4.0, 9.0])
    blocks = validated(rng, task, 0.003, 0.01, 0.5, 5)
    assert candidates(blocks.mean(axis=2), blocks) == (2,)
    assert candidates(blocks.mean(axis=2), error=0.01) == (2,)


def test_one_seed_tells_no_rates_apart_and_a_diverged_one_is_none() -> None:
    assert candidates(np.array([[1.0], [3.0], [2.0]])) == (0, 1, 2)
    assert candidates(np.array([[1.0, np.inf], [3.0, 3.1], [2.0, 2.1]])) == (2,)
    assert candidates(np.array([[np.nan, 1.0], [1.0, np.inf]])) == ()


def test_equal_rates_are_all_in_the_set_and_exact_differences_decide() -> None:
    assert candidates(np.ones((3, 4))) == (0, 1, 2)
    assert candidates(np.array([[1.0, 1.0], [2.0, 2.0]])) == (0,)


def test_more_rates_make_the_set_larger_not_smaller() -> None:
    losses = np.random.default_rng(1).normal(0, 1, (8, 5)) + np.arange(8)[:, None]
    few = set(candidates(losses[:4]))
    assert few <= set(candidates(losses))


def test_a_known_order_of_models_is_cut_where_it_is_certain() -> None:
    """As in examples of the model confidence set: nine models, each worse than the one before."""
    rng = np.random.default_rng(2)
    losses = rng.standard_normal((9, 200)) + np.linspace(0.0, 1.0, 9)[:, None]
    found = candidates(losses)
    assert found[0] == 0
    assert set(range(4, 9)).isdisjoint(found), "0.5 worse is 5 standard errors"


def rows(series: list[dict[str, list[float]]]) -> list[MeasurementRow]:
    return [
        MeasurementRow(
            id=i, identity=str(i), position=i, state="done",
            labels={"tokens": 1e6, "learning_rate": [1e-3, 1e-2][i // 2], "seed": i % 2},
            metrics={"id_loss": 1.0 + i, "accuracy": 0.5, "nll_mean": 3.0}, series=found,
        )
        for i, found in enumerate(series)
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["id_loss", "accuracy"])
def test_blocks_of_the_validation_data_are_read_from_results(metric: str) -> None:
    stored = [{"id_block_loss": [i, i + 2.0], "block_accuracy": [0.25, 0.75]} for i in range(4)]
    design = Design([1e-3, 1e-2], ["full"], "accuracy" if metric == "accuracy" else "id_loss")
    found = task_blocks(to_frame(rows(stored)), design)
    assert found is not None
    assert found.shape == (1, 2, 2, 2)
    expected = [[[0, 2], [1, 3]], [[2, 4], [3, 5]]]
    assert found[0].tolist() == (expected if metric == "id_loss" else [[[0.75, 0.25]] * 2] * 2)
    earlier = task_blocks(to_frame(rows([*stored[:3], {}])), design)
    assert earlier is None, "results of earlier releases have none: the bound takes their place"
