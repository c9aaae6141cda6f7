"""Canonical JSON: equal values give equal text, from which identities are hashed."""

from __future__ import annotations

import json
import re
from typing import Any

# Texts first, so that nothing inside one is taken for a number.
NEGATIVE_ZERO = re.compile(r'"(?:[^"\\]|\\.)*"|-0\.0(?![\d.e])')


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces. Raises ValueError for inf and NaN.

    Zero has no sign: equal values, and what the database gives back, hash to the same identity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return NEGATIVE_ZERO.sub(_without_sign, text) if "-0.0" in text else text


def _without_sign(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else "0.0"
