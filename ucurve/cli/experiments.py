"""Commands about experiments: plan, submit, extend, list, wait, pause, resume, cancel, retry."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, get_args

from ucurve.analysis.verdict_order import more_draws
from ucurve.cli.arguments import (
    EXPERIMENT,
    FAILED,
    Command,
    InputError,
    client,
    count,
    json_from,
)
from ucurve.client import Client
from ucurve.client.http import checked
from ucurve.formatting import counted, plan_summary
from ucurve.schemas import experiments as schemas
from ucurve.schemas.search import ExperimentFilter, Order


def commands(command: Command) -> None:
    for name, run, help in (
        ("plan", plan, "what a spec would measure, without submitting it"),
        ("submit", submit, "submit an experiment"),
    ):
        made = command(name, run, help)
        made.add_argument(
            "spec",
            help='file with a spec, such as {"kind": "linear_model"}; - reads standard input',
        )
    made.add_argument("--name", default="")
    made.add_argument("--tag", action="append", default=[], help="may be given several times")
    made.add_argument("--notes", default="")
    made.add_argument("--priority", type=int, default=0, help="-10 to 10; higher is measured first")
    made.add_argument(
        "--webhook", metavar="URL", help="address that is told when it is done or failed, signed"
    )
    made.add_argument(
        "--fresh",
        action="store_true",
        help="measure again what exists, and compare: ucurve agreement",
    )
    made.add_argument("--wait", action="store_true", help="show progress until it has ended")

    listing = command(
        "list",
        list_experiments,
        "experiments, newest first; values of one filter are alternatives, but for --tag",
    )
    listing.add_argument("text", nargs="*", help="words in name, notes or tags")
    listing.add_argument("--limit", type=count, default=30)
    listing.add_argument("--page", type=count, default=1)
    listing.add_argument("--state", action="append", choices=get_args(schemas.ExperimentState))
    for name, help in (
        ("tag", "all of these"),
        ("kind", ""),
        ("suite", ""),
        ("owner", 'a name; "me" is you'),
    ):
        listing.add_argument(f"--{name}", action="append", help=help or None)
    listing.add_argument(
        "--after",
        dest="created_after",
        metavar="DATE",
        help="submitted on this day or later: 2026-11-01",
    )
    listing.add_argument(
        "--before", dest="created_before", metavar="DATE", help="submitted before this day"
    )
    listing.add_argument("--starred", action="store_true", help="only those that you starred")
    listing.add_argument(
        "--archived", choices=("also", "only"), help="archived ones are left out otherwise"
    )
    listing.add_argument("--sort", choices=get_args(Order), default="newest")
    on_one: dict[str, tuple[Any, str]] = {
        "show": (show_one, "an experiment and its state"),
        "wait": (wait, "show progress until it has ended"),
        "extend": (
            extend,
            "submit it with more draws (as many as settle an open verdict, or --draws) or values (--set)",
        ),
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
            made.add_argument(
                "--draws",
                type=count,
                metavar="N",
                help="so many more (default: the fewest that settle something)",
            )
            made.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="FIELD=JSON",
                help="other values of a field: gammas=[0.1,0.2,0.4]",
            )
            made.add_argument(
                "--wait", action="store_true", help="show progress until it has ended"
            )


def read(path: str) -> dict[str, Any]:
    """A submission from a file or "-"; a bare spec is one too."""
    found = json_from(path)
    if not isinstance(found, dict) or not ("kind" in found or isinstance(found.get("spec"), dict)):
        where = "standard input" if path == "-" else path
        raise InputError(f'{where} holds no spec: it looks like {{"kind": "linear_model"}}')
    return found if "spec" in found else {"spec": found}


def plan(given: argparse.Namespace) -> None:
    preview = client(given).plan(checked(schemas.Submission, read(given.spec)).spec)
    print(f"{counted(preview.num_points, 'point')}: {plan_summary(preview)}")
    for remark in filter(None, [preview.waits_for, *preview.warnings]):
        print(remark)


def submit(given: argparse.Namespace) -> int:
    sent = read(given.spec)
    sent["tags"] = [*sent.get("tags", []), *given.tag]
    sent |= {
        key: value
        for key in ("name", "notes", "priority", "fresh", "webhook")
        if (value := getattr(given, key))
    }
    submission = checked(schemas.Submission, sent)
    lab = client(given)
    fields = submission.model_dump()
    fields["remeasure"] = fields.pop("fresh")
    return said(lab, lab.submit(**fields), given.wait)


def extend(given: argparse.Namespace) -> int:
    lab = client(given)
    draws = given.draws
    changes = dict(changed(text) for text in given.set)
    if draws is None and not changes:
        open_verdicts = {
            num: verdict
            for verdict in reversed(lab.verdicts(given.id))
            if (num := more_draws(verdict))
        }
        if not open_verdicts:
            raise InputError(
                f"no verdict of experiment {given.id} says that more draws would settle it; give --draws"
            )
        draws = min(open_verdicts)
        found = open_verdicts[draws]
        print(f"{draws} more draws would settle: {found.claim} ({found.scope})")
    return said(lab, lab.extend(given.id, draws, changes), given.wait)


def changed(text: str) -> tuple[str, Any]:
    """FIELD=JSON; what is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text}: write FIELD=JSON, such as gammas=[0.1,0.2,0.4]")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def said(lab: Client, experiment: schemas.Experiment, wait: bool) -> int:
    """Tell of a new experiment, and follow it if asked to."""
    reused = (
        f", {experiment.progress.reused} of them measured before"
        if experiment.progress.reused
        else ""
    )
    print(
        f"experiment {experiment.id} ({experiment.name}): {experiment.progress.total} points{reused}"
    )
    return finished(lab, experiment.id) if wait else 0


def wait(given: argparse.Namespace) -> int:
    return finished(client(given), given.id)


def finished(lab: Client, id: int) -> int:
    """Show progress until it has ended."""
    from ucurve.cli.tables import progress_bar

    try:
        with progress_bar() as show:
            experiment = lab.wait(id, show)
    except KeyboardInterrupt:
        print(
            f"the experiment goes on: ucurve wait {id} shows it again, ucurve cancel {id} stops it",
            file=sys.stderr,
        )
        raise
    counts = experiment.progress
    print(
        f"experiment {id} is {experiment.state}: {counts.done} of {counts.total} points, {counts.failed} failed"
    )
    return 0 if experiment.state == "done" else FAILED


def list_experiments(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import experiments_table, show

    filters = {
        name: value for name in ExperimentFilter.model_fields if (value := getattr(given, name))
    }
    filters["text"] = " ".join(given.text)
    page = client(given).experiments(
        limit=given.limit, offset=given.limit * (given.page - 1), sort=given.sort, **filters
    )
    show(experiments_table(page.experiments))
    if page.total > len(page.experiments):
        print(f"{len(page.experiments)} of {page.total}; --limit and --page show more")


def show_one(given: argparse.Namespace) -> None:
    from ucurve.cli.tables import experiment_text

    lab = client(given)
    experiment = lab.experiment(given.id)
    failed = (
        [row for row in lab.rows(given.id) if row.state == "failed"]
        if experiment.progress.failed
        else []
    )
    print(experiment_text(experiment, failed))


def act(given: argparse.Namespace) -> None:
    experiment = getattr(client(given), given.verb)(given.id)
    print(f"experiment {experiment.id} is {experiment.state}")
