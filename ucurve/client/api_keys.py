"""API keys from files: a command line is visible to every user of the machine, a file is not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ucurve.settings import settings

MAX_BYTES = 4096


class TokenFileError(RuntimeError):
    """A token file that cannot be used; the message says what to do."""


def token_from(file: Path) -> str:
    """Return the API key in a file that only its owner can read. Raises TokenFileError."""
    try:
        with os.fdopen(os.open(file.expanduser(), os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise TokenFileError(f"{file} is not a regular file: write the API key into one")
            if mode & 0o077:
                raise TokenFileError(f"{file} can be read by other users: run `chmod 600 {file}`")
            text = opened.read(MAX_BYTES).decode("ascii").strip()
    except OSError as error:
        raise TokenFileError(f"cannot read the token file {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    if not text or len(text.split()) != 1:
        raise TokenFileError(f"{file} does not hold an API key: write nothing else into it")
    return text


def default_token() -> str | None:
    """Return the API key of the environment: UCURVE_TOKEN, else the one in UCURVE_TOKEN_FILE."""
    file = settings().token_file
    if settings().token or file is None:
        return settings().token
    return token_from(file)
