"""JSON for jsonb columns, from which every float comes back as a float.

>>> to_json({"loss": 1e16, "name": "1e+16"})
'{"loss": 10000000000000000.0, "name": "1e+16"}'

jsonb holds numbers as decimals: "1e+16" is read back as the integer 10000000000000000, which no
64-bit column takes from 9.3e18 on, and which hashes to another identity.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

# Texts first, so that nothing inside one is taken for a number.
LARGE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?e\+\d+')


def to_json(value: Any) -> str:
    """Return JSON in which large floats are written out, with a decimal point."""
    text = json.dumps(value)
    return LARGE.sub(_written_out, text) if "e+" in text else text


def _written_out(match: re.Match[str]) -> str:
    token = match[0]
    return token if token.startswith('"') else f"{Decimal(token):.1f}"
