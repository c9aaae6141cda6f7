"""What pages make of the lab's messages and positions, without a browser."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.app_pages.suites import num_unexplained
from dashboard.components.suite_preview import position_rows
from dashboard.components.theme import message
from ucurve.registry.suites import Checkpoint, Suite

AT: dict[str, Any] = {
    "suite": "mine",
    "replicate": 0,
    "location": {"scheme": "path", "path": "a"},
}


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("run `ucurve up --models DIR`", "run `ucurve up --models DIR`"),
        ("a*b `c*d_e` f_g", r"a\*b `c*d_e` f\_g"),
        ("one ` alone", r"one \` alone"),
        ("[x](y) `a`", r"\[x\]\(y\) `a`"),
    ],
)
def test_commands_in_messages_are_code_and_all_else_is_plain(text: str, markdown: str) -> None:
    assert message(text) == markdown


def test_a_preview_leaves_out_columns_that_say_the_default_everywhere() -> None:
    trained = Checkpoint.model_validate({**AT, "revision": "step1", "step": 1})
    annealed = trained.model_copy(update={"training_phase": "anneal"})
    assert list(position_rows([trained])[0]) == ["revision", "tokens", "step", "from"]
    for row in position_rows([trained, annealed]):
        assert list(row) == ["revision", "tokens", "step", "training phase", "from"]


def test_a_checkpoint_that_a_warning_explains_is_not_announced_twice() -> None:
    failed = Checkpoint.model_validate({**AT, "revision": "a", "unresolved": "cannot be used: no"})
    hashing = Checkpoint.model_validate({**AT, "revision": "b", "unresolved": "being hashed"})
    suite = Suite(name="mine", checkpoints=[failed, hashing], warnings=["a: cannot be used: no"])
    assert num_unexplained(suite) == 1
