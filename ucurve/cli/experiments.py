"""Commands that run experiments: plan, submit, extend, list, show, wait, cancel, pause, resume."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, get_args

from ucurve.analysis.verdict_order import more_draws
from ucurve.cli.arguments import (
    EXPERIMENT,
    FAILED,
    PRIORITY,
    Command,
    InputError,
    connect,
    json_from,
    positive,
)
from ucurve.client import Client
from ucurve.client.http import checked
from ucurve.formatting import counted, plan_summary, scope_title
from ucurve.schemas import experiments as schemas
from ucurve.schemas.search import ExperimentFilter, Order

SPEC = 'file with a spec, such as {"kind": "linear_model"}; - reads standard input'
WAIT = "show progress until the experiment has finished"


def commands(command: Command) -> None:
    _submission_commands(command)
    _list_command(command)
    _extend_command(command)
    for name, run, help in (
        ("show", show_experiment, "show an experiment and its state"),
        ("wait", wait, WAIT),
        ("cancel", control, "stop an experiment; finished evaluations are kept, retry resumes it"),
        ("pause", control, "pause an experiment"),
        ("resume", control, "continue a paused experiment"),
    ):
        parser = command(name, run, help, examples=(f"ucurve {name} 7",))
        parser.add_argument("id", type=int, help=EXPERIMENT)
        parser.set_defaults(action=name)


def _submission_commands(command: Command) -> None:
    parser = command(
        "plan",
        plan,
        "preview an experiment: evaluations, cached results, estimated time",
        examples=("ucurve plan spec.json", 'echo \'{"kind": "linear_model"}\' | ucurve plan -'),
    )
    parser.add_argument("spec", help=SPEC)
    parser = command(
        "submit",
        submit,
        "submit an experiment",
        examples=(
            'echo \'{"kind": "linear_model"}\' | ucurve submit - --wait',
            'ucurve submit spec.json --name "noise on tiny" --tag paper --tag noise',
        ),
    )
    parser.add_argument("spec", help=SPEC)
    parser.add_argument("--name", default="", help="name (default: made from the spec)")
    parser.add_argument("--tag", action="append", default=[], dest="tags", help="tag; repeatable")
    parser.add_argument("--notes", default="", help="notes in Markdown")
    parser.add_argument("--priority", type=int, default=0, help=PRIORITY)
    parser.add_argument(
        "--webhook", metavar="URL", help="URL to notify when it finishes or fails (signed requests)"
    )
    parser.add_argument(
        "--remeasure",
        "--fresh",
        dest="fresh",
        action="store_true",
        help="ignore cached results and compare with them afterwards, see `ucurve agreement`",
    )
    parser.add_argument("--wait", action="store_true", help=WAIT)


def _list_command(command: Command) -> None:
    parser = command(
        "list",
        list_experiments,
        "list experiments, newest first",
        examples=(
            "ucurve list pythia --state running --state queued",
            "ucurve list --tag paper --owner me --after 2026-11-01",
        ),
    )
    parser.add_argument("text", nargs="*", help="words in name, notes or tags")
    parser.add_argument("--limit", type=positive, default=30, help="experiments per page")
    parser.add_argument("--page", type=positive, default=1, help="page number")
    parser.add_argument(
        "--state",
        action="append",
        choices=get_args(schemas.ExperimentState),
        help="only these states; repeatable",
    )
    for name, help in (
        ("tag", "only experiments with all of these tags; repeatable"),
        ("kind", "only these experiment types; repeatable"),
        ("suite", "only these suites; repeatable"),
        ("owner", "only these owners, 'me' for yourself; repeatable"),
    ):
        parser.add_argument(f"--{name}", action="append", help=help)
    parser.add_argument(
        "--after",
        dest="created_after",
        metavar="DATE",
        help="submitted on or after this day, such as 2026-11-01",
    )
    parser.add_argument(
        "--before", dest="created_before", metavar="DATE", help="submitted before this day"
    )
    parser.set_defaults(fields={"offset": "--page"})
    parser.add_argument("--starred", action="store_true", help="only experiments you starred")
    parser.add_argument(
        "--archived", choices=("also", "only"), help="include archived experiments, or only those"
    )
    parser.add_argument(
        "--sort", choices=get_args(Order), default="newest", help="order (default: %(default)s)"
    )


def _extend_command(command: Command) -> None:
    parser = command(
        "extend",
        extend,
        "submit an experiment again with more seeds or other values; cached results are reused",
        examples=("ucurve extend 7 --draws 8 --wait", "ucurve extend 7 --set gammas=[0.1,0.2,0.4]"),
    )
    parser.add_argument("id", type=int, help=EXPERIMENT)
    parser.add_argument(
        "--draws",
        type=positive,
        metavar="N",
        help="number of seeds to add (default: fewest that resolve a verdict)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=JSON",
        help="new value of a field; repeatable",
    )
    parser.set_defaults(fields={"changes": "--set"})
    parser.add_argument("--wait", action="store_true", help=WAIT)


def read_submission(path: str) -> dict[str, Any]:
    """Return a submission from a file or "-"; a bare spec is accepted too."""
    content = json_from(path)
    if isinstance(content, dict):
        if isinstance(content.get("spec"), dict):
            return content
        if "kind" in content:
            return {"spec": content}
    source = "standard input" if path == "-" else path
    raise InputError(f'{source} contains no spec: it must look like {{"kind": "linear_model"}}')


def plan(args: argparse.Namespace) -> None:
    submission = checked(schemas.Submission, read_submission(args.spec))
    preview = connect(args).plan(submission.spec)
    print(f"{counted(preview.num_points, 'evaluation')}: {plan_summary(preview)}")
    print_messages(preview.waits_for, preview.warnings, preview.notes)


def print_messages(waits_for: str | None, warnings: Sequence[str], notes: Sequence[str]) -> None:
    """Print what a plan says: the same before and after the submission."""
    for message in filter(None, [waits_for, *warnings, *notes]):
        print(message)


def submit(args: argparse.Namespace) -> int:
    fields = read_submission(args.spec)
    fields["tags"] = [*fields.get("tags", []), *args.tags]
    options = ("name", "notes", "priority", "fresh", "webhook")
    fields |= {name: value for name in options if (value := getattr(args, name))}
    submission = checked(schemas.Submission, fields).model_dump()
    submission["remeasure"] = submission.pop("fresh")
    client = connect(args)
    return report_submission(client, client.submit(**submission), args.wait)


def extend(args: argparse.Namespace) -> int:
    client = connect(args)
    draws = args.draws
    changes = dict(field_change(text) for text in args.set)
    if draws is None and not changes:
        open_verdicts = {
            num: verdict
            for verdict in reversed(client.verdicts(args.id))
            if (num := more_draws(verdict))
        }
        if not open_verdicts:
            raise InputError(
                f"more seeds would resolve no verdict of experiment {args.id}; use --draws N"
            )
        draws = min(open_verdicts)
        verdict = open_verdicts[draws]
        seeds = "seed" if draws == 1 else "seeds"
        print(f"{draws} more {seeds} could resolve: {verdict.claim} ({scope_title(verdict.scope)})")
    return report_submission(client, client.extend(args.id, draws, changes), args.wait)


def field_change(text: str) -> tuple[str, Any]:
    """Parse FIELD=JSON; a value that is not JSON is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text}: use FIELD=JSON, such as gammas=[0.1,0.2,0.4]")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def report_submission(client: Client, experiment: schemas.Experiment, follow: bool) -> int:
    """Print a new experiment's id and size, then follow it if requested."""
    counts = experiment.progress
    cached = f", {counts.reused:,} cached" if counts.reused else ""
    size = counted(counts.total, "evaluation")
    print(f"experiment {experiment.id} ({experiment.name}): {size}{cached}")
    print_messages(experiment.waits_for, experiment.warnings, experiment.plan_notes)
    return follow_progress(client, experiment.id) if follow else 0


def wait(args: argparse.Namespace) -> int:
    return follow_progress(connect(args), args.id)


def follow_progress(client: Client, id: int) -> int:
    """Show progress until the experiment has finished; return the exit status."""
    from ucurve.cli.tables import progress_bar

    try:
        with progress_bar() as show:
            experiment = client.wait(id, show)
    except KeyboardInterrupt:
        print(
            f"the experiment continues: `ucurve wait {id}` shows its progress, "
            f"`ucurve cancel {id}` stops it",
            file=sys.stderr,
        )
        raise
    counts = experiment.progress
    print(
        f"experiment {id} is {experiment.state}: {counts.done:,} of "
        f"{counted(counts.total, 'evaluation')}, {counts.failed:,} failed"
    )
    return 0 if experiment.state == "done" else FAILED


def list_experiments(args: argparse.Namespace) -> None:
    from ucurve.cli.table_layout import show
    from ucurve.cli.tables import experiments_table

    filters = {
        name: value for name in ExperimentFilter.model_fields if (value := getattr(args, name))
    }
    filters["text"] = " ".join(args.text)
    page = connect(args).experiments(
        limit=args.limit, offset=args.limit * (args.page - 1), sort=args.sort, **filters
    )
    show(experiments_table(page.experiments))
    if page.total > len(page.experiments):
        print(f"{len(page.experiments)} of {page.total:,}; use --limit and --page to see more")


def show_experiment(args: argparse.Namespace) -> None:
    from ucurve.cli.tables import experiment_text

    client = connect(args)
    experiment = client.experiment(args.id)
    rows = client.rows(args.id) if experiment.progress.failed else []
    print(experiment_text(experiment, [row for row in rows if row.state == "failed"]))


def control(args: argparse.Namespace) -> None:
    experiment = getattr(connect(args), args.action)(args.id)
    print(f"experiment {experiment.id} is {experiment.state}")
