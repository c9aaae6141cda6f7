"""Who asks. On a loopback address that is whoever started the service; roles and tokens are still to come."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

from fastapi import Depends


def owner() -> str:
    """The name under which experiments are filed: UCURVE_OWNER, or the account the service runs under."""
    return os.environ.get("UCURVE_OWNER") or getpass.getuser()


Owner = Annotated[str, Depends(owner)]
