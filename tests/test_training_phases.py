"""Checkpoints after pre-training: measured when named, and never on the curve over tokens."""

from __future__ import annotations

import pandas as pd
import pytest
from test_gaussian_perturbation import paper, planned

from ucurve.analysis.curve_rows import curve_rows
from ucurve.analysis.gaussian_perturbation import conditions
from ucurve.experiments.checkpoint_selection import LogSpaced, choose
from ucurve.registry.suites import Checkpoint, Location, Suite, is_initial, sort_checkpoints


def with_phase(tokens: int | None = None) -> Suite:
    """The suite of the tests with two checkpoints of an extension of the context."""
    after = [
        Checkpoint(
            suite="paper", revision=f"extension_step{step}", step=step, tokens=tokens,
            location=Location(scheme="path", path="/nowhere"), training_phase="extension",
            num_parameters=46_592, weights_sha256=f"after-{step}", config_sha256="c",
        )
        for step in (0, 250)
    ]  # fmt: skip
    return paper(checkpoints=sort_checkpoints([*paper().checkpoints, *after]))


@pytest.mark.parametrize("tokens", [None, 9_000_000])
def test_all_and_log_spaced_choices_stay_within_pre_training(tokens: int | None) -> None:
    suite = with_phase(tokens)
    assert choose(suite, "all") == choose(paper(), "all")
    assert choose(suite, LogSpaced(log_spaced=2)) == choose(paper(), LogSpaced(log_spaced=2))
    named = choose(suite, ["seed0-tokens1000000", "extension_step250"])
    assert [c.revision for c in named] == ["seed0-tokens1000000", "extension_step250"]


def test_step_0_of_a_phase_is_not_the_initialisation() -> None:
    suite = with_phase()
    assert not any(is_initial(c) for c in suite.checkpoints if c.training_phase)
    points = planned(suite, scale="init_std")
    assert {
        p.inputs["perturbation"]["initial"] for p in points if p.inputs["perturbation"]
    } == {"0-0", "1-0"}  # fmt: skip


def test_a_phase_without_tokens_is_measured_and_left_out_of_curves_and_verdicts() -> None:
    revisions = [f"seed0-tokens{n}" for n in (1_000_000, 2_000_000, 4_000_000)]
    points = planned(with_phase(), checkpoints=[*revisions, "extension_step250"], draws=3)
    rows = [
        {
            **p.labels, "state": "done", "measurement": i, "nll_mean": 2.0 + 0.1 * (i % 7),
            "series": {"window_nll": [2.0, 2.1], "window_tokens": [1, 1]},
        }
        for i, p in enumerate(points)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    assert "extension_step250" in set(table["revision"])
    pre_training = table[table["revision"].isin(revisions)]
    judged = [
        [c.losses.tolist() for family in conditions(t).values() for c in family]
        for t in (table, pre_training)
    ]
    assert judged[0] == judged[1]
    drawn = curve_rows(table, "tokens", "nll_mean", ["gamma"], facets=["scale", "replicate"])
    assert {row["tokens"] for row in drawn if row["what"] == "mean"} == {1e6, 2e6, 4e6}
    notes = [row["label"] for row in drawn if row["what"] == "note"]
    assert all("at unknown tokens" in note for note in notes)  # it is said
    assert notes
