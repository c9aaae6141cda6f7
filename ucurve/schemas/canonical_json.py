"""Canonical JSON: equal values give equal text, from which identities are hashed."""

from __future__ import annotations

import json
from typing import Any


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces. Raises ValueError for inf and NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
