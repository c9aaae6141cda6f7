"""Bits per byte: derived from stored losses, the same in every table, figure and comparison."""

import csv
import io
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from text_models import TEXT, bits_per_byte_of, write_json_lines, write_suite

from ucurve.analysis.bits_per_byte import in_bits_per_byte
from ucurve.analysis.comparison import BITS_INCREASE
from ucurve.cli import main
from ucurve.client import RequestRejectedError
from ucurve.registry.suites import dataset_facts
from ucurve.schemas.bits_per_byte import (
    BITS_PER_BYTE,
    bits_per_byte,
    num_text_tokens,
    with_bits_per_byte,
)
from ucurve.schemas.import_export import FORMAT

SHARED_LAB = True

WINDOW = 48
NOISE: dict[str, Any] = {
    "kind": "gaussian_perturbation", "gammas": [0.1], "draws": 2, "scale": "current_std",
    "evaluation": "bytes-text", "window": WINDOW,
}  # fmt: skip


@pytest.mark.parametrize("num_tokens", [2, 3, 47, 48, 50, 96, 97 + 1, 1000])
def test_the_tokens_of_a_text_follow_from_the_scored_ones(num_tokens: int) -> None:
    from ucurve.modeling.perplexity import windows

    for stride in (WINDOW, 20):
        scored = sum(span.end - span.score for span in windows(num_tokens, WINDOW, stride))
        assert num_text_tokens(scored, WINDOW, stride) == num_tokens


def test_the_pile_s_formula_and_states_of_losses_that_are_not_finite() -> None:
    assert bits_per_byte(2 * math.log(2), 0.25) == 0.5
    assert with_bits_per_byte({"nll_mean": 1.0}, {}, None) == ({"nll_mean": 1.0}, {})
    assert with_bits_per_byte({"nll_mean": None}, {"nll_mean": "nan"}, 0.3) == (
        {"nll_mean": None, BITS_PER_BYTE: None},
        {"nll_mean": "nan", BITS_PER_BYTE: "nan"},
    )


def test_rows_of_several_ratios_are_scaled_each_by_its_own() -> None:
    import pandas as pd

    table = pd.DataFrame(
        {"tokens": [1, 2], "replicate": [0, 0], "nll_mean": [2.0, 4.0], BITS_PER_BYTE: [1.0, 3.0]}
    )
    rows = [{"tokens": 1, "replicate": 0, "y": 6.0}, {"tokens": 2, "replicate": 0, "y": 8.0}]
    rows.append({"tokens": 3, "replicate": 0, "y": 9.0})
    scaled = in_bits_per_byte(rows, table, ("replicate", "tokens"))
    assert [row["y"] for row in scaled] == [3.0, 6.0], "without bytes there is no number"
    assert in_bits_per_byte(rows, table.drop(columns=BITS_PER_BYTE), ("tokens",)) == []


def usable(lab: Lab, name: str, folder: Path) -> None:
    """Register a suite and wait until a worker has tried it."""
    lab.client.add_suite(name, str(folder), tokens_per_step=1000)
    deadline = time.monotonic() + 120
    while any(c.is_pending for s in lab.client.suites() if s.name == name for c in s.checkpoints):
        assert time.monotonic() < deadline, "no worker tried the suite"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def measured(lab: Lab, tmp_path_factory: pytest.TempPathFactory, files: Path) -> dict[str, int]:
    """Two suites whose tokenizers differ, each with noise measured on the same text."""
    text = files / "bytes.txt"
    text.write_text(TEXT, encoding="utf-8")
    lab.client.add_dataset("bytes-text", text=str(text))
    ids = {}
    for vocab_size in (300, 500):
        name = f"bytes-{vocab_size}"
        folder = write_suite(files / name, vocab_size)
        usable(lab, name, folder)
        ids[name] = lab.client.submit({**NOISE, "suite": name}).id
    for id in ids.values():
        assert lab.client.wait(id, timeout=200).progress.done == 6
    return ids


def test_bits_per_byte_equal_those_of_an_independent_computation(
    lab: Lab, measured: dict[str, int], files: Path
) -> None:
    for name, id in measured.items():
        for row in lab.client.rows(id):
            if row.labels["gamma"] == 0:
                expected = bits_per_byte_of(files / name / row.labels["revision"], TEXT, WINDOW)
                assert row.metrics[BITS_PER_BYTE] == pytest.approx(expected, rel=1e-6)
        stored = lab.client.provenance(row.id).attempts[-1].metrics
        assert "nll_mean" in stored
        assert BITS_PER_BYTE not in stored, "it is derived, never stored"


def test_tables_explorer_figures_and_comparisons_agree(lab: Lab, measured: dict[str, int]) -> None:
    first, second = measured.values()
    rows = {row.id: row.metrics[BITS_PER_BYTE] for row in lab.client.rows(first)}
    lines = list(csv.DictReader(io.StringIO(lab.client.csv(first))))
    assert {int(line["measurement"]): float(line[BITS_PER_BYTE]) for line in lines} == rows
    [suite] = {row.labels["suite"] for row in lab.client.rows(first)}
    cells = lab.client.pivot(
        suite=[suite], rows="gamma", metric=BITS_PER_BYTE, aggregate="min"
    ).cells
    assert min(cell.value or 9 for cell in cells) == pytest.approx(min(rows.values()))  # type: ignore[type-var]
    assert BITS_PER_BYTE in lab.client.facets(suite=[suite]).metrics
    found = lab.client.find(suite=[suite]).points
    assert {point.id: point.metrics[BITS_PER_BYTE] for point in found} == rows
    exported = list(csv.DictReader(io.StringIO(lab.client.export_points(suite=[suite]).decode())))
    assert {int(line["id"]): float(line[BITS_PER_BYTE]) for line in exported} == rows
    figure = lab.client.figures(first)[BITS_PER_BYTE]
    drawn = [row["y"] for row in figure.datasets["curves"] if row["what"] == "draw"]
    assert sorted(drawn) == pytest.approx(sorted(rows.values()))  # type: ignore[type-var]
    compared = lab.client.compare([first, second], y=BITS_INCREASE)
    assert compared.options.y == BITS_INCREASE
    assert "bits per byte" in compared.figures()["curves"].caption
    assert not compared.warnings
    [warning] = lab.client.compare([first, second]).warnings
    assert "Bits per byte of the same text are comparable" in warning


def test_exports_store_the_loss_only(lab: Lab, measured: dict[str, int], tmp_path: Path) -> None:
    assert FORMAT == 1
    id = next(iter(measured.values()))
    assert main(["--url", lab.url, "export", str(tmp_path / "out"), "--experiment", str(id)]) == 0
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "out" / "measurements.parquet").to_pylist()
    assert all(BITS_PER_BYTE not in dict(row["metrics"]) for row in table)


def test_the_built_in_language_has_no_bytes_and_that_is_said(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {
        "kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.1], "draws": 1,
        "checkpoints": ["seed0-step437-tokens894976"], "scale": "current_std",
    }  # fmt: skip
    id = lab.client.wait(lab.client.submit(spec).id, timeout=100).id
    assert all(BITS_PER_BYTE not in row.metrics for row in lab.client.rows(id))
    assert BITS_PER_BYTE not in lab.client.figures(id)
    assert main(["--url", lab.url, "compare", str(id), "--y", BITS_PER_BYTE]) == 2
    assert "only texts have bytes" in capsys.readouterr().err


# ---- texts in plans


def test_a_plan_says_tokens_and_windows_and_refuses_what_a_model_cannot_read(
    lab: Lab, measured: dict[str, int], tmp_path: Path
) -> None:
    suite = next(iter(measured))
    [note] = lab.client.plan({**NOISE, "suite": suite}).notes
    assert re.fullmatch(
        r"bytes-text: [\d,]+ tokens \(0\.\d{3} per byte\) for the tokenizer of bytes-300, in "
        r"windows of 48\.",
        note,
    )
    plain = tmp_path / "again.txt"
    plain.write_text(TEXT, encoding="utf-8")
    facts = "\n".join(dataset_facts(lab.client.add_dataset("again", text=str(plain))))
    assert re.search(r"[\d,]+ tokens for the tokenizer of bytes-300, 0\.\d{3} per byte", facts)
    (tmp_path / "short.txt").write_text("a")
    lab.client.add_dataset("one-token", text=str(tmp_path / "short.txt"))
    with pytest.raises(RequestRejectedError, match="fewer than two tokens"):
        lab.client.plan({**NOISE, "suite": suite, "evaluation": "one-token"})
    folder = write_suite(tmp_path / "beyond", 500, num_tokens=290)
    usable(lab, "beyond", folder)
    with pytest.raises(RequestRejectedError, match="its model knows 290 tokens"):
        lab.client.plan({**NOISE, "suite": "beyond"})


def test_a_plan_counts_steps_and_examples_that_do_not_fit(
    lab: Lab, measured: dict[str, int], tmp_path: Path
) -> None:
    rows: list[dict[str, object]] = [{"prompt": "café " * i, "completion": "€"} for i in range(40)]
    path = str(write_json_lines(tmp_path / "a.jsonl", rows))
    lab.client.add_dataset("prompted", train=path, validation=path)
    spec: dict[str, Any] = {
        "kind": "fine_tuning", "suite": next(iter(measured)), "data": "prompted",
        "evaluations": ["bytes-text"], "context": 16, "batch_rows": 8, "epochs": 2,
        "window": WINDOW,
    }  # fmt: skip
    notes = " ".join(lab.client.plan(spec).notes)
    found = re.search(r"prompted: (\d+) examples, (\d+) steps per epoch, (\d+) steps in all", notes)
    assert found, notes
    used, epoch, steps = map(int, found.groups())
    assert 0 < used < 40
    assert (epoch, steps) == (math.ceil(used / 8), 2 * math.ceil(used / 8))
    assert f"left out: {40 - used}." in notes
    longer = " ".join(lab.client.plan({**spec, "context": 4096}).notes)
    assert "Longer than 64 tokens and cut" in longer, "the context of the model limits it"
    lab.client.add_dataset("long", train=(long := _long(tmp_path)), validation=long)
    with pytest.raises(RequestRejectedError, match="No example of 'long'"):
        lab.client.plan({**spec, "data": "long"})


def _long(folder: Path) -> str:
    rows: list[dict[str, object]] = [{"prompt": "café " * 99, "completion": "€"}]
    return str(write_json_lines(folder / "long.jsonl", rows))
