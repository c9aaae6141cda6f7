"""Commands about studies: several experiments that answer one question together."""

from __future__ import annotations

import argparse
import time

from ucurve.cli.arguments import Command, InputError, client, json_from, tell
from ucurve.cli.experiments import finished, said
from ucurve.client.http import checked
from ucurve.experiments.study import Study


def commands(command: Command) -> None:
    studies = command("study", None, "experiments that belong together").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command("list", list_studies, "the studies that come with this lab", studies)
    made = command(
        "submit", submit, "submit all experiments of a study; what exists is reused", studies
    )
    made.add_argument(
        "study",
        help="the name of one that comes with the lab, or a file with one; - reads standard input",
    )
    made.add_argument(
        "--wait",
        action="store_true",
        help="show progress until all have ended, then what they say together",
    )
    made = command("verdicts", verdicts, "what experiments say together", studies)
    made.add_argument("id", type=int, nargs="+", help="the experiments' numbers")
    made.add_argument("--all", action="store_true", help="condition by condition, too")


def list_studies(given: argparse.Namespace) -> None:
    for study in client(given).studies():
        print(f"{study.name}: {study.title}")
        for submission in study.experiments:
            print(f"  {submission.name}")


def submit(given: argparse.Namespace) -> int:
    lab = client(given)
    known = {study.name: study for study in lab.studies()}
    if given.study not in known and not (
        "." in given.study or "/" in given.study or given.study == "-"
    ):
        raise InputError(f"there is no study {given.study!r}: take {' or '.join(known)}, or a file")
    study = known.get(given.study) or checked(Study, json_from(given.study))
    told = ""
    while pending := lab.prepare(study):
        if pending != told:
            print(f"waiting: {pending}", flush=True)
        told = pending
        time.sleep(2)
    experiments = lab.submit_study(study)
    for experiment in experiments:
        said(lab, experiment, wait=False)
    if not given.wait:
        return 0
    status = max(finished(lab, experiment.id) for experiment in experiments)
    tell(lab.study_verdicts([experiment.id for experiment in experiments]))
    numbers = " ".join(str(experiment.id) for experiment in experiments)
    print(f"\nucurve report {numbers} -o report.html writes all of it into one file")
    return status


def verdicts(given: argparse.Namespace) -> None:
    tell(client(given).study_verdicts(given.id), given.all)
