"""Logs of all processes: readable lines by default, JSON lines with UCURVE_LOG_FORMAT=json.

    with log_context(measurement=12, experiment=3):
        log.info("measured")  # both numbers are in the line

A JSON line has `time`, `level`, `logger`, `message`, what `log_context` added, and `exception`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ucurve.settings import settings

_EMPTY: dict[str, Any] = {}  # never changed
_context: ContextVar[dict[str, Any]] = ContextVar("log context", default=_EMPTY)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields to every line that this thread or task logs meanwhile; None adds nothing."""
    token = _context.set(
        _context.get() | {name: value for name, value in fields.items() if value is not None}
    )
    try:
        yield
    finally:
        _context.reset(token)


class ContextFilter(logging.Filter):
    """Attach the context of the logging thread to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.context = _context.get()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record, "%Y-%m-%dT%H:%M:%S", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "context", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`2026-11-29 13:55:01.250 WARNING worker.loop: message (measurement 12)`; times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        context = ", ".join(f"{k} {v}" for k, v in getattr(record, "context", {}).items())
        line = (
            f"{_utc(record, '%Y-%m-%d %H:%M:%S')} {record.levelname} {record.name}: "
            f"{record.getMessage()}{f' ({context})' if context else ''}"
        )
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _utc(record: logging.LogRecord, format: str, end: str = "") -> str:
    milliseconds = int(record.created * 1000) % 1000
    return f"{time.strftime(format, time.gmtime(record.created))}.{milliseconds:03d}{end}"


def log_handler() -> logging.Handler:
    """Return a handler that writes to standard error in the format of UCURVE_LOG_FORMAT."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(ContextFilter())
    handler.setFormatter(JsonFormatter() if settings().log_format == "json" else TextFormatter())
    return handler


def configure_logs(level: int, own: tuple[str, ...] = ()) -> None:
    """Send all records of this process from `level` on to standard error, and warnings too.

    own: first words of loggers whose own handlers are removed, so that every line has the same
    format.
    """
    root = logging.getLogger()
    root.setLevel(level)
    if any(isinstance(f, ContextFilter) for handler in root.handlers for f in handler.filters):
        return  # the second call
    root.addHandler(log_handler())
    logging.captureWarnings(True)
    for name in [name for name in root.manager.loggerDict if name.split(".")[0] in own]:
        logger = logging.getLogger(name)
        if not (logger.handlers or logger.propagate):
            continue  # silenced: requests, unless UCURVE_ACCESS_LOG is set
        logger.handlers.clear()
        logger.propagate = True
