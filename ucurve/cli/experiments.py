"""Commands about experiments: plan, submit, extend, list, wait, pause, resume, cancel, retry."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ucurve import records
from ucurve.cli.typed import EXPERIMENT, FAILED, Command, InputError, client, count, json_from
from ucurve.client import Client
from ucurve.rest.wire import checked
from ucurve.spec import more_draws


def commands(command: Command) -> None:
    for name, run, help in (
        ("plan", plan, "what a spec would measure, without submitting it"),
        ("submit", submit, "submit an experiment"),
    ):
        made = command(name, run, help)
        made.add_argument("spec", help='file with a spec, such as {"kind": "linear_model"}; - reads standard input')
    made.add_argument("--name", default="")
    made.add_argument("--tag", action="append", default=[], help="may be given several times")
    made.add_argument("--notes", default="")
    made.add_argument("--priority", type=int, default=0, help="-10 to 10; higher is measured first")
    made.add_argument("--wait", action="store_true", help="show progress until it has ended")

    listing = command("list", list_experiments, "experiments, newest first")
    listing.add_argument("--limit", type=count, default=30)
    listing.add_argument("--state", choices=("queued", "running", "paused", "done", "failed", "cancelled"))
    listing.add_argument("--tag", help="only those with this tag")
    on_one: dict[str, tuple[Any, str]] = {
        "show": (show_one, "an experiment and its state"),
        "wait": (wait, "show progress until it has ended"),
        "extend": (extend, "submit it with more draws or seeds: as many as settle an open verdict, or --draws"),
        "cancel": (act, "stop it for good; what was measured stays"),
        "pause": (act, "let it rest"),
        "resume": (act, "go on after a pause"),
        "retry": (act, "measure the failed points once more"),
    }
    for name, (run, help) in on_one.items():
        made = command(name, run, help)
        made.add_argument("id", type=int, help=EXPERIMENT)
        made.set_defaults(verb=name)
        if name == "extend":
            made.add_argument("--draws", type=count, metavar="N", help="so many more (default: the fewest that settle something)")
            made.add_argument("--wait", action="store_true", help="show progress until it has ended")


def read(path: str) -> dict[str, Any]:
    """A submission from a file or "-"; a bare spec is one too."""
    found = json_from(path)
    if not isinstance(found, dict) or not ("kind" in found or isinstance(found.get("spec"), dict)):
        where = "standard input" if path == "-" else path
        raise InputError(f'{where} holds no spec: it looks like {{"kind": "linear_model"}}')
    return found if "spec" in found else {"spec": found}


def plan(given: argparse.Namespace) -> None:
    preview = client(given).plan(checked(records.Submission, read(given.spec)).spec)
    seconds = "unknown time" if preview.estimated_seconds is None else f"about {preview.estimated_seconds:.0f} s"
    print(f"{preview.num_points} points: {preview.num_existing} exist, {preview.num_new} are new ({seconds})")
    for remark in filter(None, [preview.waits_for, *preview.warnings]):
        print(remark)


def submit(given: argparse.Namespace) -> int:
    sent = read(given.spec)
    sent["tags"] = [*sent.get("tags", []), *given.tag]
    sent |= {key: value for key in ("name", "notes", "priority") if (value := getattr(given, key))}
    submission = checked(records.Submission, sent)
    lab = client(given)
    return said(lab, lab.submit(**submission.model_dump()), given.wait)


def extend(given: argparse.Namespace) -> int:
    lab = client(given)
    draws = given.draws
    if draws is None:
        open_verdicts = {num: verdict for verdict in reversed(lab.verdicts(given.id)) if (num := more_draws(verdict))}
        if not open_verdicts:
            raise InputError(f"no verdict of experiment {given.id} says that more draws would settle it; give --draws")
        draws = min(open_verdicts)
        found = open_verdicts[draws]
        print(f"{draws} more draws would settle: {found.claim} ({found.scope})")
    return said(lab, lab.extend(given.id, draws), given.wait)


def said(lab: Client, experiment: records.Experiment, wait: bool) -> int:
    """Tell of a new experiment, and follow it if asked to."""
    reused = f", {experiment.progress.reused} of them measured before" if experiment.progress.reused else ""
    print(f"experiment {experiment.id} ({experiment.name}): {experiment.progress.total} points{reused}")
    return finished(lab, experiment.id) if wait else 0


def wait(given: argparse.Namespace) -> int:
    return finished(client(given), given.id)


def finished(lab: Client, id: int) -> int:
    """Show progress until it has ended."""
    from ucurve.terminal import progress_bar

    try:
        with progress_bar() as show:
            experiment = lab.wait(id, show)
    except KeyboardInterrupt:
        print(f"the experiment goes on: ucurve wait {id} shows it again, ucurve cancel {id} stops it", file=sys.stderr)
        raise
    counts = experiment.progress
    print(f"experiment {id} is {experiment.state}: {counts.done} of {counts.total} points, {counts.failed} failed")
    return 0 if experiment.state == "done" else FAILED


def list_experiments(given: argparse.Namespace) -> None:
    from ucurve.terminal import experiments_table, show

    filters = {name: value for name in ("state", "tag") if (value := getattr(given, name))}
    page = client(given).experiments(limit=given.limit, **filters)
    show(experiments_table(page.experiments))
    if page.total > len(page.experiments):
        print(f"{len(page.experiments)} of {page.total}; --limit shows more")


def show_one(given: argparse.Namespace) -> None:
    from ucurve.terminal import experiment_text

    lab = client(given)
    experiment = lab.experiment(given.id)
    failed = [row for row in lab.rows(given.id) if row.state == "failed"] if experiment.progress.failed else []
    print(experiment_text(experiment, failed))


def act(given: argparse.Namespace) -> None:
    experiment = getattr(client(given), given.verb)(given.id)
    print(f"experiment {experiment.id} is {experiment.state}")
