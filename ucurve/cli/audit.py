"""The command that shows and exports the audit trail."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ucurve.cli.arguments import Command, InputError, connect, positive, write
from ucurve.csv_cells import plain_row
from ucurve.schemas.audit import AuditFilter, AuditRecord


def commands(command: Command) -> None:
    parser = command(
        "audit",
        show_audit,
        "show who changed what, newest first (admins only)",
        examples=(
            "ucurve audit --user ada --since 2026-11-01",
            "ucurve audit --object 'experiment 7'",
            "ucurve audit -o audit.csv",
        ),
    )
    parser.add_argument("--user", help="only changes by this user")
    parser.add_argument("--action", help="only this action, such as: cancel")
    parser.add_argument("--object", help="only changes of this object, such as: experiment 7")
    for name, meaning in (("since", "at this time or later"), ("until", "before this time")):
        parser.add_argument(
            f"--{name}", type=_time, help=f"only changes {meaning}, such as: 2026-11-01T12:00"
        )
    parser.add_argument(
        "--limit", type=positive, help="maximum number of records (default: 50, all in a file)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, help="write to this file: .csv, or .jsonl for JSON lines"
    )


def show_audit(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import audit_table

    filters = {name: getattr(args, name) for name in AuditFilter.model_fields}
    if args.output and args.output.suffix not in (".csv", ".jsonl"):
        raise InputError(f"cannot write {args.output}: name a file that ends in .csv or .jsonl")
    limit = args.limit or (None if args.output else 50)
    size = min(limit or 1000, 1000)
    records = itertools.islice(connect(args).audit_records(size, **filters), limit)
    if args.output is None:
        show(audit_table(list(records)))
    elif args.output.suffix == ".csv":
        write(args.output, _csv(records).encode())
    else:
        write(args.output, "".join(f"{r.model_dump_json()}\n" for r in records).encode())


def _csv(records: Iterable[AuditRecord]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(AuditRecord.model_fields)
    for record in records:
        values = record.model_dump(mode="json")
        cells = [json.dumps(v) if isinstance(v, dict) else v for v in values.values()]
        writer.writerow(plain_row(cells))
    return out.getvalue()


def _time(text: str) -> datetime:
    """Parse a time; without a zone it is that of this machine."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time: use 2026-11-01 or 2026-11-01T12:00"
        ) from None
