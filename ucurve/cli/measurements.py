"""Commands about one number: where it comes from, and measuring it here, without any service, to compare."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ucurve.cli.arguments import FAILED, Command, InputError, client, fail, json_from, write
from ucurve.schemas.measurements import Attempt, decode_metrics
from ucurve.schemas.point_file import PointFile
from ucurve.settings import settings

NUMBER = "the measurement's number, see `ucurve table ID`"


def commands(command: Command) -> None:
    made = command(
        "explain", explain, "everything behind one number, and how to repeat it on another machine"
    )
    made.add_argument("measurement", type=int, help=NUMBER)
    made.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the point as a file for `ucurve measure`",
    )
    made = command(
        "measure",
        measure,
        "measure one point here, without any service, and compare it with what was recorded",
    )
    made.add_argument(
        "point",
        help="file that `ucurve explain -o` wrote, - for standard input, or a measurement's number",
    )
    made.add_argument(
        "--artefacts",
        type=Path,
        metavar="DIR",
        help="folder of suites and texts (default: UCURVE_ARTEFACTS, or ~/.ucurve/artefacts)",
    )


def explain(given: argparse.Namespace) -> None:
    lab = client(given)
    found, point = lab.provenance(given.measurement), lab.point(given.measurement)
    if given.output:
        write(given.output, point.model_dump_json(indent=1).encode())
        return
    again = f", measured afresh (repeat {found.repeat})" if found.repeat else ""
    print(f"measurement {found.id}: {found.kind}, {found.state}{again}")
    print(", ".join(f"{name} {value}" for name, value in point.labels.items() if value is not None))
    if point.recorded:
        for name, value in decode_metrics(point.recorded.metrics, point.recorded.nonfinite).items():
            print(f"  {name} = {value!r}")
    print(f"identity {found.identity}: the SHA-256 of")
    print(_indented(found.inputs))
    print("found at")
    print(_indented({name: value for name, value in found.source.items() if value}))
    for attempt in found.attempts:
        print(_attempt(attempt))
    print(
        f"shown by {', '.join(f'experiment {id}' for id in found.experiments) or 'no experiment'}"
    )
    print("repeat it on another machine:")
    print(f"  ucurve --url {lab.url} measure {found.id}")
    print(
        f"or without reaching this lab:  ucurve explain {found.id} -o point.json, and there  ucurve measure point.json"
    )


def _indented(value: Any) -> str:
    return "\n".join(f"  {line}" for line in json.dumps(value, indent=1).splitlines())


def _attempt(attempt: Attempt) -> str:
    took = (
        f", {(attempt.finished_at - attempt.started_at).total_seconds():.1f} s"
        if attempt.finished_at
        else ""
    )
    repeat = f" (repeat {attempt.repeat})" if attempt.repeat else ""
    lines = [
        f"attempt {attempt.id}{repeat}: {attempt.outcome} on {attempt.worker} ({attempt.device}), "
        f"{attempt.started_at:%Y-%m-%d %H:%M:%S %Z}{took}",
        "  " + ", ".join(f"{name} {version}" for name, version in sorted(attempt.versions.items())),
    ]
    for heading, kept in (("", attempt.traceback), ("  its last lines of log (UTC):", attempt.log)):
        if kept:
            lines += [
                *filter(None, [heading]),
                *(f"  {line}" for line in kept.rstrip().splitlines()),
            ]
    return "\n".join(lines)


def measure(given: argparse.Namespace) -> int:
    """The device is this machine's (UCURVE_DEVICE chooses)."""
    point = client(given).point(int(given.point)) if given.point.isdigit() else _read(given.point)
    try:
        from ucurve.experiments.standalone import measure as measured
        from ucurve.modeling.device import device, versions

        here, _, hardware = device()
        result = measured(
            point, here, (given.artefacts or settings().artefacts).expanduser().resolve(), _told
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed here: pip install 'ucurve[worker]'"
        ) from error
    except (
        Exception
    ) as error:  # whatever an experiment raises: the file, a missing text, the device
        return fail(f"cannot be measured here: {type(error).__name__}: {error}", FAILED)
    print(", ".join(f"{name} {value}" for name, value in point.labels.items() if value is not None))
    print(
        f"here      {here}: "
        + ", ".join(f"{name} {version}" for name, version in versions(hardware).items())
    )
    _compared(point, {name: float(value) for name, value in result.metrics.items()})
    return 0


def _told(done: float, total: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{done / max(total, 1e-9):4.0%} \r", end="", file=sys.stderr, flush=True)


def _read(path: str) -> PointFile:
    found = json_from(path)
    if not isinstance(found, dict) or found.get("format") != "ucurve-point/1":
        raise InputError(f"{path} holds no point: `ucurve explain NUMBER -o point.json` writes one")
    return PointFile.model_validate(found)


def _compared(point: PointFile, here: dict[str, float]) -> None:
    from ucurve.cli.tables import show, table_of
    from ucurve.schemas.reproducibility import TIME, difference

    there = (
        decode_metrics(point.recorded.metrics, point.recorded.nonfinite) if point.recorded else {}
    )
    if point.recorded:
        told = ", ".join(f"{name} {version}" for name, version in point.recorded.versions.items())
        print(f"recorded  {point.recorded.device}: {told}")
    table = table_of("metric", "here", "recorded", "difference")
    worst, alike = 0.0, True
    for name, value in here.items():
        one = difference(there.get(name), value)
        if name not in there or TIME.search(name):
            said = ""
        elif one.states:
            said, alike = "not the same state", False
        else:
            said = (
                "identical"
                if one.absolute == 0
                else f"{one.absolute:.3g}, relative {one.relative or float('inf'):.3g}"
            )
            worst, alike = max(worst, one.relative or 0.0), alike and one.absolute == 0
        table.add_row(name, repr(value), repr(there[name]) if name in there else "", said)
    show(table)
    if there:
        print("identical bit for bit" if alike else f"largest relative difference: {worst:.3g}")
