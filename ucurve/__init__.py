"""ucurve measures whether pre-training a language model longer makes it more fragile.

from ucurve import Client

client = Client("http://127.0.0.1:8000")
experiment = client.submit({"kind": "linear_model"})
client.wait(experiment.id)
print(client.table(experiment.id))
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ucurve.client import Client as Client

__version__ = "0.1.0"


@cache
def code_version() -> str:
    """Return a hash of ucurve's sources: it changes with every edit, a version number does not.

    A process keeps its first answer, because an upgrade changes the files but not what it runs.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def __getattr__(name: str) -> Any:
    """Import `ucurve.Client` on first use: workers import ucurve.spec without the HTTP client."""
    if name == "Client":
        from ucurve.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
