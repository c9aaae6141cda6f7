"""Verdicts: calibrated against simulated truths, and exact on tables whose answer is known."""

from __future__ import annotations

import itertools
from typing import Any

import calibration
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, t

from ucurve.analysis import combined_verdicts, condition_verdicts, contrasts, statistics, trends
from ucurve.analysis.conditions import METHOD, Condition, paired
from ucurve.schemas.results import Answer, Verdict

TOKENS = np.array([0.9e6, 1.8e6, 3.5e6, 7e6, 14e6])
FALLING_BASE = np.linspace(2.6, 2.2, 5)[:, None] + 0.002 * np.random.default_rng(1).standard_normal(
    (5, 32)
)


def condition(
    means: list[float], seed: int = 0, draws: int = 5, spread: float = 0.01, **more: Any
) -> Condition:
    """Losses with these means exactly, and draws that scatter around them."""
    noise = np.random.default_rng(seed).standard_normal((len(means), draws))
    losses = np.array(means)[:, None] + spread * (noise - noise.mean(axis=1, keepdims=True))
    return Condition(
        "gamma 0.2",
        TOKENS[: len(means)],
        losses,
        more.pop("base", FALLING_BASE[: len(means)]),
        **more,
    )


def told(found: list[Verdict], claim: str) -> Verdict:
    (verdict,) = [verdict for verdict in found if verdict.claim == claim]
    return verdict


# ---- calibration: a few hundred simulations; a nominal test breaks the bound with P < 0.001


@pytest.mark.parametrize("size", [(5, 5), (15, 8)])
@pytest.mark.parametrize(
    "more", [{}, {"rho": 0.9}, {"tails": "heavy"}], ids=["independent", "correlated", "heavy tails"]
)
def test_no_verdict_says_yes_too_often_on_flat_or_falling_truth(
    size: tuple[int, int], more: dict[str, Any]
) -> None:
    world = calibration.World(*size, **more)
    limit = binom.isf(0.001, 300, 0.05) / 300
    for name, truth in calibration.truths(world):
        for test in (calibration.overtraining, calibration.base, calibration.sensitivity):
            assert calibration.says(test, world, truth, 300, 0)["yes"] <= limit, (
                name,
                test.__name__,
            )


def test_the_naive_test_breaks_that_bound_so_the_calibration_can_fail() -> None:
    world = calibration.World(15, 8)
    flat = np.zeros(15)
    assert calibration.says(calibration.naive, world, flat, 300, 0)["yes"] > 0.15
    assert calibration.says(calibration.naive_any, world, flat, 300, 0)["yes"] > 0.4


def test_several_gammas_together_say_yes_no_more_often_than_one() -> None:
    wrong = calibration.family_overtraining(calibration.World(5, 5), num_gammas=4, num=300, seed=0)
    assert wrong <= binom.isf(0.001, 300, 0.05) / 300


@pytest.mark.parametrize("size", [(5, 5), (5, 8), (15, 8)])
def test_effects_of_five_to_eight_standard_errors_are_seen(size: tuple[int, int]) -> None:
    world = calibration.World(*size)
    assert (
        calibration.says(calibration.overtraining, world, calibration.u_shape(world, 5), 200, 1)[
            "yes"
        ]
        > 0.75
    )
    assert (
        calibration.says(calibration.overtraining, world, calibration.u_shape(world, 8), 200, 2)[
            "yes"
        ]
        > 0.92  # 5 x 5: 85% and 97% in docs/calibration.md
    )
    rise = 5 * world.error * np.linspace(0, 1, size[0])
    assert calibration.says(calibration.sensitivity, world, rise, 200, 3)["yes"] > 0.9


def test_intervals_hold_the_true_value_in_ninety_five_percent() -> None:
    world = calibration.World(5, 5)
    found = calibration.coverage(world, calibration.u_shape(world, 6), 400, 4)
    assert min(found.values()) >= binom.ppf(0.001, 400, 0.95) / 400, found


# ---- the numbers


def test_resampled_means_have_the_quantiles_of_students_t() -> None:
    losses = np.random.default_rng(0).standard_normal((2, 5))
    means = statistics.resampled_means(losses, np.random.default_rng(1), num=200_000)
    mean, low, high = statistics.mean_interval(losses[1])
    np.testing.assert_allclose(
        np.quantile(means[:, 1], [0.025, 0.5, 0.975]), [low, mean, high], atol=0.02
    )
    assert high - mean == pytest.approx(t.ppf(0.975, 4) * losses[1].std(ddof=1) / np.sqrt(5))


def test_what_draws_share_does_not_matter() -> None:
    losses = condition([3.0, 2.5, 2.4, 2.6, 2.9]).losses
    shared = losses + 100 * np.arange(5)
    one, other = contrasts.rise_after_minimum(losses), contrasts.rise_after_minimum(shared)
    assert one.minimum == other.minimum == 2
    np.testing.assert_allclose(
        [one.rise, *one.interval, one.p_value],
        [other.rise, *other.interval, other.p_value],
        rtol=1e-6,
    )


def test_the_correction_for_skewness_is_monotone_and_the_limits_invert_it() -> None:
    z = np.linspace(-5, 30, 400)
    for a in (0.0, -0.05, -0.3, -1.0):
        bend = np.full_like(z, a)
        corrected = contrasts.deviates(z, bend)
        assert (np.diff(corrected) >= 0).all()
        assert (corrected <= z + 1e-12).all()
        np.testing.assert_allclose(contrasts.plain_deviates(corrected, bend), z, atol=1e-6)
    first_order = -1e-4 * (2 * 3.0**2 + 1) / 6
    corrected = contrasts.deviates(np.array([3.0]), np.array([-1e-4]))
    assert corrected[0] - 3 == pytest.approx(first_order, rel=1e-3)


def test_draws_missing_from_a_long_left_tail_say_yes_less_often_than_with_students_t() -> None:
    """Left-skewed contrasts: right-skewed losses whose spread shrinks, the documented limit."""
    world = calibration.World(5, 8, tails="skewed", spread_ratio=0.2, shared=0)
    rng = np.random.default_rng(0)
    losses = np.stack([world.noise(rng) for _ in range(1500)])
    tested = contrasts.of(losses)
    wrong = float((contrasts.simes(contrasts.p_values(tested)) < 0.03).mean())
    students = t.sf(tested.mean / np.sqrt(tested.own / 8), 7)
    assert wrong < 1.5 * 0.03 + 3 * np.sqrt(0.03 / 1500)
    assert float((contrasts.simes(students) < 0.03).mean()) > 2 * 0.03


def test_a_right_tail_that_is_missing_excludes_a_rise_less_often_than_students_t() -> None:
    world = calibration.World(5, 8, tails="skewed", spread_ratio=5, shared=0)
    rng = np.random.default_rng(1)
    tested = contrasts.of(np.stack([world.noise(rng) for _ in range(1500)]))
    wrong = float((contrasts.upper_limits(tested)[:, 2] < 0).mean())
    limit = tested.mean + t.ppf(0.975, 7) * np.sqrt(tested.own / 8)
    assert wrong < float((limit[:, 2] < 0).mean()) - 0.01


def test_the_largest_contrast_of_equal_normal_draws_has_satterthwaites_degrees() -> None:
    """Two uncorrelated contrasts of equal variance: known in closed form."""
    values = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    tested = contrasts.of(values)
    weight = 4 / 7
    expected = 3 / ((1 - weight / 2) ** 2 + (weight / 2) ** 2)
    np.testing.assert_allclose(tested.degrees, expected)


def test_a_trend_in_ranks_alone_is_no_yes() -> None:
    """Every draw rises by a little but one falls far: the mean does not rise."""
    values = np.arange(5.0)[:, None] * np.array([1.0, 1.1, 0.9, 1.0, 1.2, 0.8, 1.0, -20.0])
    assert trends.trend(values).p_rising > 0.5
    assert trends.trend(values[:, :7]).p_rising < 0.001


def test_verdicts_name_the_version_of_their_method() -> None:
    found = condition_verdicts.all_verdicts([condition([2.9, 2.7, 2.65, 2.8, 3.2])])
    assert {verdict.method for verdict in found} == {METHOD}
    for verdict in found:
        assert f"verdict method {METHOD}" in verdict.test
    assert Verdict(claim="", answer="no", sentence="").method == 1  # of labs before it was named
    summary = combined_verdicts.over_conditions(found[1:2], "")
    assert summary.method == METHOD


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests() -> None:
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]


def test_blocks_keep_the_mean_loss_per_token_when_windows_differ_in_length() -> None:
    nll, tokens = (
        np.random.default_rng(0).uniform(100, 200, (2, 71)),
        np.random.default_rng(1).integers(40, 64, 71).astype(float),
    )
    blocks = statistics.blocks(nll, tokens)
    assert blocks.shape == (2, 32)
    np.testing.assert_allclose(blocks.mean(axis=1), nll.sum(axis=1) / tokens.sum())


def test_the_exponent_of_a_power_law_is_found() -> None:
    x = 2.0 ** np.arange(6)
    values = 0.3 * x[:, None] ** 0.7 * (1 + 0.01 * np.random.default_rng(0).standard_normal((6, 5)))
    law = statistics.power_law(x, values, np.random.default_rng(0))
    assert law is not None
    assert law.exponent == pytest.approx(0.7, abs=0.02)
    assert law.factor == pytest.approx(0.3, abs=0.02)
    assert statistics.power_law(x, values - values.mean(), np.random.default_rng(0)) is None


# ---- the rules


def test_a_u_over_a_falling_base_is_catastrophic_overtraining_with_its_inflection_point() -> None:
    found = condition_verdicts.all_verdicts([condition([2.9, 2.7, 2.65, 2.8, 3.2])])
    overtraining = told(found, "catastrophic overtraining")
    assert overtraining.answer == "yes"
    assert overtraining.effect == pytest.approx(0.55)
    inflection = told(found, "inflection point")
    assert (inflection.answer, inflection.effect, inflection.interval) == (
        "yes",
        3.5e6,
        (3.5e6, 3.5e6),
    )
    assert (
        told(found, "progressive sensitivity").answer
        == told(found, "growth of sensitivity").answer
        == "yes"
    )
    assert told(found, "unperturbed loss rises").answer == "no"


def test_a_u_over_a_base_that_rises_too_is_called_base_degrades() -> None:
    base = np.array([2.6, 2.3, 2.2, 2.3, 2.5])[:, None] + 0.002 * np.random.default_rng(
        1
    ).standard_normal((5, 32))
    found = condition_verdicts.all_verdicts([condition([2.9, 2.7, 2.65, 2.8, 3.2], base=base)])
    assert told(found, "unperturbed loss rises").answer == "yes"
    assert told(found, "catastrophic overtraining").answer == "no"
    assert "unperturbed loss rises" in told(found, "catastrophic overtraining").sentence


def test_a_base_too_noisy_to_judge_leaves_overtraining_undetermined() -> None:
    base = np.full((5, 1), 2.4) + 2.0 * np.random.default_rng(1).standard_normal((5, 32))
    verdict = told(
        condition_verdicts.all_verdicts([condition([2.9, 2.7, 2.65, 2.8, 3.2], base=base)]),
        "catastrophic overtraining",
    )
    assert verdict.answer == "undetermined"
    assert "use more evaluation text" in verdict.sentence


def test_a_falling_loss_is_a_no_and_a_noisy_one_undetermined_with_the_draws_it_needs() -> None:
    clear = told(
        condition_verdicts.all_verdicts([condition([3.0, 2.8, 2.6, 2.5, 2.4])]),
        "catastrophic overtraining",
    )
    noisy = told(
        condition_verdicts.all_verdicts([condition([3.0, 2.8, 2.6, 2.5, 2.55], spread=0.2)]),
        "catastrophic overtraining",
    )
    assert clear.answer == "no"
    assert noisy.answer == "undetermined"
    assert "more draws could resolve it" in noisy.sentence
    assert noisy.more_draws


def test_the_draws_said_to_be_needed_settle_the_effect_in_most_cases() -> None:
    world = calibration.World(5, 5)
    needed = statistics.draws_needed(2 * world.error, np.sqrt(2), 0.05 / 4)
    more = calibration.World(5, needed)
    truth = np.array([9.0, 9.0, 0.0, 9.0, 2 * world.error])
    assert 0.6 < calibration.says(calibration.overtraining, more, truth, 200, 5)["yes"] < 0.95


def test_damage_that_falls_is_a_no_for_progressive_sensitivity() -> None:
    found = condition_verdicts.all_verdicts([condition([3.6, 3.2, 2.9, 2.6, 2.3])])
    assert told(found, "progressive sensitivity").answer == "no"
    assert told(found, "growth of sensitivity").answer == "no"


def test_a_broken_draw_counts_as_the_worst_and_an_unfinished_one_is_left_out() -> None:
    losses = condition([2.9, 2.7, 2.65, 2.8, 3.2], draws=6).losses
    broken, unfinished = losses.copy(), losses.copy()
    broken[4, 2] = np.inf
    unfinished[4, 2] = np.nan
    measured = np.isfinite(unfinished)
    (first,) = condition_verdicts.catastrophic_overtraining(
        [Condition("", TOKENS, broken, FALLING_BASE)]
    )
    (second,) = condition_verdicts.catastrophic_overtraining(
        [Condition("", TOKENS, unfinished, FALLING_BASE, measured)]
    )
    assert (first.answer, first.num_draws, first.num_nonfinite) == ("yes", 6, 1)
    assert (second.answer, second.num_draws, second.num_unused) == ("yes", 5, 5)
    assert first.evidence["loss"][4] is None
    Verdict.model_validate_json(first.model_dump_json())


def test_broken_draws_at_the_last_checkpoint_never_give_a_no() -> None:
    losses = condition([3.0, 2.8, 2.6, 2.5, 2.4]).losses
    losses[4, 0] = np.nan
    broken = [Condition("", TOKENS, losses, FALLING_BASE)]
    assert condition_verdicts.catastrophic_overtraining(broken)[0].answer != "no"


def test_one_draw_or_one_checkpoint_is_undetermined_whatever_it_shows() -> None:
    for few in (condition([2.9, 2.7, 2.65, 2.8, 3.2], draws=1), condition([2.9])):
        found = condition_verdicts.all_verdicts([few])
        assert {
            verdict.answer for verdict in found if verdict.claim != "unperturbed loss rises"
        } == {"undetermined"}


def test_the_same_table_gives_the_same_verdicts() -> None:
    one = [condition([2.9, 2.7, 2.68, 2.69, 2.75], spread=0.05)]
    assert condition_verdicts.all_verdicts(one) == condition_verdicts.all_verdicts(one)


def test_an_unqualified_yes_needs_both_noise_conventions() -> None:
    yes, no = (
        Verdict(claim="catastrophic overtraining", answer=answer, sentence="")
        for answer in ("yes", "no")
    )
    both = combined_verdicts.over_conventions({"current_std": yes, "init_std": yes})
    weights = combined_verdicts.over_conventions({"current_std": yes, "init_std": no})
    alone = combined_verdicts.over_conventions({"current_std": yes})
    assert both.answer == "yes"
    assert weights.answer == alone.answer == "undetermined"
    assert weights.sentence == (
        "Yes with noise relative to current weights, no with noise relative to initialisation: "
        "growth of the weights may explain the effect."
    )
    assert [part.answer for part in weights.summarizes] == ["yes", "no"]
    assert combined_verdicts.over_conventions({"current_std": no, "init_std": no}).answer == "no"


def test_matched_displacement_is_said_beside_an_answer_and_changes_none() -> None:
    answers: tuple[Answer, ...] = ("yes", "no", "undetermined")
    yes, no, open_ = (Verdict(claim="c", answer=answer, sentence="") for answer in answers)
    for third in (yes, no, open_):
        for first, second in itertools.product((yes, no, open_), repeat=2):
            two = {"current_std": first, "init_std": second}
            alone = combined_verdicts.over_conventions(two)
            beside = combined_verdicts.over_conventions({**two, "matched_displacement": third})
            assert beside.answer == alone.answer
            assert beside.sentence == (
                f"{alone.sentence} Beside them, {third.answer} with noise at matched displacement."
            )
            assert [part.answer for part in beside.summarizes] == [
                first.answer, second.answer, third.answer
            ]  # fmt: skip
    only = combined_verdicts.over_conventions({"matched_displacement": yes})
    assert only.answer == "undetermined"
    assert only.sentence == (
        "Yes with noise at matched displacement; this claim needs noise of the two other "
        "conventions, not measured."
    )


def test_conditions_need_one_yes_and_replicates_need_all() -> None:
    yes, no = (
        Verdict(claim="c", scope=answer, answer=answer, sentence="") for answer in ("yes", "no")
    )
    assert combined_verdicts.over_conditions([yes, no], "").answer == "yes"
    assert combined_verdicts.over_conditions([no, no], "").answer == "no"
    assert combined_verdicts.over_replicates([yes, yes], "").answer == "yes"
    assert combined_verdicts.over_replicates([yes, no], "").answer == "undetermined"


def test_rows_become_paired_losses_with_gaps_where_nothing_is_measured() -> None:
    table = pd.DataFrame(
        {
            "tokens": [2, 2, 1, 1],
            "draw": [0, 1, 0, 1],
            "state": ["done", "done", "done", "open"],
            "nll_mean": [3.0, np.inf, 2.0, np.nan],
        }
    )
    x, losses, measured = paired(table)
    np.testing.assert_array_equal(x, [1, 2])
    np.testing.assert_array_equal(losses, [[2.0, np.nan], [3.0, np.inf]])
    np.testing.assert_array_equal(measured, [[True, False], [True, True]])
    assert not paired(table.drop(columns="nll_mean").assign(state="open"))[2].any()
