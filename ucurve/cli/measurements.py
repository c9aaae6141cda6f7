"""Commands about one measurement: show its provenance, repeat it on this machine and compare."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ucurve.cli.arguments import (
    FAILED,
    Command,
    InputError,
    connect,
    fail,
    json_from,
    labels_text,
    write,
)
from ucurve.client import Client
from ucurve.formatting import duration, exact
from ucurve.schemas.measurements import Attempt, Provenance, decode_metrics
from ucurve.schemas.point_file import PointFile
from ucurve.settings import settings


def commands(command: Command) -> None:
    parser = command(
        "explain",
        explain,
        "show the provenance of a measurement: inputs, attempts, how to repeat it",
        examples=("ucurve explain 1204", "ucurve explain 1204 -o point.json"),
    )
    parser.add_argument("measurement", type=int, help="measurement id, see `ucurve table ID`")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write a point file for `ucurve measure`"
    )
    parser = command(
        "measure",
        measure,
        "measure one point on this machine, without a lab, and compare with the recorded value",
        examples=("ucurve measure point.json", "ucurve --url http://lab:8000 measure 1204"),
    )
    parser.add_argument(
        "point",
        help="file written by `ucurve explain -o`, - for standard input, or a measurement id",
    )
    parser.add_argument(
        "--artefacts",
        type=Path,
        metavar="DIR",
        help="folder with suites and datasets (default: UCURVE_ARTEFACTS, or ~/.ucurve/artefacts)",
    )


def explain(args: argparse.Namespace) -> None:
    client = connect(args)
    provenance, point = client.provenance(args.measurement), client.point(args.measurement)
    if args.output:
        write(args.output, point.model_dump_json(indent=1).encode())
    else:
        _print_provenance(client, provenance, point)


def _print_provenance(client: Client, provenance: Provenance, point: PointFile) -> None:
    id = provenance.id
    again = f", re-measured (repeat {provenance.repeat})" if provenance.repeat else ""
    print(f"measurement {id}: {provenance.kind}, {provenance.state}{again}")
    print(labels_text(point.labels))
    if point.recorded:
        for name, value in decode_metrics(point.recorded.metrics, point.recorded.nonfinite).items():
            print(f"  {name} = {exact(value)}")
    print(f"identity {provenance.identity}: SHA-256 of")
    print(_indented(provenance.inputs))
    print("source")
    print(_indented({name: value for name, value in provenance.source.items() if value}))
    for attempt in provenance.attempts:
        print(_attempt_text(attempt))
    experiments = ", ".join(f"#{experiment}" for experiment in provenance.experiments)
    print(f"used by experiments: {experiments or 'none'}")
    print("repeat it on another machine:")
    print(f"  ucurve --url {client.url} measure {id}")
    print("or, where this lab cannot be reached:")
    print(f"  ucurve explain {id} -o point.json    # here")
    print("  ucurve measure point.json             # there")


def _indented(value: Any) -> str:
    return "\n".join(f"  {line}" for line in json.dumps(value, indent=1).splitlines())


def _attempt_text(attempt: Attempt) -> str:
    """Format an attempt: outcome, worker, versions, and traceback and log where it failed."""
    elapsed = ""
    if attempt.finished_at:
        elapsed = f", {duration((attempt.finished_at - attempt.started_at).total_seconds())}"
    repeat = f" (repeat {attempt.repeat})" if attempt.repeat else ""
    lines = [
        f"attempt {attempt.id}{repeat}: {attempt.outcome} on {attempt.worker} ({attempt.device}), "
        f"{attempt.started_at:%Y-%m-%d %H:%M:%S %Z}{elapsed}",
        f"  {_versions_text(attempt.versions)}",
    ]
    if attempt.traceback:
        lines += [f"  {line}" for line in attempt.traceback.rstrip().splitlines()]
    if attempt.log:
        lines += ["  end of its log (UTC):"]
        lines += [f"  {line}" for line in attempt.log.rstrip().splitlines()]
    return "\n".join(lines)


def _versions_text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def measure(args: argparse.Namespace) -> int:
    """Measure on this machine's device; UCURVE_DEVICE selects another one."""
    is_id = args.point.isascii() and args.point.isdigit()
    point = connect(args).point(int(args.point)) if is_id else _read_point(args.point)
    try:
        from ucurve.experiments import standalone
        from ucurve.modeling.device import device, versions

        device_name, _, hardware = device()
        folder = (args.artefacts or settings().artefacts).expanduser().resolve()
        result = standalone.measure(point, device_name, folder, _show_progress)
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'ucurve[worker]'") from error
    except Exception as error:  # an experiment may raise anything: bad file, missing dataset, CUDA
        return fail(f"the measurement failed: {type(error).__name__}: {error}", FAILED)
    print(labels_text(point.labels))
    print(f"here      {device_name}: {_versions_text(versions(hardware))}")
    _print_comparison(point, {name: float(value) for name, value in result.metrics.items()})
    return 0


def _show_progress(done: float, total: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{done / max(total, 1e-9):4.0%} \r", end="", file=sys.stderr, flush=True)


def _read_point(path: str) -> PointFile:
    content = json_from(path)
    if not isinstance(content, dict) or content.get("format") != "ucurve-point/1":
        raise InputError(
            f"{path} is not a point file: create one with `ucurve explain ID -o point.json`"
        )
    return PointFile.model_validate(content)


def _print_comparison(point: PointFile, here: dict[str, float]) -> None:
    """Print the measured metrics beside the recorded ones."""
    from ucurve.analysis.reproducibility import TIME, difference
    from ucurve.cli.table_layout import show, table_of

    recorded: dict[str, float] = {}
    if point.recorded:
        recorded = decode_metrics(point.recorded.metrics, point.recorded.nonfinite)
        print(f"recorded  {point.recorded.device}: {_versions_text(point.recorded.versions)}")
    table = table_of("metric", "here", "recorded", "difference")
    worst, identical = 0.0, True
    for name, value in here.items():
        change = difference(recorded.get(name), value)
        if name not in recorded or TIME.search(name):
            text = ""
        elif change.states:
            text, identical = "one of them is not finite", False
        elif change.absolute == 0:
            text = "identical"
        else:
            relative = change.relative or float("inf")
            text = f"{change.absolute:.3g}, relative {exact(float(f'{relative:.3g}'))}"
            worst, identical = max(worst, change.relative or 0.0), False
        table.add_row(name, exact(value), exact(recorded[name]) if name in recorded else "", text)
    show(table)
    if recorded:
        print("bitwise identical" if identical else f"largest relative difference: {worst:.3g}")
