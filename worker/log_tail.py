"""The last log lines of this process during an attempt; they are stored with the attempt."""

from __future__ import annotations

import logging
import time
from collections import deque

MAX_LINES = 50
MAX_LINE_LENGTH = 400  # characters
INFO_LOGGERS = ("ucurve", "worker")  # stored from INFO on; all other loggers from WARNING on


class LogTail(logging.Handler):
    """Collect records of all loggers after `listen`; a process works on one point at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._last_text: str | None = None

    def listen(self) -> None:
        """Attach to the root logger, after Celery's setup, which skips a root that has handlers."""
        for name in INFO_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
        logging.captureWarnings(True)
        logging.getLogger().addHandler(self)

    def begin(self) -> None:
        """Clear the lines for a new attempt."""
        self._lines.clear()
        self._last_text = None

    def emit(self, record: logging.LogRecord) -> None:
        """Append a record; of an exception only type and message."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            message = record.getMessage() + (f": {type(error).__name__}: {error}" if error else "")
        except Exception:  # a record that cannot be formatted must not cost a measurement
            self.handleError(record)
            return
        time_utc = time.strftime("%H:%M:%S", time.gmtime(record.created))
        for line in message.rstrip().replace("\0", "\\0").splitlines():
            self._lines.append(
                f"{time_utc} {record.levelname} {record.name}: {line}"[:MAX_LINE_LENGTH]
            )

    def text(self) -> str | None:
        """Return the collected lines, each with its time in UTC; None when there are none."""
        # Copying a deque is atomic, so other threads may log meanwhile.
        return "\n".join(self._lines.copy()) or None

    def new_lines(self) -> str | None:
        """Return `text()` if it has changed since the last call, else None."""
        text = self.text()
        if text == self._last_text:
            return None
        self._last_text = text
        return text
