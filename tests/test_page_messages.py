"""What pages make of the lab's messages and positions, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import dashboard
from dashboard.app_pages.suites import num_unexplained
from dashboard.components.dataset_form import problems_of
from dashboard.components.refusals import REFERENCE, SUITE, refusal
from dashboard.components.suite_preview import position_rows
from dashboard.components.theme import message
from ucurve.client import RequestRejectedError
from ucurve.registry.suites import Checkpoint, Suite
from ucurve.schemas.catalogue import SuiteSubmission
from ucurve.schemas.problems import FieldError, problem_of
from ucurve.schemas.references import ReferenceSubmission

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


@pytest.mark.parametrize(
    ("pointer", "detail", "labels", "source", "shown"),
    [
        ("/path", "/x is no folder.", SUITE, "path", "Folder: /x is no folder."),
        ("/hub", "There is no a/b.", SUITE, "hub", "Repository: There is no a/b."),
        ("/repositories/1", "Is gated.", SUITE, "repositories", "Repository: Is gated."),
        ("/tokens_per_step", "Is no number.", SUITE, "path", "Tokens per step: Is no number."),
        ("/positions", "line 5: 1 cell.", SUITE, "path", "Corrected positions: line 5: 1 cell."),
        ("/path", "Give one of path, hub.", SUITE, "preset", "Preset: Fill in this field."),
        ("/files/0/content", "f, line 1: no.", REFERENCE, None, "Files: f, line 1: no."),
        ("/files/0/content", "confirm it with same_model.", REFERENCE, None,
         "Files: confirm it with “Model in the files”."),
        ("/column", "Is unknown.", SUITE, "path", "column: Is unknown."),
        ("", "Not now.", SUITE, "path", "Not now."),
    ],
)  # fmt: skip
def test_a_form_names_fields_by_its_labels_and_keeps_the_words_of_a_sentence(
    pointer: str, detail: str, labels: dict[str, str], source: str | None, shown: str
) -> None:
    errors = [FieldError(pointer=pointer, detail=detail)]
    error = RequestRejectedError(422, problem_of(422, "Invalid input", errors))
    assert refusal(error, labels, source) == shown
    assert refusal(ValueError("path: stays"), labels, source) == "path: stays"


@pytest.mark.parametrize(
    ("pointer", "detail", "shown"),
    [
        ("/text", "Give one of text (a file).", {"train": "Fill in this field."}),
        ("/validation", "/x is not a file.", {"validation": "/x is not a file."}),
        ("/column", "Is unknown.", {"column": "Is unknown."}),
        ("", "Not now.", {"": "Not now."}),
    ],
)
def test_a_refusal_of_a_dataset_stands_at_the_field_of_the_chosen_source(
    pointer: str, detail: str, shown: dict[str, str]
) -> None:
    errors = [FieldError(pointer=pointer, detail=detail)]
    error = RequestRejectedError(422, problem_of(422, "Invalid input", errors))
    assert problems_of(error, "train") == shown


@pytest.mark.parametrize(
    ("labels", "model", "page"),
    [
        (SUITE, SuiteSubmission, "app_pages/suites.py"),
        (REFERENCE, ReferenceSubmission, "components/references.py"),
    ],
)
def test_the_labels_are_those_of_the_form_and_its_fields_those_of_the_api(
    labels: dict[str, str], model: type[BaseModel], page: str
) -> None:
    folder = Path(dashboard.__file__).parent
    text = (folder / page).read_text() + (folder / "components/suite_preview.py").read_text()
    assert labels.keys() <= model.model_fields.keys()
    assert [label for label in labels.values() if f'"{label}' not in text] == []
