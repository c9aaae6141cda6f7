"""Files of examples and texts as public collections have them: read as meant, or refused by name.

Beside each case stands the public place that shows it; every row here is made up.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from test_data_files import content_of, examples_of, rows_of, text_of
from text_models import write_json_lines

from ucurve.registry.datasets.example_rows import SplitError
from ucurve.registry.datasets.record_files import DataFileError


@pytest.fixture(autouse=True)
def artefacts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))


READ: list[tuple[list[dict[str, Any]], list[tuple[str, str]]]] = [
    (  # databrickslabs/dolly: the context is part of the prompt
        [{"instruction": "A", "context": "ctx", "response": "x", "category": "qa"}],
        [("A\n\nctx\n\n", "x")],
    ),
    (  # tatsu-lab/stanford_alpaca, rows without the column first (axolotl issue 879)
        [{"instruction": "A", "output": "x"}, {"instruction": "B", "input": "c", "output": "y"}],
        [("A\n\n", "x"), ("B\n\nc\n\n", "y")],
    ),
    # the same with null, as datasets fills a missing column (huggingface/datasets pull 8069)
    ([{"instruction": "A", "input": None, "output": "x"}], [("A\n\n", "x")]),
    # google-research/FLAN and bigscience-workshop/promptsource
    ([{"inputs": "a", "targets": "b", "task": "t"}], [("a\n\n", "b")]),
    # allenai/natural-instructions
    ([{"input": "a", "target": "b"}], [("a\n\n", "b")]),
    # openai/grade-school-math
    ([{"question": "q", "answer": "a"}], [("q\n\n", "a")]),
    # huggingface/datasets, labels read from CSV beside whole ones
    ([{"text": "a", "label": "1"}, {"text": "b", "label": 0}], [("a", "1"), ("b", "0")]),
]


@pytest.mark.parametrize(("rows", "expected"), READ, ids=range(len(READ)))
def test_rows_of_public_collections_are_read_whole(
    tmp_path: Path, rows: list[dict[str, Any]], expected: list[tuple[str, str]]
) -> None:
    assert rows_of(examples_of(write_json_lines(tmp_path / "a.jsonl", rows))) == expected


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Hi", "messages": CHAT, "prompt_id": "1"}, "a chat"),  # huggingface/alignment-hand…
    ({"conversations": [{"from": "human", "value": "x"}]}, "a chat"),  # lm-sys/FastChat
    ({"chosen": "a", "rejected": "b"}, "preference pairs"),  # anthropics/hh-rlhf
    # LlamaFactory, data/README.md: turns before the instruction
    (
        {"instruction": "A", "input": "", "output": "x", "history": [["a", "b"]]},
        "history in line 1 .* is not empty: write it into the prompt",
    ),
    ({"instruction": "A", "output": "x", "system": "s"}, "system in line 1 .* into the prompt"),
    # rajpurkar/SQuAD-explorer: nested, and as the hub has it
    ({"version": "1.1", "data": [{"paragraphs": []}]}, "of SQuAD, one per question"),
    (
        {"context": "C", "question": "Q", "answers": {"text": ["A"], "answer_start": [0]}},
        "lists of answers: write one of them as completion",
    ),
    # allenai/ai2_arc and rowanz/hellaswag
    ({"question": "q", "choices": {"text": ["a"]}, "answerKey": "A"}, "a multiple-choice task"),
    ({"ctx": "c", "endings": ["a", "b"], "label": "1"}, "the right ending as completion"),
    # google-research-datasets/boolean-questions
    ({"question": "q", "passage": "p", "answer": True}, "answer in line 1 .* true or false"),
    # pandas: to_json() by columns, and a missing class
    ({"text": ["a", "b"], "label": [1, 0]}, "one class per example, an example per line"),
    ({"text": "a", "label": float("nan")}, "label in line 1 .* is nan: leave the example out"),
    ({"text": "a", "label": ""}, "label in line 1 .* is empty: leave the example out"),
]


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=range(len(REFUSED)))
def test_rows_that_mean_something_else_are_refused_with_the_remedy(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(SplitError, match=message):
        examples_of(write_json_lines(tmp_path / "a.jsonl", [row]))


TABLES: list[tuple[str, list[tuple[str, str]] | str]] = [
    # fancyzhx/ag_news: quotes, commas and line ends within a value
    ('text,label\n"a ""b"" c, d",2\n"x\ny",3\n', [('a "b" c, d', "2"), ("x\ny", "3")]),
    # spreadsheets: capital headers, blanks behind a comma, an index column of pandas
    ("Text,Label\nab,1\ncd,0\n", [("ab", "1"), ("cd", "0")]),
    ("text, label\nab, 1\ncd, 0\n", [("ab", "1"), ("cd", "0")]),
    (",text,label\n0,ab,1\n1,cd,0\n", [("ab", "1"), ("cd", "0")]),
    # a value longer than the csv module of Python allows (python/cpython, field_size_limit)
    (f'text,label\n"{"x" * 140_000}",1\nb,0\n', [("x" * 140_000, "1"), ("b", "0")]),
    ("text;label\nab;1\ncd;0\n", "by semicolons: save it with commas"),
    ("text\tlabel\nab\t1\n", "by tabs: name it .tsv"),
]


@pytest.mark.parametrize(("content", "expected"), TABLES, ids=range(len(TABLES)))
def test_tables_of_spreadsheets_are_read_or_their_separator_is_named(
    tmp_path: Path, content: str, expected: list[tuple[str, str]] | str
) -> None:
    (tmp_path / "a.csv").write_text(content, newline="")
    if isinstance(expected, list):
        assert rows_of(examples_of(tmp_path / "a.csv")) == expected
        return
    with pytest.raises(SplitError, match=expected):
        examples_of(tmp_path / "a.csv")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
TAR = b"a.txt".ljust(257, b"\0") + b"ustar\0".ljust(255, b"\0")
FILES: list[tuple[str, bytes, str]] = [
    # git-lfs/git-lfs, docs/spec.md: what a clone without LFS has
    ("a.txt", POINTER, "a pointer of Git LFS, not the file itself: run `git lfs pull`"),
    ("a.parquet", POINTER, "a pointer of Git LFS"),
    ("a.jsonl", POINTER, "a pointer of Git LFS"),
    ("a.tar.gz", gzip.compress(TAR), "an archive of files"),
    ("a.parquet.gz", gzip.compress(b"PAR1xxxx"), "a packed Parquet file: unpack it"),
    # commoncrawl/cc-mrjob
    ("a.warc.gz", gzip.compress(b"WARC/1.0\r\nWARC-Type: response\r\n\r\n"), "WARC"),
    ("a.txt.gz", gzip.compress(b'{"text": "a"}\n'), "name it .jsonl"),
    ("a.json", b'{\n  "text": "a"\n}\n', "one JSON object over several lines"),
]


@pytest.mark.parametrize(("name", "content", "message"), FILES, ids=[f[0] for f in FILES])
def test_what_only_looks_like_a_text_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFileError, match=message):
        text_of(tmp_path / name)


def test_columns_beside_the_text_may_be_nested(tmp_path: Path) -> None:
    """EleutherAI/the-pile and allenai/dolma have `meta` or `metadata` beside `text`."""
    rows = [{"text": "x", "meta": {"set": "p", "n": [1, 2]}}, {"text": "y", "meta": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert content_of(text_of(tmp_path / "a.parquet")) == "x\n\ny"
    line = {"text": "x", "timestamp": "t", "url": "u"}  # allenai/c4: .json.gz of JSON lines
    (tmp_path / "c4.json.gz").write_bytes(gzip.compress(f"{json.dumps(line)}\n".encode()))
    assert content_of(text_of(tmp_path / "c4.json.gz")) == "x"
    parquet.write_table(pa.Table.from_pylist([{"text": b"x"}]), tmp_path / "b.parquet")
    with pytest.raises(DataFileError, match=r"text in row 1 .* is bytes, no text"):
        text_of(tmp_path / "b.parquet")
