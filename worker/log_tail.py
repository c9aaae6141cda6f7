"""The last lines that this process logged while it worked on a point: they are kept with the attempt."""

from __future__ import annotations

import logging
import time
from collections import deque

LINES = 50
LONGEST = 400  # characters of a line
OURS = ("ucurve", "worker")  # whose remarks count, besides everybody's warnings


class LogTail(logging.Handler):
    """Listens to all loggers of the process from `listen` on; a process works on one point at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=LINES)
        self._written: str | None = None

    def listen(self) -> None:
        """Call it after Celery has set up logging: it leaves a root logger alone that has a handler already."""
        for name in OURS:
            logging.getLogger(name).setLevel(logging.INFO)
        logging.captureWarnings(True)
        logging.getLogger().addHandler(self)

    def begin(self) -> None:
        """Another attempt."""
        self._lines.clear()
        self._written = None

    def emit(self, record: logging.LogRecord) -> None:
        """A traceback is kept with the attempt by itself, so of an exception only its name and words are noted."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            message = record.getMessage() + (f": {type(error).__name__}: {error}" if error else "")
        except Exception:  # whoever logged gave what cannot be written out: its own fault, and no reason to lose a number
            self.handleError(record)
            return
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        for line in message.rstrip().replace("\0", "\\0").splitlines():
            self._lines.append(f"{when} {record.levelname} {record.name}: {line}"[:LONGEST])

    def text(self) -> str | None:
        """What is kept, one line each with the time in UTC; None when nothing was logged."""
        return (
            "\n".join(self._lines.copy()) or None
        )  # a copy of a deque is made in one go: others log meanwhile

    def news(self) -> str | None:
        """The same, if it has changed since it was asked for last."""
        now = self.text()
        if now == self._written:
            return None
        self._written = now
        return now
