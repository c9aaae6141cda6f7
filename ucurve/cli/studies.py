"""Commands about studies: several experiments that answer one question together."""

from __future__ import annotations

import argparse
import time

from ucurve.cli.arguments import Command, InputError, connect, json_from, print_verdicts
from ucurve.cli.experiments import follow_progress, report_submission
from ucurve.client import Client
from ucurve.client.http import checked
from ucurve.experiments.study import Study

POLL_SECONDS = 2.0


def commands(command: Command) -> None:
    studies = command(
        "study", None, "run studies: several experiments with combined verdicts"
    ).add_subparsers(required=True, metavar="COMMAND")
    command("list", list_studies, "list the built-in studies", studies)
    parser = command(
        "submit",
        submit,
        "submit all experiments of a study; cached results are reused",
        studies,
        examples=("ucurve study submit tiny --wait", "ucurve study submit my-study.json"),
    )
    parser.add_argument(
        "study", help="name of a built-in study, or a file with one; - reads standard input"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="show progress until all have finished, then the combined verdicts",
    )
    parser = command(
        "verdicts",
        verdicts,
        "show the combined verdicts of several experiments",
        studies,
        examples=("ucurve study verdicts 1 2 3",),
    )
    parser.add_argument("id", type=int, nargs="+", help="experiment ids")
    parser.add_argument("--all", action="store_true", help="also list per-setting verdicts")


def list_studies(args: argparse.Namespace) -> None:
    for study in connect(args).studies():
        print(f"{study.name}: {study.title}")
        for submission in study.experiments:
            print(f"  {submission.name}")


def submit(args: argparse.Namespace) -> int:
    client = connect(args)
    study = _study(client, args.study)
    _register_missing(client, study)
    experiments = client.submit_study(study)
    for experiment in experiments:
        report_submission(client, experiment, follow=False)
    if not args.wait:
        return 0
    status = max(follow_progress(client, experiment.id) for experiment in experiments)
    print_verdicts(client.study_verdicts([experiment.id for experiment in experiments]))
    ids = " ".join(str(experiment.id) for experiment in experiments)
    print(f"\nwrite a report with `ucurve report {ids} -o report.html`")
    return status


def _study(client: Client, name: str) -> Study:
    """Return a built-in study by name, or the one in a file."""
    builtin = {study.name: study for study in client.studies()}
    if name in builtin:
        return builtin[name]
    if not ("." in name or "/" in name or name == "-"):
        raise InputError(f"no study {name!r}: use {' or '.join(builtin)}, or a file")
    return checked(Study, json_from(name))


def _register_missing(client: Client, study: Study) -> None:
    """Register suites and datasets of the study, and wait until they can be used."""
    reported = ""
    while pending := client.prepare(study):
        if pending != reported:
            print(f"waiting: {pending}", flush=True)
        reported = pending
        time.sleep(POLL_SECONDS)


def verdicts(args: argparse.Namespace) -> None:
    print_verdicts(connect(args).study_verdicts(args.id), args.all)
