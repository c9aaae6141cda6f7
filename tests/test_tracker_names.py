"""Names and texts that public tools gave their numbers, as MLflow and spreadsheets take them."""

from __future__ import annotations

import pytest
from mlflow.utils import validation

from ucurve.csv_cells import plain_cell
from ucurve.import_export.mlflow_runs import LONGEST_PARAM, _name, _param

NAMES = [
    ("01: running time in mins", "01_ running time in mins"),  # mlflow/mlflow issue 4202
    ("acc,none", "acc_none"),  # EleutherAI/lm-evaluation-harness
    ("leaderboard|arc:challenge|25", "leaderboard_arc_challenge_25"),  # huggingface/lighteval
    ("eval//loss", "eval/loss"),  # mlflow/mlflow, names are paths of files in some stores
    ("../eval/./loss", "eval/loss"),
    ("..", "_"),
    ("", "_"),
    ("a" * 300, "a" * 250),
]


@pytest.mark.parametrize(("name", "expected"), NAMES, ids=range(len(NAMES)))
def test_a_name_of_a_public_tool_is_one_that_mlflow_takes(name: str, expected: str) -> None:
    assert _name(name) == expected
    validation._validate_metric_name(_name(name))
    validation._validate_param_name(_name(name))
    validation._validate_tag_name(_name(name))


def test_long_settings_are_cut_to_what_servers_of_older_releases_take() -> None:
    """mlflow/mlflow issues 1976 and 6183, Lightning-AI/pytorch-lightning issue 5892."""
    text = _param([0.1] * 1000)[:LONGEST_PARAM]
    assert len(text) == 500
    validation._validate_param("gammas", text)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=SUM(A1:A9)", "'=SUM(A1:A9)"),  # OWASP, CSV injection
        ("@SUM(1)", "'@SUM(1)"),
        ("-inf", "-inf"),  # numbers stay numbers, however they are spelled
        ("+1e5", "+1e5"),
        ("-step1000", "'-step1000"),
    ],
)
def test_cells_of_a_table_are_texts_or_numbers_never_formulas(cell: str, expected: str) -> None:
    assert plain_cell(cell) == expected
