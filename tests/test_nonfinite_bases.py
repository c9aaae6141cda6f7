"""An unperturbed loss that is not finite is said to be so, and no ratio is given of such values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fine_tuning_cases import EXAMPLE, TOKENS, planned, sensitive, table_of

from ucurve.analysis import condition_verdicts, gaussian_perturbation
from ucurve.analysis.base_loss import base_blocks, broken_bases, with_base_intervals
from ucurve.analysis.conditions import Condition
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.figures.gaussian_perturbation import figures
from ucurve.schemas.results import Verdict

PLACES = (0, 1_000_000, 2_000_000, 4_000_000)
RISING = np.array([0.2, 0.3, 0.4, 0.9])


def table(bases: dict[int, float], draws: int = 4) -> pd.DataFrame:
    """Noise at four checkpoints; `bases` are the unperturbed losses that are not 3."""
    rows: list[dict[str, Any]] = []
    for place, increase in zip(PLACES, RISING, strict=True):
        fixed = {"revision": str(place), "tokens": place, "replicate": 0, "phase": None}
        fixed |= {"group": "all", "state": "done"}
        base = bases.get(place, 3.0)
        nll = [8 * base if math.isfinite(base) else None] * 40
        series = {"window_nll": nll, "window_tokens": [8.0] * 40}
        rows.append({**fixed, "gamma": 0.0, "scale": None, "draw": None, "nll_mean": base}
                    | {"series": series})  # fmt: skip
        rows += [
            {**fixed, "gamma": 0.2, "scale": "init_std", "draw": draw, "series": {}}
            | {"nll_mean": 3 + increase + 0.01 * draw}
            for draw in range(draws)
        ]
    return pd.DataFrame(rows).assign(measurement=range(len(rows)))


def by_claim(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.claim: verdict for verdict in verdicts if not verdict.is_summary}


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_verdicts_name_the_checkpoint_whose_unperturbed_loss_is_not_finite(loss: float) -> None:
    found = by_claim(gaussian_perturbation.verdicts(table({1_000_000: loss})))
    for verdict in found.values():
        assert "The unperturbed loss is not finite at 1M tokens." in verdict.sentence, verdict
        assert "not measured" not in verdict.sentence
        assert "not used yet" not in verdict.sentence
        assert verdict.num_unused == 0
    assert found["progressive sensitivity"].x == [0, 2e6, 4e6]


def test_nothing_is_claimed_where_the_last_unperturbed_loss_is_not_finite() -> None:
    found = by_claim(gaussian_perturbation.verdicts(table({4_000_000: math.nan}, draws=8)))
    assert {verdict.answer for verdict in found.values()} == {"undetermined"}
    assert "at 4M tokens" in found["growth of sensitivity"].sentence


def test_a_figure_of_differences_says_which_unperturbed_loss_is_not_finite() -> None:
    unmeasured = table({1_000_000: math.nan})
    open_base = (unmeasured["gamma"] == 0) & (unmeasured["tokens"] == 2_000_000)
    unmeasured.loc[open_base, "state"] = "open"
    unmeasured.loc[open_base, "nll_mean"] = math.nan
    [rows] = figures(unmeasured, [], [0.2])["loss_change"].datasets.values()
    labels = {row["tokens"]: row["label"] for row in rows if row["what"] == "edge"}
    assert labels == {1e6: "unperturbed: not finite", 2e6: "unperturbed: not measured"}


def test_the_other_unperturbed_losses_keep_their_intervals() -> None:
    broken = table({1_000_000: math.inf})
    tokens = np.array(PLACES, dtype=float)
    assert broken_bases(broken, tokens).tolist() == [False, True, False, False]
    assert np.isfinite(base_blocks(broken, tokens)).all(axis=1).tolist() == [
        True,
        False,
        True,
        True,
    ]
    means = [
        {"what": "mean", "tokens": at, "replicate": 0, "gamma": 0, "y": 3.0, "low": None}
        for at in PLACES
    ]
    banded = with_base_intervals(means, broken, "gamma", np.asarray)
    assert [row["low"] is not None for row in banded] == [True, False, True, True]


def test_fine_tuning_says_it_too() -> None:
    def values(labels: dict[str, Any]) -> dict[str, float]:
        if labels["tokens"] == TOKENS[2] and not labels["learning_rate"]:
            return {"nll_mean": math.nan}
        return sensitive(labels)

    points = planned()
    verdicts = FineTuning(**EXAMPLE).verdicts(table_of(points, values))
    said = [v for v in verdicts if "unperturbed loss is not finite at 2M tokens" in v.sentence]
    assert said


def condition(losses: np.ndarray[Any, np.dtype[np.float64]]) -> Condition:
    base = np.full((len(losses), 32), 3.0) + np.linspace(0, 1e-3, 32)
    return Condition("", np.array((*PLACES[1:], 8e6)), losses, base)


def test_no_ratio_or_difference_is_given_of_replaced_values() -> None:
    losses = 3 + RISING[:, None] + np.linspace(0, 0.05, 8)
    whole = by_claim(condition_verdicts.all_verdicts([condition(losses)]))
    assert whole["growth of sensitivity"].effect is not None
    for place in (0, -1):
        broken = losses.copy()
        broken[place, 2] = np.inf
        found = by_claim(condition_verdicts.all_verdicts([condition(broken)]))
        growth = found["growth of sensitivity"]
        assert (growth.answer, growth.effect, growth.interval) == ("undetermined", None, None)
        assert "not finite, so no ratio can be given" in growth.sentence
        assert not growth.evidence  # no power law of replaced values either
        sensitivity = found["progressive sensitivity"]
        assert (sensitivity.effect, sensitivity.interval) == (None, None)
        assert "a value that is not finite" in sensitivity.sentence
    rise = found["catastrophic overtraining"]
    assert (rise.effect, rise.interval) == (None, None)
    assert "rises to values that are not finite" in rise.sentence
