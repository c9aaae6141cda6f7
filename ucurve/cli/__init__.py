"""The command line: `ucurve up` starts a lab, the other commands talk to one over its REST API.

    echo '{"kind": "linear_model"}' | ucurve submit - --wait
    ucurve figures 1 -o figures --format pdf
    ucurve study submit tiny --wait

Exit status: 0 success, 1 failure, 2 invalid input (one line names the field and how to fix it).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ucurve import __version__, code_version
from ucurve.cli import (
    audit,
    chaos,
    compare,
    edits,
    experiments,
    explorer,
    import_export,
    lab,
    measurements,
    operation,
    references,
    reproducibility,
    results,
    status,
    studies,
    suites,
    users,
)
from ucurve.cli.arguments import BAD_INPUT, FAILED, INTERRUPTED, InputError, fail
from ucurve.cli.option_names import OptionNames
from ucurve.client import ClientError, RequestRejectedError
from ucurve.schemas.validation_messages import field_messages
from ucurve.settings import SettingsError

GROUPS = (
    lab,
    operation,
    status,
    experiments,
    edits,
    explorer,
    results,
    measurements,
    reproducibility,
    compare,
    studies,
    suites,
    users,
    audit,
    import_export,
    references,
    chaos,
)
EXAMPLES = (
    "ucurve up                                    # start a lab on this machine",
    'echo \'{"kind": "linear_model"}\' | ucurve submit - --wait',
    "ucurve verdicts 1",
    "ucurve figures 1 -o figures --format pdf",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        args = command_parser().parse_args(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    names = OptionNames(args)
    try:
        return int(args.run(args) or 0)
    except InputError as error:
        return fail(names.text(str(error)), BAD_INPUT)
    except SettingsError as error:
        return fail(error, BAD_INPUT)
    except ValidationError as error:
        return fail(names.lines(field_messages(error.errors(), {})), BAD_INPUT)
    except RequestRejectedError as error:
        text = names.lines(error.fields()) or names.text(str(error))
        return fail(text, BAD_INPUT if error.status in (400, 404, 413, 422) else FAILED)
    except (ClientError, TimeoutError) as error:
        return fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `ucurve table 1 | head`
        sys.stderr.close()
        return FAILED


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        "ucurve",
        description="Measure whether pre-training longer makes a model more fragile.",
        epilog=_epilog(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print version and code hash")
    _connection_options(parser, None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str,
        run: Any,
        help: str,
        within: Any = commands,
        examples: Sequence[str] = (),
    ) -> argparse.ArgumentParser:
        subparser: argparse.ArgumentParser = within.add_parser(
            name,
            help=help,
            description=f"{help[:1].upper()}{help[1:]}.",
            epilog=_epilog(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run=run, parser=subparser)
        _connection_options(subparser, argparse.SUPPRESS)  # also accepted after the command
        return subparser

    for group in GROUPS:
        group.commands(command)
    return parser


def version_text() -> str:
    """Return program name, version and code hash."""
    return f"ucurve {__version__} (code {code_version()})"


class _Version(argparse.Action):
    """Print the version; the sources are hashed only when it is requested."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print(version_text())
        parser.exit()


def _epilog(examples: Sequence[str]) -> str | None:
    return "\n".join(["examples:", *(f"  {line}" for line in examples)]) if examples else None


def _connection_options(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--url",
        default=default,
        help="URL of the lab's API (default: UCURVE_URL, or http://127.0.0.1:8000)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=default,
        help="file with the API key, readable only by you (default: UCURVE_TOKEN_FILE; "
        "UCURVE_TOKEN takes precedence over that)",
    )
    parser.add_argument(
        "--token",
        default=default,
        metavar="-",
        help="read the API key from standard input, or ask for it on a terminal; a key given here "
        "is deprecated, because other users can see it",
    )
