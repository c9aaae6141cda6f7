"""Two evaluation sets in one experiment, from the submission to the verdict, in a lab."""

from __future__ import annotations

import pytest
from running_lab import Lab

from ucurve.client import RequestRejectedError

SHARED_LAB = True
SETS = ["tiny-held-out", "tiny-redrawn-held-out"]
NOISE = {
    "kind": "gaussian_perturbation",
    "suite": "tiny-constant",
    "checkpoints": {"log_spaced": 3},
    "gammas": [0.3],
    "draws": 2,
    "scale": "init_std",
}


def test_two_sets_are_measured_once_and_answered_together(lab: Lab) -> None:
    alone = lab.client.submit({**NOISE, "evaluation": SETS[1]})
    assert lab.client.wait(alone.id, timeout=240).state == "done"
    both = lab.client.submit({**NOISE, "evaluation": SETS})
    assert lab.client.wait(both.id, timeout=240).state == "done"
    table, own = lab.client.table(both.id), lab.client.table(alone.id)
    assert len(table) == 2 * len(own) == 18
    of_second = table[table["evaluation"] == SETS[1]]
    assert of_second["reused"].all(), "the numbers of the experiment on this set alone"
    assert of_second["nll_mean"].tolist() == own["nll_mean"].tolist()
    losses = table[table["gamma"] == 0].groupby("evaluation")["nll_mean"].min()
    assert losses[SETS[1]] > losses[SETS[0]] + 0.1, "facts that the models have not seen"
    verdicts = [v for v in lab.client.verdicts(both.id) if v.claim == "progressive sensitivity"]
    assert verdicts[0].sentence.startswith("On 0 of 2 evaluation sets: ")
    assert {v.labels["evaluation"] for v in verdicts if not v.is_summary} == set(SETS)
    figures = lab.client.figures(both.id)
    rows = figures["loss"].datasets["curves"]
    assert {row["evaluation"] for row in rows} == set(SETS)


def test_a_set_that_is_named_twice_is_refused_at_its_field(lab: Lab) -> None:
    with pytest.raises(RequestRejectedError, match=r"evaluation.*listed twice: name every"):
        lab.client.plan({**NOISE, "evaluation": [SETS[0], SETS[1], SETS[0]]})
    with pytest.raises(RequestRejectedError, match=r"evaluation.*nothing"):
        lab.client.plan({**NOISE, "evaluation": [SETS[0], "nothing"]})
