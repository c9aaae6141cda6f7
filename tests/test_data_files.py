"""Texts and examples as people have them: read as they mean, or refused with line and remedy."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from text_models import write_json_lines

from ucurve.registry.artifacts import folder_of
from ucurve.registry.datasets import example_files, record_files
from ucurve.registry.datasets.example_rows import SplitError, understood_examples
from ucurve.registry.datasets.record_files import DataFileError
from ucurve.registry.datasets.text_files import understood_text
from ucurve.registry.hashing import resolve_examples, resolve_text
from ucurve.registry.suites import Dataset, Location, dataset_facts

DOCUMENTS = ["First document.\n", "Zweites: naïve café.", "", "Last."]
JOINED = "\n\n".join(DOCUMENTS)


@pytest.fixture(autouse=True)
def artefacts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))


def text_of(path: Path, column: str | None = None) -> Dataset:
    """The dataset of a text, understood and hashed as at registration."""
    location = Location(scheme="path", path=str(path))
    dataset = understood_text(Dataset(name="t", kind="text", location=location), path, column)
    assert dataset.location
    return resolve_text(dataset, folder_of(dataset.location))


def content_of(dataset: Dataset) -> str:
    assert dataset.location
    return folder_of(dataset.location).read_text(encoding="utf-8")


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.compress(content, codec="zstd", asbytes=True)
    return packed


JSON_LINES = "".join(json.dumps({"id": i, "text": d}) + "\n" for i, d in enumerate(DOCUMENTS))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".zst": zstd, ".bz2": bz2.compress, ".xz": lzma.compress,
}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
def test_documents_of_json_lines_are_joined_by_a_blank_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pile.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](("\ufeff" + JSON_LINES + "\n").encode()))
    dataset = text_of(path)
    assert content_of(dataset) == JOINED
    assert dataset.size_bytes == len(JOINED.encode())
    facts = "\n".join(dataset_facts(dataset))
    assert f"4 documents of {path.name}, column text, joined by a blank line" in facts
    assert "starts with: First document." in facts


def test_parquet_csv_and_arrays_hold_documents_too(tmp_path: Path) -> None:
    table = pa.table({"text": DOCUMENTS, "meta": [{"a": 1}] * 4})
    parquet.write_table(table, tmp_path / "train-00000-of-00001.parquet", compression="zstd")
    (tmp_path / "a.json").write_text(json.dumps([{"content": d} for d in DOCUMENTS]))
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([document] for document in DOCUMENTS if document)])
    hashes = {
        text_of(tmp_path / "train-00000-of-00001.parquet").sha256,
        text_of(tmp_path / "a.json", "content").sha256,
    }
    assert len(hashes) == 1, "the same text is the same dataset, however it was packed"
    assert content_of(text_of(tmp_path / "a.csv")) == "\n\n".join(filter(None, DOCUMENTS))


def test_a_packed_text_is_unpacked_and_a_plain_one_stays_where_it_lies(tmp_path: Path) -> None:
    plain = tmp_path / "novel.txt"
    plain.write_text("\ufeffOnce {upon} a time\r\n", encoding="utf-8")
    whole = text_of(plain)
    assert whole.location == Location(scheme="path", path=str(plain))
    members = gzip.compress(b"\xef\xbb\xbfOnce {upon}") + gzip.compress(b" a time\r\n")
    (tmp_path / "novel.txt.gz").write_bytes(members)
    assert text_of(tmp_path / "novel.txt.gz").sha256 == whole.sha256, "byte for byte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b'{"text": "x"}\n{"text": "y"}\n', "name it .jsonl"),
        ("a.jsonl", b'{"text": "x"}\n{"text": null}\n', "text in line 2 .* is null"),
        ("a.jsonl", b'{"text": ["x"]}\n', "text in line 1 .* is a list"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "half a character"),
        ("a.jsonl", b'{"title": "x", "body": "y"}\n', "no 'text', but title, body: name the col"),
        ("a.jsonl", b'{"messages": []}\n', "a chat has no one text"),
        ("a.jsonl", b'"x"\n', "line 1 .* no JSON object: a text"),
        ("a.jsonl", b"\n", "no documents"),
        ("a.txt.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "no complete gzip file"),
        ("a.jsonl.zst", zstd(b'{"text": "x"}' * 99)[:-9], "no complete zstd file"),
        ("a.parquet", b"PAR1 and nothing more PAR1", "no complete Parquet file"),
        ("book.epub", b"PK\x03\x04" + b"x" * 9, "zip archive"),
        ("a.pdf", b"%PDF-1.7", "a PDF: extract"),
        ("a.txt", "x".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("a.npy", b"\x93NUMPY\x01\x00", "array of numbers"),
    ],
)
def test_what_is_no_text_is_refused_with_line_and_remedy(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        text_of(tmp_path / name)


@pytest.mark.parametrize("content", ["", " \n\t\r\n ", "\ufeff\n"])
def test_a_text_of_nothing_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    assert "holds no text" in (text_of(tmp_path / "a.txt").unresolved or "")


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_unpacking_ends_at_a_bound(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_files, "MAX_BYTES", 1000)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix](b"x" * 1001))
    with pytest.raises(DataFileError, match=r"more than .* unpacked"):
        text_of(path)


def test_what_is_written_counts_as_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_UPLOADS_GB", "0")
    (tmp_path / "a.jsonl").write_text(JSON_LINES)
    with pytest.raises(DataFileError, match="UCURVE_UPLOADS_GB allows"):
        text_of(tmp_path / "a.jsonl")


# ---- examples


def examples_of(train: Path, validation: Path | None = None) -> Dataset:
    """The dataset of two files, understood and hashed as at registration."""
    validation = validation or train
    names = {"train": train.name, "validation": validation.name}
    location = Location(scheme="path", path=str(train.parent))
    dataset = Dataset(name="e", kind="examples", parameters=dict(names), location=location)
    dataset = understood_examples(dataset, {"train": train, "validation": validation})
    assert dataset.location
    return resolve_examples(dataset, folder_of(dataset.location))


def rows_of(dataset: Dataset) -> list[tuple[str, str]]:
    """The training examples as a worker reads them."""
    assert dataset.location
    assert dataset.unresolved is None
    return example_files.read(folder_of(dataset.location) / str(dataset.parameters["train"])).rows


LABELLED: list[dict[str, Any]] = [{"sentence": "good", "label": 1}, {"sentence": "bad", "label": 0}]
EXPECTED = [("good", "1"), ("bad", "0")]


def test_files_that_workers_read_as_they_lie_stay_there(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("idx\tsentence\tlabel\n0\tgood\t1\n1\tbad\t0\n")
    dataset = examples_of(tmp_path / "a.tsv")
    assert dataset.location == Location(scheme="path", path=str(tmp_path))
    assert rows_of(dataset) == EXPECTED
    assert 'starts with: {"sentence": "good", "label": "1"}' in dataset_facts(dataset)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "\ufeffsentence\tlabel\r\ngood\t1.0\r\nbad\t0\r\n\r\n\n"),
        ("a.csv", 'label,text,id\n1,"good",a\n0,bad,b\n\n'),
        ("a.jsonl", '{"text": "good", "label": 1.0}\n\n{"text": "bad", "label": 0}\n \n'),
        (
            "a.ndjson",
            '\ufeff{"content": "good", "labels": "1.0"}\r\n{"content": "bad", "labels": 0}',
        ),
        ("a.json", '[{"sentence": "good", "label": 1}, {"sentence": "bad", "label": 0}]'),
    ],
)
def test_one_meaning_is_one_dataset(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    parquet.write_table(pa.Table.from_pylist(LABELLED), tmp_path / "b.parquet")
    dataset = examples_of(tmp_path / name)
    assert rows_of(dataset) == EXPECTED
    assert dataset.sha256 == examples_of(tmp_path / "b.parquet").sha256


def test_instructions_are_prompts_with_blank_lines_between(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "Add.", "input": "2 + 2", "output": "4"},
        {"instruction": "Name a colour.", "input": "", "output": "red"},
    ]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    expected = [("Add.\n\n2 + 2\n\n", "4"), ("Name a colour.\n\n", "red")]
    assert rows_of(examples_of(tmp_path / "alpaca.json")) == expected
    asked: list[dict[str, Any]] = [{"question": "Why?", "answer": "So."}]
    path = write_json_lines(tmp_path / "q.jsonl", asked)
    assert rows_of(examples_of(path)) == [("Why?\n\n", "So.")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "completion": None}, "completion in line 2 .* is null: leave"),
        ({"prompt": "x", "completion": ["y"]}, "completion in line 2 .* is a list"),
        ({"prompt": "x", "completion": True}, "completion in line 2 .* is true or false"),
        ({"prompt": [{"role": "user"}], "completion": "y"}, "prompt in line 2 .* chat"),
        ({"prompt": "x"}, "line 2 .* has no completion"),
    ],
)
def test_values_that_are_no_text_are_refused_with_their_line(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [{"prompt": "x", "completion": "y"}, row])
    with pytest.raises(SplitError, match=message):
        examples_of(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "a chat"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "a chat"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "preference pairs"),
        ({"premise": "x", "hypothesis": "y", "label": 1}, "pairs: join both"),
        ({"text": "x"}, "register it as a text"),
        ({"tokens": [1], "tags": [0]}, "columns that are read: sentence and label"),
        ({"sentence": "x", "label": 0.37}, "decimal numbers: classes"),
        ({"sentence": "x", "label": -1}, "no labels; use another"),
    ],
)
def test_other_formats_are_refused_by_name(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(SplitError, match=message):
        examples_of(write_json_lines(tmp_path / "a.jsonl", [row]))
    (tmp_path / "a.dat").write_text("x")
    with pytest.raises(SplitError, match="needs a name that says how to read it"):
        examples_of(tmp_path / "a.dat")


def test_examples_with_nothing_to_learn_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "x", "completion": c} for c in ("y", "", " ")]
    dataset = examples_of(write_json_lines(tmp_path / "a.jsonl", rows))
    assert dataset.parameters["empty_completions"] == 4
