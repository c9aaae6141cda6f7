"""`ucurve datasets text`: what models read of the built-in datasets, without a lab."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import LANGUAGE, SENTIMENT

from ucurve.cli import main
from ucurve.modeling.finetuning_data import build_task, pretraining_rows
from ucurve.modeling.synthetic_language import WORDS
from ucurve.modeling.token_data import language_batches, tokens_of
from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.suites import Dataset

# Of the 1,024 lines that every published number of the built-in suites was measured on.
HELD_OUT = "658e4caf2ea23106e13b2c02579f959be624f6407229ec8c5dca1f6dbc36a7e9"
TASK: dict[str, Any] = {"protocol": "language_modelling/1", "context": 64}


def written(tmp_path: Path, *words: str) -> list[list[int]]:
    """The token ids that the command writes, by line."""
    file = tmp_path / "rows.ids"
    assert main(["datasets", "text", *words, "--ids", "-o", str(file)]) == 0
    return [[int(token) for token in line.split(" ")] for line in file.read_text().splitlines()]


def dataset(name: str) -> Dataset:
    entries = (BUILTIN / "datasets.json").read_bytes()
    return next(Dataset.model_validate(e) for e in json.loads(entries) if e["name"] == name)


def test_the_evaluation_text_never_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "text", "tiny-held-out"]) == 0
    text = capsys.readouterr().out
    assert hashlib.sha256(text.encode()).hexdigest() == HELD_OUT, "raise the language's version"
    assert text.startswith("<bos> the picture is not great . ")
    assert len(text.splitlines()) == 1024


def test_token_ids_are_those_that_evaluations_read(tmp_path: Path) -> None:
    rows = written(tmp_path, "tiny-held-out")
    assert torch.equal(
        torch.tensor(rows).flatten(), tokens_of(dataset("tiny-held-out"), None, tmp_path)
    )


def test_words_and_ids_are_the_same_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = written(tmp_path, "tiny-redrawn", "--rows", "3")
    capsys.readouterr()
    assert main(["datasets", "text", "tiny-redrawn", "--rows", "3"]) == 0
    words = [line.split(" ") for line in capsys.readouterr().out.splitlines()]
    assert words == [[WORDS[token] for token in row] for row in ids]


def test_rows_of_a_run_are_those_that_its_steps_read(tmp_path: Path) -> None:
    asked = ("--seed", "3", "--rows", "4", "--steps", "2")
    rows = written(tmp_path, "tiny-language", *asked)
    batches = language_batches(dataset("tiny-language"), 64)
    assert rows == [row for step in (0, 1) for row in batches(3, step, 4).tolist()]
    rows = written(tmp_path, "tiny-redrawn", "--split", "fine-tuning", *asked)
    task = build_task(TASK, LANGUAGE, None, 64, tmp_path)
    assert rows == [row for step in (0, 1) for row in task.batch(3, step, 4).ids.tolist()]
    rows = written(tmp_path, "tiny-sentiment", "--split", "fine-tuning", *asked)
    task = build_task({**TASK, "protocol": "label_words/1"}, SENTIMENT, None, 64, tmp_path)
    assert rows == [row for step in (0, 1) for row in task.batch(3, step, 4).ids.tolist()]


def test_validation_and_fisher_rows_are_those_that_are_read(tmp_path: Path) -> None:
    rows = written(tmp_path, "tiny-redrawn", "--split", "fine-tuning validation", "--rows", "512")
    task: Any = build_task(TASK, LANGUAGE, None, 64, tmp_path)
    assert np.array(rows).ravel().tolist() == task.held_out.tolist()
    rows = written(tmp_path, "tiny-language", "--split", "Fisher information", "--rows", "5")
    assert rows == pretraining_rows(dataset("tiny-language"), None, 5, 64, tmp_path).tolist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("wikitext-2",), "'wikitext-2' is not a built-in dataset: use tiny-held-out, "),
        (("tiny-redrawn",), "tiny-redrawn is endless: give --rows, the rows per step"),
        (
            ("tiny-held-out", "--rows", "3", "--seed", "0"),
            "tiny-held-out is a fixed set: leave out --seed, --rows",
        ),
        (("tiny-language", "--rows", "3", "--context", "4"), "rows of at least 8 tokens"),
        (("tiny-language", "--rows", "9999999999"), "at most 16,777,216 tokens per step"),
        (("tiny-language", "--rows", "-1"), "--rows: '-1' is not a positive integer"),
        (("tiny-language", "--rows", "1", "--seed", "-1"), "--seed: '-1' is not a whole number"),
        (("tiny-held-out", "-o", "{file}/below"), "; choose another path with -o"),
    ],
)
def test_a_wrong_request_names_the_remedy(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    try:
        status = main(["datasets", "text", *(w.format(file=tmp_path / "file") for w in words)])
    except SystemExit as left:
        status = int(left.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
