"""CSV files hold no formulas, whatever a folder is called; numbers stay numbers."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from ucurve.csv_cells import FORMULA_STARTS, plain_cell, plain_row
from ucurve.figures.files import figure_file
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure

ROOT = Path(__file__).parents[1]
TEXTS = [f"{start}1+1" for start in FORMULA_STARTS] + ["-1+1", "@SUM(A1)", "=cmd", "+"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert plain_cell(text) == f"'{text}"


def test_numbers_and_other_texts_are_written_as_they_are() -> None:
    cells: list[Any] = [-0.5, 3, None, True, "-0.5", "+1e-3", "-inf", "tiny", "a=b", "", "1-2"]
    assert plain_row(cells) == cells


def test_the_table_of_an_experiment_and_the_rows_of_a_figure_hold_no_formula() -> None:
    from api.routes.measurements import as_csv

    row = MeasurementRow.model_construct(
        id=1,
        identity="i",
        state="done",
        position=0,
        labels={"suite": "=1+1", "=name": "@x", "gamma": -0.5},
        metrics={"nll_mean": -1.5},
        nonfinite={},
        error="-1+1 failed",
    )
    figure = Figure("t", "c", {}, {"=data": [{"+label": "@SUM(A1)", "y": -2.5}]})
    for content in (as_csv([row]), figure_file(figure, "csv").decode()):
        cells = [cell for line in csv.reader(io.StringIO(content)) for cell in line]
        assert sum(cell.startswith("'") for cell in cells) >= 3
        formulas = [cell for cell in cells if cell.startswith(FORMULA_STARTS)]
        assert all(re.fullmatch(r"-[0-9.]+", cell) for cell in formulas), formulas
        assert formulas, "negative numbers are numbers"


def test_every_writer_of_csv_uses_these_cells() -> None:
    for room in ("api", "dashboard", "ucurve", "db", "worker"):
        for path in (ROOT / room).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            if re.search(r"csv\.(writer|DictWriter)\(|\.to_csv\(", source):
                assert "plain_row(" in source, path
