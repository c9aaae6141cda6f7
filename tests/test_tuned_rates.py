"""What is said at each checkpoint's best learning rate knows that the rate was chosen."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from fine_tuning_cases import EXAMPLE, named, planned, sensitive, table_of
from rate_calibration import DESIGN, answers, naive_rise
from rate_simulation import RateWorld

from ucurve.analysis import fine_tuning, tuned_rate_sweeps, tuned_rates
from ucurve.analysis.tuned_rate_verdicts import LEARNED, OVERTRAINING, SENSITIVITY, overtraining
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.schemas.results import Verdict

TIE = RateWorld(gap=0.001)
SCOPE = "full, pre-training seed 0"


def by_hand(task: np.ndarray, values: np.ndarray) -> float:
    """The estimate of one checkpoint of four seeds: every split in halves, both ways round."""
    estimates = []
    for chosen in itertools.combinations(range(4), 2):
        judges = [seed for seed in range(4) if seed not in chosen]
        rate = int(task[:, list(chosen)].mean(axis=1).argmin())
        estimates.append(values[rate, judges].mean())
    return float(np.mean(estimates))


def test_the_estimate_is_the_mean_over_all_splits_in_halves() -> None:
    rng = np.random.default_rng(0)
    task, values = rng.standard_normal((2, 3, 4, 4))
    weights = tuned_rates.cross_fitted(task)
    found = tuned_rates.draws(weights, values).mean(axis=1)
    assert found == pytest.approx([by_hand(*pair) for pair in zip(task, values, strict=True)])


@pytest.mark.parametrize("num_seeds", [3, 4, 5, 8, 11, 40])
def test_a_clear_choice_leaves_the_mean_over_seeds_and_an_error_that_is_not_smaller(
    num_seeds: int,
) -> None:
    rng = np.random.default_rng(num_seeds)
    task = np.array([1.0, 0.0, 2.0])[None, :, None] + 0.01 * rng.standard_normal((2, 3, num_seeds))
    values = rng.standard_normal((2, 3, num_seeds))
    found = tuned_rates.draws(tuned_rates.cross_fitted(task), values)
    assert found.mean(axis=1) == pytest.approx(values[:, 1].mean(axis=1), abs=0.3 / num_seeds)
    ratio = found.std(axis=1, ddof=1) / values[:, 1].std(axis=1, ddof=1)
    assert np.all(ratio >= 1 - 1e-9)
    assert np.all(ratio < 1.6)


def test_splits_are_there_both_ways_round() -> None:
    for num_seeds in (3, 4, 5, 10, 11, 64):
        splits = {tuple(split) for split in tuned_rates.halves(num_seeds).tolist()}
        assert {tuple(1 - seed for seed in split) for split in splits} == splits
        assert {abs(2 * sum(split) - num_seeds) for split in splits} <= {0, 1}


def test_a_rate_at_which_a_seed_diverged_is_never_chosen() -> None:
    task = np.ones((1, 2, 4))
    task[0, 0] = 0.5
    task[0, 0, 3] = np.inf
    values = np.stack([np.full((1, 4), np.nan), np.arange(4.0)[None]], axis=1)
    assert tuned_rates.draws(tuned_rates.cross_fitted(task), values).mean() == pytest.approx(1.5)


def test_a_tie_of_two_rates_is_no_rise_although_seeds_agree_by_accident() -> None:
    """Nominal 3%: of 150, at most 11 (P > 0.999). Chosen and judged on all seeds: a third."""
    rng = np.random.default_rng(1)
    sweeps = [TIE.draw(rng, 4) for _ in range(150)]
    assert sum(map(naive_rise, sweeps)) > 40
    verdicts = [overtraining(sweep, DESIGN, "full") for sweep in sweeps]
    assert sum(verdict.answer == "yes" for verdict in verdicts) <= 11
    held = [v.interval is not None and v.interval[0] <= 0 <= v.interval[1] for v in verdicts]
    assert np.mean(held) >= 0.9


def test_growth_is_found_where_one_rate_is_clearly_the_best() -> None:
    shares = answers(RateWorld(growth=2.0), 5, 40)
    assert shares["overtraining"] >= 80
    assert shares["sensitivity"] >= 80
    assert min(shares["rise in"], shares["growth in"]) >= 85
    assert answers(RateWorld(task_growth=0.2), 5, 40)["task"] >= 80


def test_the_loss_at_a_rate_that_was_chosen_on_other_seeds_is_not_too_good() -> None:
    rng, world = np.random.default_rng(2), RateWorld(gap=0.0)
    sweeps = [world.draw(rng, 4) for _ in range(150)]
    truth = float(world.truth()[0].mean())
    judged = np.mean([sweep.at_best_rate(sweep.task).mean() for sweep in sweeps])
    naive = np.mean([sweep.task.mean(axis=2).min(axis=1).mean() for sweep in sweeps])
    exact = np.mean([sweep.task[:, 2].mean() for sweep in sweeps])  # the same draws at one rate
    assert abs(judged - exact) < 0.001
    assert naive - exact < -0.002
    assert truth == pytest.approx(exact, abs=0.01)


def test_the_best_of_many_rates_that_learn_nothing_is_no_better_than_chance() -> None:
    """The example of nested cross-validation (Cawley and Talbot 2010): candidates of pure noise."""
    rng = np.random.default_rng(3)
    errors = rng.binomial(872, 0.5, (40, 32, 4)) / 872
    judged = tuned_rates.draws(tuned_rates.cross_fitted(errors), errors).mean()
    assert errors.mean(axis=2).min(axis=1).mean() < 0.485
    assert judged == pytest.approx(0.5, abs=0.003)


def verdicts_of(**fields: Any) -> dict[tuple[str, str], Verdict]:
    spec = FineTuning(**{**EXAMPLE, **fields})
    table = table_of(planned(**fields), sensitive)
    return {(verdict.claim, verdict.scope): verdict for verdict in spec.verdicts(table)}


def test_verdicts_at_the_best_rate_find_what_the_table_was_made_with() -> None:
    """Forgetting grows as tokens^0.8 at equal rates; the best rate falls from 3e-3 to 1e-3."""
    verdicts = verdicts_of()
    assert verdicts[SENSITIVITY, "full"].answer == verdicts[SENSITIVITY, SCOPE].answer
    growing = verdicts[SENSITIVITY, SCOPE]
    assert growing.evidence["best_rates"] == [3e-3, 1e-3, 1e-3, 1e-3]
    expected = [60 * rate * tokens**0.8 for rate, tokens in
                zip([3e-3, 1e-3, 1e-3, 1e-3], [1, 2, 4, 8], strict=True)]  # fmt: skip
    assert growing.evidence["forgetting_at_best_rate"] == pytest.approx(expected, rel=0.02)
    assert growing.effect == pytest.approx(expected[-1] - expected[0], rel=0.05)
    assert "is 0.003, then 0.001 from 2M tokens on." in growing.sentence
    assert growing.num_draws == 5
    learned = verdicts[LEARNED, SCOPE]
    assert learned.answer == "no", "the new task is learned better and better"
    assert learned.effect is not None
    assert learned.effect < 0.01
    assert verdicts[OVERTRAINING, SCOPE].p_value is not None


def test_a_best_rate_at_the_edge_of_the_grid_is_said() -> None:
    sentence = verdicts_of(learning_rates=[3e-3, 1e-2, 3e-2])[SENSITIVITY, SCOPE].sentence
    assert "At 4 of 4 checkpoints it is at the edge of the grid" in sentence


@pytest.mark.parametrize(("num_seeds", "more"), [(1, 2), (2, 1)])
def test_too_few_seeds_name_how_many_are_needed(num_seeds: int, more: int) -> None:
    fields = {"seeds": list(range(num_seeds))}
    for claim in (SENSITIVITY, OVERTRAINING, LEARNED):
        verdict = verdicts_of(**fields)[claim, SCOPE]
        assert verdict.answer == "undetermined"
        assert "At least 3 seeds are needed" in verdict.sentence
        assert verdict.more_draws == more


def test_one_learning_rate_has_no_verdict_at_the_best_one() -> None:
    claims = {claim for claim, _ in verdicts_of(learning_rates=[1e-3])}
    assert not claims & {SENSITIVITY, OVERTRAINING, LEARNED}


def diverging(labels: dict[str, Any]) -> dict[str, float]:
    """Every rate diverges for a seed at 4M tokens, and the largest everywhere."""
    broken = labels["seed"] == 4 and labels["tokens"] == 4_000_000
    if labels["learning_rate"] and (broken or labels["learning_rate"] == 1e-2):
        return {"nll_mean": math.nan, "id_loss": math.nan}
    return sensitive(labels)


def test_a_checkpoint_at_which_every_rate_diverges_is_named() -> None:
    spec, table = FineTuning(**EXAMPLE), table_of(planned(), diverging)
    [verdict] = [v for v in spec.verdicts(table) if (v.claim, v.scope) == (OVERTRAINING, SCOPE)]
    assert verdict.answer == "undetermined"
    assert verdict.sentence.startswith("At 4M tokens every learning rate has a seed that diverged")


def test_an_unperturbed_loss_that_is_not_finite_at_the_last_checkpoint_leaves_it_open() -> None:
    def broken(labels: dict[str, Any]) -> dict[str, float]:
        is_base = not labels["learning_rate"]
        return {"nll_mean": math.nan} if is_base and labels["tokens"] == 8e6 else sensitive(labels)

    spec, table = FineTuning(**EXAMPLE), table_of(planned(), broken)
    [verdict] = [v for v in spec.verdicts(table) if (v.claim, v.scope) == (SENSITIVITY, SCOPE)]
    assert verdict.answer == "undetermined"
    assert "The unperturbed loss is not finite at 8M tokens." in verdict.sentence


def test_an_unfinished_experiment_is_judged_by_its_complete_seeds() -> None:
    def unfinished(labels: dict[str, Any]) -> dict[str, float] | None:
        is_open = labels["seed"] == 4 and labels["learning_rate"] == 1e-3
        return None if is_open else sensitive(labels)

    table = fine_tuning.prepared(table_of(planned(), unfinished))
    design = fine_tuning.Design(EXAMPLE["learning_rates"], ["full"], "id_loss")
    sweep = tuned_rate_sweeps.sweeps(table, design, "full")[0]
    assert (sweep.num_seeds, sweep.task.shape) == (4, (4, 4, 4))
    assert sweep.num_unused == 4 * 4


def test_figures_at_the_best_rate_draw_the_estimate_with_its_band() -> None:
    spec, table = FineTuning(**EXAMPLE), table_of(planned(), sensitive)
    figures = spec.figures(table, spec.verdicts(table))
    rows = named(figures["tuned_forgetting"], "mean", replicate=0)
    assert [row["tokens"] for row in rows] == [1e6, 2e6, 4e6, 8e6]
    assert all(row["low"] < row["y"] < row["high"] for row in rows)
    rows = named(figures["tuned_learned"], "mean", replicate=0)
    assert [row["y"] for row in rows] == sorted([row["y"] for row in rows], reverse=True)
    few = FineTuning(**{**EXAMPLE, "seeds": [0, 1]})
    drawn = few.figures(table_of(planned(seeds=[0, 1]), sensitive))["tuned_forgetting"]
    assert {row["label"] for row in named(drawn, "note")} == {
        "2 of at least 3 seeds measured at every rate"
    }
