"""`ucurve doctor`: every check of an installation, one line each, with what to do about it.

for finding in examine(surroundings(None, "http://127.0.0.1:8000", DASHBOARD)):
    print(finding.status, finding.check, finding.detail, finding.remedy)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ucurve.lab import machine_checks, service_checks
from ucurve.lab.findings import Finding, Surroundings

Check = Callable[[Surroundings], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    machine_checks.versions,
    machine_checks.device,
    machine_checks.memory,
    machine_checks.disk,
    machine_checks.permissions,
    machine_checks.data_folder,
    service_checks.lab_runs,
    service_checks.database,
    service_checks.broker,
    service_checks.addresses,
    service_checks.hub,
)


def examine(lab: Surroundings, checks: tuple[Check, ...] | None = None) -> Iterator[Finding]:
    """Run the checks, all by default; one that fails itself is a problem and stops no other."""
    for check in checks or CHECKS:
        try:
            yield from check(lab)
        except Exception as error:  # the doctor has to survive what it examines
            yield Finding(
                check.__name__.replace("_", " "),
                "problem",
                f"cannot be checked: {type(error).__name__}: {' '.join(str(error).split())}",
                "please report this",
            )
