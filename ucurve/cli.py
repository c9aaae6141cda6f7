"""The command line: `ucurve up` starts a lab, the other commands speak with one over its REST API.

    echo '{"kind": "linear_model"}' | ucurve submit - --wait
    ucurve figures 1 -o figures --format pdf

Exit status: 0 done, 1 failed, 2 bad input (one line says which field and what to do).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ucurve import __version__, records
from ucurve.client import Client, ClientError, RefusedError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


class InputError(ValueError):
    """What was typed cannot be used; the message names the remedy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers the exit status."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given) or 0)
    except InputError as error:
        return _fail(error, BAD_INPUT)
    except ValidationError as error:
        return _fail("\n".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()), BAD_INPUT)
    except RefusedError as error:
        return _fail(error, BAD_INPUT if error.status in (400, 404, 413, 422) else FAILED)
    except (ClientError, TimeoutError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `ucurve table 1 | head`
        sys.stderr.close()
        return FAILED


def _fail(message: object, status: int) -> int:
    print(f"ucurve: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("ucurve", description="Does pre-training longer make a model more fragile?")
    parser.add_argument("--url", help="address of the lab's API (default: UCURVE_URL, or http://127.0.0.1:8000)")
    parser.add_argument("--token", help="access token (default: UCURVE_TOKEN)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, within: Any = commands) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = within.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        return made

    up = command("up", _up, "start a lab on this machine; Ctrl-C stops it")
    up.add_argument("--data", type=Path, default=Path("~/.ucurve"), help="folder of everything it keeps (%(default)s)")
    up.add_argument("--port", type=_port, default=8000, help="of the API (%(default)s)")
    up.add_argument("--dashboard-port", type=_port, default=8501, help="of the dashboard (%(default)s)")
    up.add_argument("--workers", type=_count, help="measuring processes (default: one per GPU, or 2)")
    up.add_argument("--no-demo", action="store_true", help="submit no demo experiment on the first start")
    up.add_argument("--open", action="store_true", help="open the dashboard in a browser")

    for name, run, help in (
        ("plan", _plan, "what a spec would measure, without submitting it"),
        ("submit", _submit, "submit an experiment"),
    ):
        made = command(name, run, help)
        made.add_argument("spec", help='file with a spec, such as {"kind": "linear_model"}; - reads standard input')
    made.add_argument("--name", default="")
    made.add_argument("--tag", action="append", default=[], help="may be given several times")
    made.add_argument("--notes", default="")
    made.add_argument("--priority", type=int, default=0, help="-10 to 10; higher is measured first")
    made.add_argument("--wait", action="store_true", help="show progress until it has ended")

    listing = command("list", _list, "experiments, newest first")
    listing.add_argument("--limit", type=_count, default=30)
    listing.add_argument("--state", choices=("queued", "running", "paused", "done", "failed", "cancelled"))
    on_one = {
        "show": (_show, "an experiment and its state"),
        "wait": (_wait, "show progress until it has ended"),
        "verdicts": (_verdicts, "what the data supports, claim by claim"),
        "table": (_table, "all measurements"),
        "figures": (_figures, "write the figures to files"),
        "cancel": (_act, "stop it for good; what was measured stays"),
        "pause": (_act, "let it rest"),
        "resume": (_act, "go on after a pause"),
        "retry": (_act, "measure the failed points once more"),
    }
    made_for = {name: command(name, run, help) for name, (run, help) in on_one.items()}
    for name, made in made_for.items():
        made.add_argument("id", type=int, help="the experiment's number, see `ucurve list`")
        made.set_defaults(verb=name)
    made_for["table"].add_argument("--format", choices=("csv", "json"), default="csv")
    made_for["figures"].add_argument("-o", "--output", type=Path, default=Path("."), metavar="DIR")
    made_for["figures"].add_argument("--format", choices=("svg", "png", "pdf", "csv"), default="svg")

    suites = command("suites", None, "models at many checkpoints").add_subparsers(required=True, metavar="COMMAND")
    command("list", _suites, "all suites", suites)
    add = command("add", _add_suite, "register a suite", suites)
    add.add_argument("name")
    source = add.add_mutually_exclusive_group(required=True)
    source.add_argument("--path", type=Path, help="folder with one sub-folder per revision")
    source.add_argument("--hub", metavar="OWNER/NAME", help="hub repository whose refs are listed")
    add.add_argument("--evaluation", help="evaluation set used when an experiment names none")

    datasets = command("datasets", None, "evaluation sets").add_subparsers(required=True, metavar="COMMAND")
    command("list", _datasets, "all evaluation sets", datasets)
    add = command("add", _add_dataset, "register an evaluation set", datasets)
    add.add_argument("name")
    source = add.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, help="UTF-8 text file")
    source.add_argument("--train", type=Path, help="examples to fine-tune on: .tsv with a header, or .jsonl; with --validation")
    source.add_argument("--preset", choices=("wikitext-2", "sst2"), help="known set of the hub")
    add.add_argument("--validation", type=Path, help="examples to validate on")

    command("workers", _workers, "measuring processes")
    command("version", lambda given: print(f"ucurve {__version__}"), "this program's version")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _client(given: argparse.Namespace) -> Client:
    return Client(given.url, given.token)


def _up(given: argparse.Namespace) -> int:
    from ucurve.data_folder import EmbeddedError
    from ucurve.up import Up

    up = Up(given.data, given.port, given.dashboard_port, given.workers, not given.no_demo, given.open)
    try:
        return up.run()
    except EmbeddedError as error:
        return _fail(error, BAD_INPUT)
    except RuntimeError as error:
        return _fail(error, FAILED)


def _read(path: str) -> dict[str, Any]:
    """A submission from a file or "-"; a bare spec is one too."""
    where = "standard input" if path == "-" else path
    try:
        found = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {where}: {getattr(error, 'strerror', None) or error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(found, dict) or not ("kind" in found or isinstance(found.get("spec"), dict)):
        raise InputError(f'{where} holds no spec: it looks like {{"kind": "linear_model"}}')
    return found if "spec" in found else {"spec": found}


def _plan(given: argparse.Namespace) -> None:
    preview = _client(given).plan(_read(given.spec)["spec"])
    seconds = "unknown time" if preview.estimated_seconds is None else f"about {preview.estimated_seconds:.0f} s"
    print(f"{preview.num_points} points: {preview.num_existing} exist, {preview.num_new} are new ({seconds})")
    for remark in filter(None, [preview.waits_for, *preview.warnings]):
        print(remark)


def _submit(given: argparse.Namespace) -> int:
    sent = _read(given.spec)
    sent["tags"] = [*sent.get("tags", []), *given.tag]
    sent |= {key: value for key in ("name", "notes", "priority") if (value := getattr(given, key))}
    submission = records.Submission.model_validate(sent)
    client = _client(given)
    experiment = client.submit(**submission.model_dump())
    print(f"experiment {experiment.id} ({experiment.name}): {experiment.progress.total} points")
    return _finished(client, experiment.id) if given.wait else 0


def _wait(given: argparse.Namespace) -> int:
    return _finished(_client(given), given.id)


def _finished(client: Client, id: int) -> int:
    from ucurve.terminal import progress_bar

    try:
        with progress_bar() as show:
            experiment = client.wait(id, show)
    except KeyboardInterrupt:
        print(f"the experiment goes on: ucurve wait {id} shows it again, ucurve cancel {id} stops it", file=sys.stderr)
        raise
    counts = experiment.progress
    print(f"experiment {id} is {experiment.state}: {counts.done} of {counts.total} points, {counts.failed} failed")
    return 0 if experiment.state == "done" else FAILED


def _list(given: argparse.Namespace) -> None:
    from ucurve.terminal import experiments_table, show

    page = _client(given).experiments(limit=given.limit, **({"state": given.state} if given.state else {}))
    show(experiments_table(page.experiments))
    if page.total > len(page.experiments):
        print(f"{len(page.experiments)} of {page.total}; --limit shows more")


def _show(given: argparse.Namespace) -> None:
    from ucurve.terminal import experiment_text

    client = _client(given)
    experiment = client.experiment(given.id)
    failed = [row for row in client.rows(given.id) if row.state == "failed"] if experiment.progress.failed else []
    print(experiment_text(experiment, failed))


def _verdicts(given: argparse.Namespace) -> None:
    for verdict in _client(given).verdicts(given.id):
        scope = f" ({verdict.scope})" if verdict.scope else ""
        print(f"{verdict.claim}{scope}\n  {verdict.sentence}")


def _table(given: argparse.Namespace) -> None:
    client = _client(given)
    if given.format == "csv":
        sys.stdout.write(client.csv(given.id))
    else:
        json.dump([row.model_dump(mode="json") for row in client.rows(given.id)], sys.stdout, indent=1)
        print()


def _figures(given: argparse.Namespace) -> int:
    from ucurve.figure_files import figure_file

    figures = _client(given).figures(given.id)
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            path = given.output / f"{name}.{given.format}"
            path.write_bytes(figure_file(figure, given.format))
            print(path)
    except OSError as error:
        raise InputError(f"cannot write to {given.output}: {error.strerror}; choose another folder with -o") from error
    return 0


def _act(given: argparse.Namespace) -> None:
    experiment = getattr(_client(given), given.verb)(given.id)
    print(f"experiment {experiment.id} is {experiment.state}")


def _suites(given: argparse.Namespace) -> None:
    from ucurve.terminal import show, suites_table

    show(suites_table(_client(given).suites()))


def _add_suite(given: argparse.Namespace) -> None:
    path = str(given.path.expanduser().resolve()) if given.path else None
    suite = _client(given).add_suite(given.name, path, given.hub, evaluation=given.evaluation)
    print(f"suite {suite.name}: {len(suite.checkpoints)} checkpoints")
    for warning in suite.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _datasets(given: argparse.Namespace) -> None:
    from ucurve.terminal import datasets_table, show

    show(datasets_table(_client(given).datasets()))


def _add_dataset(given: argparse.Namespace) -> None:
    if (given.train is None) != (given.validation is None):
        raise InputError("examples are two files: give --train and --validation")
    text, train, validation = (path and str(path.expanduser().resolve()) for path in (given.text, given.train, given.validation))
    dataset = _client(given).add_dataset(given.name, text, given.preset, train=train, validation=validation)
    print(f"evaluation set {dataset.name}: {dataset.unresolved or dataset.sha256}")


def _workers(given: argparse.Namespace) -> None:
    from ucurve.terminal import show, workers_table

    show(workers_table(_client(given).workers()))


if __name__ == "__main__":
    sys.exit(main())
