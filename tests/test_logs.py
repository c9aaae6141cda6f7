"""Logs: one format per process, readable or JSON, with what the line is about."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from ucurve.logs import JsonFormatter, TextFormatter, log_context, log_handler


def record(message: str, **options: object) -> logging.LogRecord:
    made = logging.LogRecord("worker.loop", logging.WARNING, "", 0, message, (), None, **options)  # type: ignore[arg-type]
    made.created = 1_700_000_000.25
    return made


def formatted(made: logging.LogRecord) -> str:
    handler = log_handler()
    for one in handler.filters:
        assert isinstance(one, logging.Filter)
        one.filter(made)
    return handler.format(made)


def test_a_json_line_has_time_level_logger_message_and_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UCURVE_LOG_FORMAT", "json")
    with log_context(experiment=3, measurement=12, user=None), log_context(worker="gpu0"):
        line = formatted(record('it "failed"\nbadly'))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "worker.loop",
        "message": 'it "failed"\nbadly',
        "experiment": 3,
        "measurement": 12,
        "worker": "gpu0",
    }
    assert "experiment" not in json.loads(formatted(record("later")))


def test_an_exception_is_one_field_of_its_json_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: two\nlines")


def test_a_text_line_begins_with_its_time_and_ends_with_its_context() -> None:
    made = record("lease lost")
    assert TextFormatter().format(made) == "2023-11-14 22:13:20.250 WARNING worker.loop: lease lost"
    with log_context(measurement=12):
        assert formatted(made).endswith("lease lost (measurement 12)")
