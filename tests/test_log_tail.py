"""What is kept of a worker's log with an attempt: few lines, the last ones, whatever is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from worker.log_tail import MAX_LINE_LENGTH, MAX_LINES, LogTail


@pytest.fixture
def tail() -> Iterator[LogTail]:
    made = LogTail()
    logging.getLogger("of.a.kind").addHandler(made)
    yield made
    logging.getLogger("of.a.kind").removeHandler(made)


def test_the_last_lines_are_kept_short_and_storable_and_another_attempt_begins_with_none(
    tail: LogTail,
) -> None:
    log = logging.getLogger("of.a.kind")
    assert tail.text() is None
    for number in range(MAX_LINES + 9):
        log.warning("line %d", number)
    lines = (tail.text() or "").splitlines()
    assert (len(lines), lines[0].endswith("WARNING of.a.kind: line 9")) == (MAX_LINES, True)
    assert tail.new_lines() == tail.text()
    assert tail.new_lines() is None  # nothing was logged since
    log.warning("x" * 10_000)
    log.warning("two\nlines with \0")
    try:
        raise ValueError("too warm")
    except ValueError:
        log.exception("measurement 7 failed")
    lines = (tail.new_lines() or "").splitlines()
    assert [line.split("of.a.kind: ")[1] for line in lines[-3:]] == [
        "two",
        "lines with \\0",
        "measurement 7 failed: ValueError: too warm",  # the traceback is kept by itself
    ]
    assert len(lines[-4]) == MAX_LINE_LENGTH
    tail.begin()
    assert tail.text() is None


def test_what_cannot_be_written_out_costs_a_line_of_log_and_nothing_else(
    tail: LogTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(logging.getLogger("of.a.kind"), "propagate", False)
    logging.getLogger("of.a.kind").warning("%d points", "many")
    assert tail.text() is None
