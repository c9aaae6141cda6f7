"""Tokens that this process has put through a model, for the lab's metrics.

count_tokens(ids.numel())   # where a model runs
tokens_processed()          # how many so far, never decreasing
"""

from __future__ import annotations

import threading

_lock = threading.Lock()
_num_tokens = 0


def count_tokens(num: int) -> None:
    """Add tokens that a model has just evaluated or trained on."""
    global _num_tokens
    with _lock:
        _num_tokens += num


def tokens_processed() -> int:
    """Return the tokens counted since the start of this process."""
    return _num_tokens
