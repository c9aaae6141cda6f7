"""The power law of the loss increase: simulated truths recovered, and where no law holds."""

import json
import math
from typing import Any

import fine_tuning_cases
import numpy as np
import pytest
import vl_convert
from law_calibration import coverage
from law_simulation import LawWorld
from test_gaussian_perturbation import EXAMPLE, planned
from test_gaussian_perturbation_figures import table_of

from ucurve.analysis import power_law_surface
from ucurve.analysis.conditions import Condition
from ucurve.analysis.law_onset import onsets
from ucurve.analysis.loss_increase_law import CLAIM, law_verdict
from ucurve.analysis.statistics import Array
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.schemas.results import Verdict

X = np.array([1e6, 2e6, 4e6, 8e6, 16e6])
SIZES = np.array([0.05, 0.1, 0.2, 0.4])
GRID = SIZES[None, :] ** 2 * X[:, None] ** 0.5
DRAWS = np.array([0.9, 1.0, 1.1])  # relative, of mean 1, the same for all points


def exact(increase: Array) -> Array:
    """Draws whose mean is `increase` [num_x, num_sizes]."""
    return np.asarray(increase[:, :, None] * DRAWS, dtype=np.float64)


def verdict_of(increase: Array, base: Array | None = None, sizes: Array = SIZES) -> Verdict:
    """The verdict on increases [num_x, num_sizes, num_draws] over an unperturbed loss."""
    base = np.linspace(3.0, 2.0, len(increase))[:, None] if base is None else base
    conditions = [
        Condition(
            f"gamma {size:g}",
            X[: len(increase)],
            increase[:, j] + base.mean(axis=1)[:, None],
            base,
            labels={"gamma": float(size), "scale": "init_std"},
        )
        for j, size in enumerate(sizes)
    ]
    return law_verdict(conditions, "gamma", "gamma", "under init_std")


@pytest.mark.parametrize("world", [LawWorld(5), LawWorld(8, "heavy")])
def test_intervals_hold_a_simulated_truth_in_95_of_100_cases(world: LawWorld) -> None:
    rates = coverage(world, 1000, seed=15)
    assert all(0.93 <= rates[name] <= 0.97 for name in ("a", "b", "c")), rates
    assert rates["refuted"] <= 0.01
    assert rates["lack of fit"] <= 0.08
    assert rates["no fit"] == 0


def test_an_exact_law_is_recovered_with_its_factor_in_the_units_of_the_axes() -> None:
    verdict = verdict_of(exact(3e-4 * GRID))
    law = verdict.law
    assert law is not None
    assert law.size_exponent is not None
    assert verdict.answer == "yes"
    assert law.size_exponent.value == pytest.approx(2.0)
    assert law.tokens_exponent.value == pytest.approx(0.5)
    assert law.factor.value == pytest.approx(3e-4)
    assert (law.holds, law.all_sizes, law.sizes) == (True, True, (0.05, 0.4))
    assert all(point.ratio == pytest.approx(1) for point in law.points)
    # All points share the draws, so the level knows as much as one point does: t with 2 degrees.
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert law.level.high / law.level.value == pytest.approx(math.exp(half))
    assert law.tokens_exponent.low == pytest.approx(0.5)
    assert "3e-04 gamma^2 tokens^0.5" in verdict.sentence.replace("0.0003", "3e-04")


def test_a_constant_loss_increase_has_exponents_of_zero() -> None:
    law = verdict_of(exact(np.full((5, 4), 0.2))).law
    assert law is not None
    assert law.size_exponent is not None
    assert law.size_exponent.value == pytest.approx(0, abs=1e-9)
    assert law.tokens_exponent.value == pytest.approx(0, abs=1e-9)
    assert law.factor.value == pytest.approx(0.2)


def test_means_below_zero_count_and_need_no_logarithm() -> None:
    increase = exact(3e-4 * GRID)
    rng = np.random.default_rng(3)
    increase += 0.004 * rng.standard_normal(increase.shape)
    assert increase.mean(axis=2).min() < 0, "the smallest noise helps somewhere, by accident"
    verdict = verdict_of(increase)
    law = verdict.law
    assert law is not None
    assert law.size_exponent is not None
    assert len(law.points) == 20, "none is dropped"
    assert law.size_exponent.low < 2 < law.size_exponent.high
    assert law.tokens_exponent.low < 0.5 < law.tokens_exponent.high


def test_a_loss_that_falls_under_the_change_has_no_law() -> None:
    for values in (exact(-0.1 * GRID / GRID.max()), np.zeros((5, 4, 3))):
        verdict = verdict_of(values)
        assert (verdict.answer, verdict.law) == ("undetermined", None)
        assert verdict.sentence == "The mean loss increase is not above zero: no law fits."


def test_a_single_size_has_no_exponent_and_the_sentence_says_so() -> None:
    verdict = verdict_of(exact(3e-4 * GRID[:, 2:3]), sizes=SIZES[2:3])
    law = verdict.law
    assert law is not None
    assert law.size_exponent is None
    assert law.tokens_exponent.value == pytest.approx(0.5)
    assert law.factor.value == pytest.approx(3e-4 * 0.2**2), "it holds the size"
    assert "A single gamma was measured, so it has no exponent." in verdict.sentence


def test_points_with_draws_that_are_not_finite_are_left_out_and_counted() -> None:
    increase = exact(3e-4 * GRID)
    increase[4, 3, 0], increase[3, 3, 1] = np.inf, np.nan
    verdict = verdict_of(increase)
    law = verdict.law
    assert law is not None
    assert (law.num_left_out, len(law.points)) == (2, 18)
    assert law.tokens_exponent.value == pytest.approx(0.5)
    assert "2 points with non-finite draws are left out." in verdict.sentence
    everywhere = np.full((5, 4, 3), np.inf)
    assert verdict_of(everywhere).sentence == "Losses are finite at fewer than 3 checkpoints."


def test_a_law_that_saturates_holds_for_the_range_before() -> None:
    grid = 3e-4 * GRID
    grid[:, 3] = grid[:, 3] / 4
    increase = grid[:, :, None] * np.array([0.99, 1.0, 1.01])
    verdict = verdict_of(increase)
    law = verdict.law
    assert law is not None
    assert law.size_exponent is not None
    assert verdict.answer == "no"
    assert (law.sizes, law.holds, law.all_sizes) == ((0.05, 0.2), True, False)
    assert law.size_exponent.value == pytest.approx(2.0)
    beyond = [point for point in law.points if point.size == 0.4]
    assert all(point.ratio == pytest.approx(0.25) and point.refutes for point in beyond)
    assert "Not refuted for gamma 0.05 to 0.2" in verdict.sentence


def test_a_curve_over_tokens_that_is_no_power_holds_in_no_range() -> None:
    bent = GRID * np.array([4.0, 1.0, 0.5, 1.0, 4.0])[:, None]
    verdict = verdict_of(bent[:, :, None] * np.array([0.99, 1.0, 1.01]))
    law = verdict.law
    assert law is not None
    assert (verdict.answer, law.holds, law.onsets) == ("no", False, [])
    assert "No shorter range of sizes follows one either." in verdict.sentence
    assert [item.exponent.value for item in law.size_exponents] == pytest.approx([2.0] * 5)


def test_too_few_checkpoints_or_draws_are_undetermined() -> None:
    for increase in (exact(GRID[:2]), exact(GRID)[:, :, :1]):
        verdict = verdict_of(increase)
        assert (verdict.answer, verdict.law) == ("undetermined", None)
        assert verdict.sentence.startswith("At least 3 checkpoints with 2 draws each")


def test_the_u_begins_where_the_law_s_slope_meets_that_of_the_unperturbed_loss() -> None:
    surface = power_law_surface.fit(X, SIZES, exact(3e-4 * GRID))
    assert surface is not None
    base = 5 - 0.2 * np.log(X)[:, None]  # exact
    for onset in onsets(surface, np.array([0.7, 0.9]), X, base):
        truth = (0.2 / (0.5 * 3e-4 * onset.size**2)) ** 2  # 0.2 = c b gamma^a tokens^b
        assert onset.tokens == pytest.approx(truth, rel=0.02)
        assert onset.low <= onset.tokens <= onset.high
    [never] = onsets(surface, np.array([0.01]), X, base)
    assert (never.tokens, never.after_last) == (16e6, True)
    [early] = onsets(surface, np.array([5.0]), X, base)
    assert (early.tokens, early.before_first) == (1e6, True)
    noisy = base + 0.05 * np.random.default_rng(0).standard_normal((5, 32))
    [wide] = onsets(surface, np.array([0.8]), X, noisy)
    assert wide.high / wide.low > wide.draws_high / wide.draws_low, "the text has its own error"


def increases(labels: dict[str, Any]) -> float:
    tokens, gamma = labels["tokens"] / 1e6, labels["gamma"]
    base = 3.0 - 0.2 * math.log(tokens)
    return base + (2.0 * gamma**2 * tokens**0.5 * (1 + 0.02 * labels["draw"]) if gamma else 0.0)


def laws_of(verdicts: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.claim == CLAIM and verdict.law]


def drawn(figures: Any, name: str, what: str) -> list[dict[str, Any]]:
    return [row for row in figures[name].datasets["curves"] if row["what"] == what]


def test_noise_has_a_law_per_convention_and_pre_training_seed_drawn_on_its_page() -> None:
    spec, table = GaussianPerturbation(**EXAMPLE), table_of(planned(), increases)
    verdicts = spec.verdicts(table)
    laws = laws_of(verdicts)
    assert len(laws) == 4, "two conventions, two pre-training seeds"
    for verdict in laws:
        assert verdict.law is not None
        assert verdict.answer == "yes", verdict.sentence
        assert verdict.law.tokens_exponent.value == pytest.approx(0.5)
        assert Verdict.model_validate(json.loads(verdict.model_dump_json())) == verdict
    [summary] = [v for v in verdicts if v.claim == CLAIM and v.scope == "under init_std"]
    assert "Exponents: gamma 2, 2; tokens 0.5, 0.5." in summary.sentence
    figures = spec.figures(table, verdicts)
    assert len(drawn(figures, "law", "reference")) == 4 * 16, "a cross per point"
    assert "linear model of the theory predicts a = 2" in figures["law"].caption
    assert all(
        row["y"] == pytest.approx(1, rel=1e-6) for row in drawn(figures, "law_residuals", "mean")
    )
    assert {row["size"] for row in drawn(figures, "law_onset", "reference")} == {
        0.05,
        0.1,
        0.2,
        0.3,
    }
    assert vl_convert.vegalite_to_svg(json.dumps(figures["law_onset"].vega_lite()))


def test_fine_tuning_has_a_law_of_learning_rate_and_tokens() -> None:
    spec = FineTuning(**fine_tuning_cases.EXAMPLE)
    table = fine_tuning_cases.table_of(fine_tuning_cases.planned(), fine_tuning_cases.sensitive)
    verdicts = spec.verdicts(table)
    laws = laws_of(verdicts)
    assert [verdict.scope for verdict in laws] == [
        "full, pre-training seed 0",
        "full, pre-training seed 1",
    ]
    for verdict in laws:
        law = verdict.law
        assert law is not None
        assert law.size_exponent is not None
        assert law.size_name == "learning rate"
        assert law.size_exponent.value == pytest.approx(1.0, abs=0.05)
        assert law.tokens_exponent.value == pytest.approx(0.8, abs=0.05)
    figures = spec.figures(table, verdicts)
    assert len(drawn(figures, "law", "reference")) == 2 * 16
    assert "a = 2" not in figures["law"].caption, "learning rates are no gammas"
