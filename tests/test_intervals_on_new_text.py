"""Intervals of changed models have the error of the text, or say that they are on this text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ucurve.analysis import gaussian_perturbation, statistics
from ucurve.analysis.base_loss import with_text_blocks
from ucurve.figures.gaussian_perturbation import figures
from ucurve.schemas.results import Verdict

TOKENS = (1_000_000, 2_000_000, 4_000_000, 8_000_000)
BEFORE = np.array([3.0, 2.9, 2.8, 2.7])
RISING = np.array([0.1, 0.11, 0.15, 0.35])
NUM_DRAWS, NUM_BLOCKS = 8, 32
TEXT = 0.02  # standard deviation over blocks of what a checkpoint adds to the loss after


def table(stored: bool = True, seed: int = 0) -> pd.DataFrame:
    """Noise at four checkpoints of one run; stored: with the losses in blocks of text."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal(NUM_BLOCKS)  # hard and easy blocks, in all losses
    noise = 0.004 * generator.standard_normal((4, NUM_DRAWS))
    own = TEXT * generator.standard_normal((4, NUM_BLOCKS))
    rows: list[dict[str, Any]] = []
    for i, tokens in enumerate(TOKENS):
        fixed = {"revision": str(tokens), "tokens": tokens, "replicate": 0, "phase": None}
        fixed |= {"group": "all", "state": "done"}
        base = BEFORE[i] + common
        windows = {"window_nll": (8 * base).tolist(), "window_tokens": [8.0] * NUM_BLOCKS}
        rows.append(
            {**fixed, "gamma": 0.0, "scale": None, "draw": None}
            | {"nll_mean": base.mean(), "series": windows}
        )
        for draw in range(NUM_DRAWS):
            blocks = base + RISING[i] + noise[i, draw] + own[i]
            series = {"block_loss": blocks.tolist()} if stored else {}
            rows.append(
                {**fixed, "gamma": 0.2, "scale": "init_std", "draw": draw}
                | {"nll_mean": blocks.mean(), "series": series}
            )
    return pd.DataFrame(rows).assign(measurement=range(len(rows)))


def judged(rows: pd.DataFrame) -> dict[str, Verdict]:
    found = gaussian_perturbation.verdicts(rows)
    return {verdict.claim: verdict for verdict in found if not verdict.is_summary}


def width(verdict: Verdict) -> float:
    assert verdict.interval is not None
    return verdict.interval[1] - verdict.interval[0]


@pytest.mark.parametrize(
    "claim",
    ["progressive sensitivity", "catastrophic overtraining", "growth of sensitivity"],
)
def test_an_interval_widens_by_the_error_of_the_text_and_the_answer_stays(claim: str) -> None:
    here, anywhere = judged(table(stored=False))[claim], judged(table())[claim]
    assert width(anywhere) > 1.3 * width(here)
    assert anywhere.p_value == here.p_value  # contrasts on the same windows stay paired
    assert (anywhere.answer, anywhere.effect) == (here.answer, here.effect)
    assert "(on this text)" in here.effect_name
    assert "(on this text)" in here.basis
    assert "(on this text)" not in anywhere.effect_name


def test_the_growth_of_the_loss_increase_has_the_half_widths_of_draws_and_text_in_squares() -> None:
    rows = table()
    here, anywhere = judged(table(stored=False)), judged(rows)
    after = rows[rows["gamma"] > 0]
    blocks = np.array([series["block_loss"] for series in after["series"]])
    blocks = blocks.reshape(4, NUM_DRAWS, NUM_BLOCKS)[[0, -1]] - BEFORE[[0, -1], None, None]
    of_blocks = statistics.long_blocks((blocks[1] - blocks[0]).mean(axis=0))
    mean, low, _ = statistics.mean_interval(of_blocks)
    draws, both = (
        np.abs(np.array(verdicts["progressive sensitivity"].interval) - mean)
        for verdicts in (here, anywhere)
    )  # each side on its own: the upper limit is wider where draws are skewed to the right
    np.testing.assert_allclose(both, np.hypot(draws, mean - low), rtol=1e-6)


def test_one_draw_without_blocks_leaves_the_setting_on_this_text() -> None:
    rows = table()
    rows.at[rows.index[-1], "series"] = {}
    assert "(on this text)" in judged(rows)["catastrophic overtraining"].effect_name


def test_an_exact_loss_has_no_text_to_speak_of() -> None:
    condition = next(iter(gaussian_perturbation.conditions(table()).values()))[0]
    assert condition.knows_text
    assert condition.text_note == ""
    assert (
        type(condition)("", condition.x, condition.losses, condition.base, unit="MSE").text_note
        == ""
    )


def bands(rows: pd.DataFrame, figure: str) -> NDArray[np.float64]:
    """Return the widths of the bands of the changed model, by checkpoint."""
    [drawn] = figures(rows, [], [0.2])[figure].datasets.values()
    found = {
        row["tokens"]: row["high"] - row["low"]
        for row in drawn
        if row["what"] == "mean" and row["gamma"] == 0.2
    }
    return np.array([found[tokens] for tokens in TOKENS])


@pytest.mark.parametrize("figure", ["loss", "loss_change", "perplexity", "perplexity_change"])
def test_bands_of_changed_models_widen_by_the_error_of_the_text(figure: str) -> None:
    here, anywhere = bands(table(stored=False), figure), bands(table(), figure)
    assert (anywhere > 1.2 * here).all()
    assert (anywhere < 10 * here).all()  # what blocks have in common is left out


def test_captions_say_which_text_bands_are_about() -> None:
    drawn = figures(table(), [], [0.2])
    for name in ("loss", "loss_change", "perplexity", "perplexity_change"):
        assert "error of the evaluation text" in drawn[name].caption
        assert "on this text" in drawn[name].caption


def test_blocks_belong_to_the_revision_and_to_measured_rows_only() -> None:
    rows = table()
    rows.loc[rows.index[1], "state"] = "open"
    found = with_text_blocks(rows, ("gamma",), rows["gamma"] == 0)
    assert found["increase_blocks"].iloc[:2].tolist() == [None, None]
    assert np.mean(found["increase_blocks"].iloc[2]) == pytest.approx(RISING[0], abs=0.05)
    centred = np.stack(found["loss_blocks"].dropna().tolist())
    assert centred.mean(axis=0) == pytest.approx(np.zeros(NUM_BLOCKS), abs=1e-12)


@pytest.mark.parametrize("num", [1, 5, 32, 33, 100])
def test_a_result_stores_its_loss_in_the_blocks_of_the_unperturbed_model(num: int) -> None:
    """Windows of different lengths, the last one short: the mean over blocks is the mean loss."""
    from ucurve.modeling.perplexity import WindowLosses

    generator = np.random.default_rng(num)
    nll, tokens = generator.uniform(1, 9, num), np.full(num, 63)
    tokens[-1] = 7
    losses = WindowLosses(nll, tokens)
    expected = statistics.blocks(nll[None], tokens.astype(float))[0]
    assert losses.in_blocks() == pytest.approx(expected, rel=1e-12)
    assert losses.in_blocks().mean() == pytest.approx(losses.nll_mean, rel=1e-12)
