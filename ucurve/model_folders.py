"""UCURVE_MODELS: which folders may not be named there, because a secret lies below them.

>>> private_part(Path("/"), [Path("/home/ada/.ssh")])
PosixPath('/home/ada/.ssh')
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

SYSTEM = tuple(map(Path, ("/boot", "/dev", "/etc", "/proc", "/run/secrets", "/sys")))
IN_HOME = (".ssh", ".gnupg", ".aws", ".azure", ".docker", ".kube", ".netrc", ".config", ".pgpass")
IN_DATA = ("postgres", "run", "logs", "webhook-secret")  # of a lab's data folder


def private_places(artefacts: Path, admin_token: Path, hub_token: Path) -> Iterator[Path]:
    """Yield files and folders that no folder of models may contain, lie in, or be.

    admin_token: file of the first admin's key; it lies in the data folder of an embedded lab.
    """
    yield from SYSTEM
    yield from (admin_token, hub_token)
    yield from (admin_token.parent / name for name in IN_DATA)
    yield from (artefacts / name for name in ("hub", "state", "texts", "tuned"))
    try:
        yield from (Path.home() / name for name in IN_HOME)
    except RuntimeError:  # an account without a home, as in a container
        return


def private_part(folder: Path, private: Iterable[Path]) -> Path | None:
    """Return the first private place that a folder contains, lies in, or is; None where all is
    well.
    """
    resolved = folder.resolve()
    for place in private:
        other = place.resolve()
        if other.is_relative_to(resolved) or resolved.is_relative_to(other):
            return place
    return None
