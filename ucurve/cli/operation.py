"""Commands for who operates a lab: back it up, restore it, examine it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ucurve.cli.arguments import BAD_INPUT, FAILED, Command, fail
from ucurve.formatting import counted, file_size
from ucurve.settings import settings


def commands(command: Command) -> None:
    parser = command(
        "backup",
        backup,
        "write the database and the artefacts of a lab to one file, while the lab runs",
        examples=(
            "ucurve backup ~/backups/lab-2026-11-29.tar",
            "ucurve backup /mnt/backups/lab.tar --artefacts all",
        ),
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file to create (readable by you)")
    _data_option(parser)
    parser.add_argument(
        "--artefacts",
        choices=("suites", "all", "none"),
        default="suites",
        help="suites: all that the lab cannot download or compute again; all: also the hub cache, "
        "fine-tuned weights and resume states; none: the database only (default: %(default)s)",
    )
    parser = command(
        "restore",
        restore,
        "make a lab of a backup in an empty data folder or an empty database",
        examples=("ucurve restore lab.tar --data ~/lab", "ucurve up --data ~/lab"),
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file written by `ucurve backup`")
    _data_option(parser)
    parser = command(
        "doctor",
        doctor,
        "check an installation, running or not; exit status 1 when there is a problem",
        examples=("ucurve doctor", "ucurve doctor --data ~/lab --json"),
    )
    _data_option(parser)
    parser.add_argument(
        "--dashboard-url",
        default="http://127.0.0.1:8501",
        metavar="URL",
        help="address of the dashboard (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _data_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        help="data folder of the lab (default: UCURVE_DATABASE_URL and UCURVE_ARTEFACTS if set, "
        "else ~/.ucurve)",
    )


def backup(args: argparse.Namespace) -> int:
    from ucurve.cli.tables import progress_bars
    from ucurve.lab.backup import write_backup
    from ucurve.lab.backup_file import BackupFileError
    from ucurve.lab.data_folder import EmbeddedError
    from ucurve.lab.installation import opened

    try:
        with opened(args.data) as lab, progress_bars() as progress:
            manifest, size = write_backup(lab, args.file, args.artefacts, progress)
    except (BackupFileError, EmbeddedError) as error:
        return fail(error, BAD_INPUT)
    rows = sum(entry.rows for entry in manifest.tables.values())
    artefacts = sum(name.startswith("artefacts/") for name in manifest.files)
    print(
        f"{args.file}: {file_size(size)}, {counted(rows, 'row')} of "
        f"{counted(len(manifest.tables), 'table')}, {counted(artefacts, 'artefact file')}"
    )
    for name in manifest.missing:
        print(f"warning: {name} is registered, but not in the artefact folder")
    for name in manifest.damaged:
        print(f"warning: the weights in {name} are not those that were registered")
    if manifest.outside:
        print(
            f"not in it: {counted(len(manifest.outside), 'path')} outside the artefact folder, "
            f"{manifest.outside[0]} and so on; back them up separately"
        )
    return 0


def restore(args: argparse.Namespace) -> int:
    from ucurve.cli.tables import progress_bars
    from ucurve.lab.backup_file import BackupFileError
    from ucurve.lab.data_folder import EmbeddedError
    from ucurve.lab.restore import restore_backup

    try:
        with progress_bars() as progress:
            manifest = restore_backup(args.file, args.data, progress)
    except (BackupFileError, EmbeddedError) as error:
        return fail(error, BAD_INPUT)
    rows = sum(entry.rows for entry in manifest.tables.values())
    print(
        f"restored {counted(rows, 'row')} of {manifest.created_at:%Y-%m-%d %H:%M} UTC; "
        "each table equals the original row for row"
    )
    if args.data:
        print(f"start it: ucurve up --data {args.data}")
    return 0


def doctor(args: argparse.Namespace) -> int:
    from ucurve.lab.doctor import examine
    from ucurve.lab.findings import surroundings

    lab = surroundings(args.data, args.url or settings().url, args.dashboard_url)
    findings = []
    for finding in examine(lab):
        findings.append(finding)
        if not args.json:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{finding.status:<8} {finding.check}: {finding.detail}{remedy}", flush=True)
    if args.json:
        print(json.dumps([finding.as_json() for finding in findings], indent=1))
    return FAILED if any(finding.status == "problem" for finding in findings) else 0
