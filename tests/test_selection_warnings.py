"""A plan names the selected checkpoints that it measures only once, and says why."""

from __future__ import annotations

import pytest

from ucurve.experiments.checkpoint_selection import (
    Choice,
    LogSpaced,
    choose,
    selection_warnings,
)
from ucurve.registry.suites import Checkpoint, Location, Suite

WEIGHTS = {"step1": "a", "step2": "b", "step3": "b", "step4": "c", "final": "c", "best": "c"}


def suite(weights: dict[str, str]) -> Suite:
    return Suite(
        name="mine",
        checkpoints=[
            Checkpoint(
                suite="mine",
                revision=revision,
                step=int(revision[-1]) if revision[-1].isdigit() else None,
                tokens=int(revision[-1]) * 1000 if revision[-1].isdigit() else None,
                location=Location(scheme="path", path=f"/models/{revision}"),
                weights_sha256=content * 64,
                config_sha256="0" * 64,
            )
            for revision, content in weights.items()
        ],
    )


LEFT_OUT_OF_PRETRAINING = (
    "checkpoints: left out step3 (the weights of step2): equal weights are measured once."
)
CASES: list[tuple[Choice, list[str], list[str]]] = [
    ("all", ["step1", "step2", "step4"], [LEFT_OUT_OF_PRETRAINING]),
    (LogSpaced(log_spaced=2), ["step1", "step4"], [LEFT_OUT_OF_PRETRAINING]),
    (["step1", "step4"], ["step1", "step4"], []),
    (
        ["final", "step4", "best", "step1"],
        ["step1", "step4"],
        [
            "checkpoints: left out final (the weights of step4) and best (the weights of step4): "
            "equal weights are measured once."
        ],
    ),
    (
        ["step2", "step1", "step2", "step1"],
        ["step1", "step2"],
        ["checkpoints: named more than once, and measured once: step2 and step1."],
    ),
]


@pytest.mark.parametrize(("choice", "measured", "said"), CASES)
def test_a_choice_says_what_it_leaves_out(
    choice: Choice, measured: list[str], said: list[str]
) -> None:
    mine = suite(WEIGHTS)
    assert [checkpoint.revision for checkpoint in choose(mine, choice)] == measured
    assert selection_warnings(mine, choice) == said


def test_a_choice_without_copies_says_nothing() -> None:
    assert selection_warnings(suite({"step1": "a", "step2": "b"}), "all") == []


def test_many_copies_take_one_line() -> None:
    """86 of 154 revisions of a public suite are copies."""
    many = suite({f"step{n}": "ab"[n > 4] for n in range(1, 10)})
    (said,) = selection_warnings(many, "all")
    assert said.count("(the weights of ") == 5
    assert "and 2 more: equal weights" in said
