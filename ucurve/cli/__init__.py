"""The command line: `ucurve up` starts a lab, the other commands speak with one over its REST API.

    echo '{"kind": "linear_model"}' | ucurve submit - --wait
    ucurve figures 1 -o figures --format pdf
    ucurve study submit tiny --wait

Exit status: 0 done, 1 failed, 2 bad input (one line says which field and what to do).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ucurve.cli import (
    compare,
    experiments,
    explorer,
    import_export,
    lab,
    measurements,
    references,
    results,
    reuse,
    studies,
    suites,
    users,
)
from ucurve.cli.arguments import BAD_INPUT, FAILED, INTERRUPTED, InputError, fail
from ucurve.client import ClientError, RequestRejectedError
from ucurve.schemas.validation_messages import lines, wrong_in
from ucurve.settings import SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers the exit status."""
    try:
        given = _parser().parse_args(arguments)
        return int(given.run(given) or 0)
    except (InputError, SettingsError) as error:
        return fail(error, BAD_INPUT)
    except ValidationError as error:
        return fail(lines(wrong_in(error.errors(), {})), BAD_INPUT)
    except RequestRejectedError as error:
        return fail(error, BAD_INPUT if error.status in (400, 404, 413, 422) else FAILED)
    except (ClientError, TimeoutError) as error:
        return fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `ucurve table 1 | head`
        sys.stderr.close()
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "ucurve", description="Does pre-training longer make a model more fragile?"
    )
    _where(parser, None)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, within: Any = commands) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = within.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        _where(
            made, argparse.SUPPRESS
        )  # after the command, too; what is not said there leaves what was said before
        return made

    for topic in (
        lab,
        experiments,
        explorer,
        results,
        measurements,
        reuse,
        compare,
        studies,
        suites,
        users,
        import_export,
        references,
    ):
        topic.commands(command)
    return parser


def _where(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--url",
        default=default,
        help="address of the lab's API (default: UCURVE_URL, or http://127.0.0.1:8000)",
    )
    parser.add_argument("--token", default=default, help="access token (default: UCURVE_TOKEN)")
