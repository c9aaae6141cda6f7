"""Verdicts on the next pre-training run: the runs are the unit, and two of them say nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import next_run_calibration as worlds
import numpy as np
import pandas as pd
import pytest
from fine_tuning_cases import EXAMPLE, paper, planned, sensitive, table_of
from scipy import stats

from ucurve.analysis import (
    false_discovery,
    gaussian_perturbation,
    next_run,
    next_run_overtraining,
    next_run_sensitivity,
    weight_changes,
)
from ucurve.analysis.conditions import METHOD, METHOD_TEXT, Condition
from ucurve.analysis.prediction import predict, runs_needed
from ucurve.analysis.verdict_order import by_claim
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.import_export.verdict_html import claims_html
from ucurve.schemas.results import Verdict

TOKENS = (1_000_000, 4_000_000, 16_000_000)
BASE = (3.0, 2.7, 2.5)
INCREASE = (0.1, 0.15, 0.6)
OVERTRAINING, SENSITIVITY = next_run_overtraining.CLAIM, next_run_sensitivity.CLAIM


def condition(
    seed: int,
    increase: tuple[float, ...] = INCREASE,
    base: tuple[float, ...] = BASE,
    draws: int = 8,
    gamma: float = 0.2,
    noise: int | None = None,
    spread: float = 0.01,
    **more: Any,
) -> Condition:
    """One run with these loss increases; noise: the generator of its draws."""
    rng = np.random.default_rng(1000 + seed if noise is None else noise)
    after = np.array(base) + np.array(increase)
    return Condition(
        f"gamma {gamma:g} under init_std, pre-training seed {seed}",
        np.array(TOKENS[: len(base)], dtype=float),
        after[:, None] + spread * rng.standard_normal((len(base), draws)),
        np.array(base)[:, None] + 1e-4 * np.random.default_rng(1).standard_normal((len(base), 32)),
        draw_name="noise seeds",
        labels={"scale": "init_std", "replicate": seed, "gamma": gamma},
        **more,
    )


def scaled(factors: list[float], **more: Any) -> dict[int, list[Condition]]:
    """A run per factor, which multiplies its loss increase at the last checkpoint."""
    first, middle, last = INCREASE
    return {
        seed: [condition(seed, (first, middle, last * factor), **more)]
        for seed, factor in enumerate(factors)
    }


def judged(runs: dict[int, list[Condition]], shared: bool = False) -> dict[str, Verdict]:
    """The single setting's verdict by claim, or the only one."""
    found = next_run.verdicts({"under init_std": runs}, shared)
    return {verdict.claim: verdict for verdict in found if not verdict.is_summary}


# ---- what may be said


def test_two_runs_say_nothing_of_a_third_however_much_they_agree() -> None:
    for verdict in judged(scaled([1.0, 1.01])).values():
        assert verdict.answer == "undetermined"
        assert verdict.sentence.startswith("Cannot be said with 2 pre-training seeds")
        assert verdict.sentence.endswith("At least 1 more is needed.")
        assert verdict.interval is None
    assert set(judged(scaled([1.0, 1.01]))) == {SENSITIVITY, OVERTRAINING}


def test_a_run_without_measurements_yet_does_not_count() -> None:
    runs = scaled([1.0, 1.01, 0.98])
    [third] = runs[2]
    runs[2] = [replace(third, measured=np.zeros(third.losses.shape, dtype=bool))]
    assert "with 2 pre-training seeds" in judged(runs)[OVERTRAINING].sentence


def test_verdicts_on_the_next_run_name_their_method_with_or_without_an_answer() -> None:
    unsaid = judged(scaled([1.0, 1.01]))
    said = judged(scaled([1.0, 1.05, 0.95, 1.02, 0.97]))
    assert {verdict.method for verdict in [*unsaid.values(), *said.values()]} == {METHOD}
    assert all(verdict.test.endswith(METHOD_TEXT) for verdict in said.values())


def test_runs_that_agree_predict_the_next_one() -> None:
    found = judged(scaled([1.0, 1.05, 0.95, 1.02, 0.97]))
    assert {verdict.answer for verdict in found.values()} == {"yes"}
    rise = found[OVERTRAINING]
    assert rise.interval
    assert rise.effect == pytest.approx(0.25, abs=0.02), "loss after: 2.85 at 4M, 3.1 at 16M tokens"
    assert 0 < rise.interval[0] < rise.effect < rise.interval[1]
    assert "From 4M tokens to 16M tokens" in rise.sentence
    assert rise.evidence["lowest_at"] == 4e6
    assert (rise.num_draws, rise.draw_name) == (5, "pre-training seeds")
    growth = found[SENSITIVITY]
    assert growth.interval
    assert growth.effect == pytest.approx(6, rel=0.05), "0.6 over 0.1 nats"
    assert growth.labels == {"scale": "init_std", "gamma": 0.2}


def test_runs_that_disagree_say_nothing_although_every_single_one_is_significant() -> None:
    verdict = judged(scaled([1.0, 2.0, 3.5, 0.95, 1.1]))[OVERTRAINING]
    assert verdict.answer == "undetermined"
    assert verdict.interval
    assert verdict.interval[0] < 0 < verdict.interval[1]
    assert min(verdict.evidence["effects"]) > 0.1, "every run rises"
    assert "That includes no rise." in verdict.sentence
    assert verdict.more_draws is None, "noise seeds do not help"


def test_how_many_more_runs_could_resolve_it_is_said_where_any_number_could() -> None:
    close = judged(scaled([1.0, 1.25, 0.9]))[OVERTRAINING]
    more = close.evidence["more_pretraining_seeds"]
    assert more
    assert f"About {more} more pre-training seed" in close.sentence
    far = judged(scaled([1.0, 3.0, 0.5, 4.0]))[OVERTRAINING]
    assert far.evidence["more_pretraining_seeds"] is None
    assert "unlikely to resolve it: runs differ too much" in far.sentence


def test_a_relevant_rise_of_the_next_run_can_be_ruled_out() -> None:
    flat = {seed: [condition(seed, (0.1, 0.1, 0.1))] for seed in range(5)}
    verdict = judged(flat)[OVERTRAINING]
    assert verdict.answer == "no"
    assert "A rise of 0.01 nats or more is ruled out." in verdict.sentence
    falling = {seed: [condition(seed, (0.6, 0.3, 0.1))] for seed in range(5)}
    assert judged(falling)[SENSITIVITY].answer == "no"


def test_a_rise_that_the_unperturbed_loss_explains_is_no_overtraining() -> None:
    base = (3.0, 2.5, 2.9)
    explained = {seed: [condition(seed, (0.1, 0.1, 0.15), base=base)] for seed in range(5)}
    verdict = judged(explained)[OVERTRAINING]
    assert verdict.answer == "no"
    assert "the unperturbed loss rises, too" in verdict.sentence
    half = {
        seed: [condition(seed, (0.1, 0.1, 0.5 + 0.1 * (seed % 2)), base=base)] for seed in range(5)
    }
    assert judged(half)[OVERTRAINING].answer == "undetermined"


def test_the_checkpoint_of_the_minimum_is_one_for_all_runs() -> None:
    """A run's own minimum is picked from its noise, which makes a rise of nothing."""
    rng = np.random.default_rng(3)
    flat = {
        seed: [
            replace(
                condition(seed, (0.1, 0.1, 0.1), base=(2.5, 2.5, 2.5), spread=0.1),
                losses=2.6 + 0.1 * rng.standard_normal((3, 8)),
            )
        ]
        for seed in range(5)
    }
    verdict = judged(flat)[OVERTRAINING]
    assert verdict.interval
    assert verdict.interval[0] < 0
    means = np.array([runs[0].losses.mean(axis=1) for runs in flat.values()])
    contrast = (means[:, -1:] - means[:, :-1]).mean(axis=0).max()
    own = np.mean(means[:, -1] - means[:, :-1].min(axis=1))
    assert verdict.effect == pytest.approx(contrast)
    assert own > contrast


def test_runs_that_break_or_whose_base_breaks_leave_nothing_to_say() -> None:
    runs = scaled([1.0, 1.05, 0.95])
    losses = runs[1][0].losses.copy()
    losses[-1, 2] = np.inf
    runs[1] = [replace(runs[1][0], losses=losses)]
    sentence = judged(runs)[OVERTRAINING].sentence
    assert "Pre-training seed 1: 1 of 8 losses at 16M tokens (nll_mean) is not finite" in sentence
    assert "Measure a smaller gamma" in sentence
    runs = scaled([1.0, 1.05, 0.95])
    runs[2] = [replace(runs[2][0], broken_base=np.array([False, True, False]))]
    assert "Pre-training seed 2: The unperturbed loss" in judged(runs)[OVERTRAINING].sentence


def test_only_checkpoints_of_all_runs_and_complete_draws_are_used() -> None:
    runs = scaled([1.0, 1.05, 0.95, 1.01, 0.99])
    [odd] = runs[4]
    runs[4] = [replace(odd, x=np.array([1e6, 5e6, 16e6]))]
    measured = np.ones((3, 8), dtype=bool)
    measured[-1, 5:] = False
    runs[0] = [replace(runs[0][0], measured=measured)]
    for shared in (False, True):
        verdict = judged(runs, shared)[OVERTRAINING]
        assert verdict.x == [1e6, 16e6]
        assert verdict.effect is not None
        assert np.isfinite(verdict.effect)
    apart = {**runs, 4: [replace(odd, x=np.array([2e6, 5e6, 9e6]))]}
    assert "fewer than two measured checkpoints" in judged(apart)[OVERTRAINING].sentence


# ---- the errors in the interval


def test_the_prediction_interval_is_that_of_the_textbook() -> None:
    effects = np.array([1.0, 2.0, 4.0, 1.5, 2.5])
    found, num = predict(effects), 5
    half = stats.t.ppf(0.975, num - 1) * effects.std(ddof=1)
    assert found.high == pytest.approx(effects.mean() + half * np.sqrt(1 + 1 / num))
    assert found.mean_low == pytest.approx(effects.mean() - half / np.sqrt(num))
    expected = stats.t.sf(effects.mean() / (effects.std(ddof=1) * np.sqrt(1.2)), num - 1)
    assert found.p_rising == pytest.approx(expected)


def test_noise_that_all_runs_share_is_added_to_what_their_spread_shows() -> None:
    common = {seed: [condition(seed, noise=7, spread=0.2)] for seed in range(5)}
    wide, narrow = judged(common, shared=True), judged(common)
    for claim in (OVERTRAINING, SENSITIVITY):
        one, other = wide[claim].interval, narrow[claim].interval
        assert one
        assert other
        assert one[1] - one[0] > 5 * (other[1] - other[0]), "equal runs differ in nothing else"
        assert "All runs share their noise seeds, whose common error" in wide[claim].sentence
        assert "Every run has noise seeds of its own" in narrow[claim].sentence
        assert wide[claim].evidence["draws_are_shared"] is True
    single = {seed: [condition(seed, draws=1)] for seed in range(5)}
    assert judged(single)[OVERTRAINING].interval, "their spread has the noise of each"
    assert "At least 2 noise seeds are needed" in judged(single, shared=True)[OVERTRAINING].sentence


def test_the_error_of_the_text_is_in_the_interval_where_it_is_known() -> None:
    rng = np.random.default_rng(5)
    text = 0.2 * rng.standard_normal((3, 1, 32))
    text -= text.mean(axis=2, keepdims=True)

    def with_blocks(one: Condition) -> list[Condition]:
        return [replace(one, blocks=one.losses[:, :, None] + text)]

    plain = scaled([1.0, 1.05, 0.95, 1.02, 0.97])
    known = {seed: with_blocks(one) for seed, [one] in plain.items()}
    for claim in (OVERTRAINING, SENSITIVITY):
        without, has = judged(plain)[claim], judged(known)[claim]
        assert without.interval
        assert has.interval
        assert has.interval[0] < without.interval[0]
        assert has.interval[1] > without.interval[1]
        assert without.effect_name.endswith("(95% prediction interval, on this text)")
        assert has.effect_name.endswith("(95% prediction interval)")


def test_a_loss_increase_that_is_not_clearly_positive_gives_no_ratio() -> None:
    small = {seed: [condition(seed, (0.001, 0.1, 0.6))] for seed in range(5)}
    verdict = judged(small)[SENSITIVITY]
    assert verdict.effect_name.startswith("growth of the loss increase")
    assert verdict.effect == pytest.approx(0.6, abs=0.02)
    assert verdict.answer == "yes"


def test_the_runs_needed_are_those_at_which_the_typical_effect_becomes_significant() -> None:
    num = runs_needed(2.5, 1.0, 4, 0.03)
    assert num is not None
    assert num > 4
    for many, significant in ((num, True), (num - 1, False)):
        t = 2.5 / np.sqrt(1 + 1 / many)
        assert (stats.t.sf(t, many - 1) < 0.03) == significant
    assert runs_needed(1.5, 1.0, 4, 0.03) is None, "one run in 15 has no such effect"


# ---- error rates: a small version of benchmarks/next_run_calibration.py


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("between", [0.0, 1.0, 5.0])
def test_the_next_run_is_not_promised_more_often_than_the_level(
    between: float, shared: bool
) -> None:
    for everywhere in (False, True):
        world = worlds.Runs(5, between, shared, everywhere)
        for test in (worlds.overtraining, worlds.sensitivity):
            found = worlds.rates(test, world, 150, 0)
            assert found["wrong yes"] <= 100 * stats.binom.isf(0.001, 150, 0.03) / 150, test
            assert found["wrong no"] <= 100 * stats.binom.isf(0.001, 150, 0.025) / 150, test
            assert found["covered"] >= 100 * stats.binom.ppf(0.001, 150, 0.95) / 150, test


def test_runs_that_share_their_noise_would_mislead_a_mean_over_them() -> None:
    world = worlds.Runs(8, 0.0, shared=True)
    assert worlds.rates(worlds.naive_mean, world, 150, 0)["wrong yes"] > 10
    assert worlds.rates(worlds.overtraining, world, 150, 0)["wrong yes"] < 5


# ---- where it is shown


def noise_table(replicates: int, gammas: tuple[float, ...] = (0.1, 0.2)) -> pd.DataFrame:
    """Noise under both conventions at three checkpoints of some runs."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for seed in range(replicates):
        for place, base, increase in zip(TOKENS, BASE, INCREASE, strict=True):
            fixed = {"revision": f"{seed}-{place}", "tokens": place, "replicate": seed}
            fixed |= {"phase": None, "group": "all", "state": "done"}
            series = {"window_nll": [8 * base] * 40, "window_tokens": [8.0] * 40}
            rows.append({**fixed, "gamma": 0.0, "scale": None, "draw": None, "nll_mean": base}
                        | {"series": series})  # fmt: skip
            rows += [
                {**fixed, "gamma": gamma, "scale": scale, "draw": draw, "series": {}}
                | {"nll_mean": base + 5 * gamma * increase + 0.01 * float(rng.standard_normal())}
                for gamma in gammas
                for scale in ("current_std", "init_std")
                for draw in range(6)
            ]
    return pd.DataFrame(rows).assign(measurement=range(len(rows)))


def test_noise_experiments_say_it_by_convention_after_the_answers_about_single_runs() -> None:
    spec = GaussianPerturbation(suite="paper", gammas=[0.1, 0.2], draws=6)
    found = spec.verdicts(noise_table(4))
    claims = [claim.name for claim in by_claim(found)]
    assert claims.index("catastrophic overtraining") < claims.index(SENSITIVITY)
    assert claims.index(OVERTRAINING) < claims.index("unperturbed loss rises")
    [group] = [claim for claim in by_claim(found) if claim.name == OVERTRAINING]
    assert [verdict.scope for verdict in group.summaries] == [
        "",
        "under current_std",
        "under init_std",
    ]
    assert group.summaries[0].answer == "yes", group.summaries[0].sentence
    assert [verdict.scope for verdict in group.details] == [
        f"gamma {gamma} under {scale}"
        for scale in ("current_std", "init_std")
        for gamma in (0.1, 0.2)
    ]
    assert group.discoveries == false_discovery.statement(group.details)
    assert "Catastrophic overtraining of the next run" in claims_html(found)
    assert "share their noise seeds" in group.details[0].sentence
    own = spec.model_copy(update={"noise_seeds": "per_replicate"}).verdicts(noise_table(4))
    assert any("noise seeds of its own" in verdict.sentence for verdict in own)


def test_answers_about_single_runs_are_not_changed_by_it() -> None:
    new = {SENSITIVITY, OVERTRAINING}
    found = gaussian_perturbation.verdicts(noise_table(4))
    old = [verdict for verdict in found if verdict.claim not in new]
    fewer = gaussian_perturbation.verdicts(noise_table(3))
    single = [verdict for verdict in fewer if "pre-training seed 1" in verdict.scope]
    assert single == [verdict for verdict in old if "pre-training seed 1" in verdict.scope]
    groups = {claim.name: claim for claim in by_claim(found)}
    assert "16 tests" in groups["catastrophic overtraining"].discoveries


def test_one_run_is_told_how_many_more_the_next_one_takes() -> None:
    found = gaussian_perturbation.verdicts(noise_table(1))
    assert {SENSITIVITY, OVERTRAINING}.isdisjoint(verdict.claim for verdict in found)
    [summary] = [
        v for v in found
        if v.claim == "catastrophic overtraining" and v.scope == "under init_std"
    ]  # fmt: skip
    assert summary.sentence.endswith("What the next run does takes at least 2 more.")


def test_two_runs_get_one_sentence_per_claim() -> None:
    found = gaussian_perturbation.verdicts(noise_table(2))
    assert [v.claim for v in found if "next run" in v.claim] == [SENSITIVITY, OVERTRAINING]


def test_fine_tuning_says_it_by_method() -> None:
    points = planned(paper(replicates=(0, 1, 2, 3)), methods=["full"])
    spec = FineTuning(**{**EXAMPLE, "methods": ["full"]})
    found = spec.verdicts(table_of(points, sensitive))
    summary = next(v for v in found if v.claim == OVERTRAINING)
    assert summary.scope == "full"
    single = [v for v in found if v.claim == OVERTRAINING and not v.is_summary]
    assert len(single) == 4, "one per learning rate"
    assert all("share their fine-tuning seeds" in v.sentence for v in single if v.interval)
    assert any(v.interval for v in single)


def test_changes_without_draws_say_it_with_the_error_of_the_text() -> None:
    rng = np.random.default_rng(2)
    rows: list[dict[str, Any]] = []
    text = rng.standard_normal(64)
    for seed in range(4):
        for place, base, increase in zip(TOKENS, BASE, INCREASE, strict=True):
            for bits in (None, 3.0):
                mean = base if bits is None else base + increase * (1 + 0.05 * (seed % 2))
                windows = mean + 0.1 * text + 0.01 * rng.standard_normal(64)
                series = {"window_nll": (8 * windows).tolist(), "window_tokens": [8.0] * 64}
                rows.append({"revision": f"{seed}-{place}", "tokens": place, "replicate": seed}
                            | {"phase": None, "scheme": bits and "per row", "bits": bits}
                            | {"nll_mean": float(windows.mean()), "state": "done"}
                            | {"series": series})  # fmt: skip
    table = pd.DataFrame(rows).assign(measurement=range(len(rows)))
    found = weight_changes.verdicts(table, "bits", "{:g} bits".format)
    [single] = [v for v in found if v.claim == OVERTRAINING and not v.is_summary]
    assert single.answer == "yes", single.sentence
    assert "All runs are measured on one text, whose error is added." in single.sentence
    assert single.scope == "3 bits, per row"
