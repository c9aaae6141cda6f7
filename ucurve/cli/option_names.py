"""Errors name what was typed: `--same-model`, not the field `same_model` of a request.

    names = OptionNames(args)
    names.lines([(("tokens_per_step",), "Must be a whole number.")])
    # "--tokens-per-step: Must be a whole number."

A command whose options set fields of another name says so: `set_defaults(fields={"owner":
"--user"})`. A field that the user gives in a file keeps its name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence

from ucurve.schemas.error_location import Step
from ucurve.schemas.validation_messages import field_name

FILES = ("spec", "study")  # arguments that name a file with fields


class OptionNames:
    """What the options of a command are called, by the field that each of them sets."""

    def __init__(self, args: argparse.Namespace) -> None:
        parser: argparse.ArgumentParser = args.parser
        reads_file = any(name in args for name in FILES)
        self._typed = {} if reads_file else vars(args)  # lists of a file have other positions
        self._options: dict[str, str] = {}
        for action in parser._actions:
            given = getattr(args, action.dest, None) != action.default
            if action.option_strings and (given or not reads_file):
                self._options.setdefault(action.dest, _longest(action.option_strings))
        fields: Mapping[str, str] = getattr(args, "fields", {})
        self._options |= fields

    def lines(self, errors: Iterable[tuple[Sequence[Step], str]]) -> str:
        """Return one line per invalid field."""
        named = [f"{self._name(path)}: {self.text(detail)}" for path, detail in errors]
        return "\n".join(line.removeprefix(": ") for line in named)

    def text(self, message: str) -> str:
        """Return a message with options in place of fields whose names are Python's."""
        for field, option in self._options.items():
            if "_" in field and option:
                word = rf"(?<![\w./\\'\"“-]){field}(?![\w/\\'\"”-]|\.\w)"
                message = re.sub(word, option, message)
        return message

    def _name(self, path: Sequence[Step]) -> str:
        option = self._options.get(str(path[0])) if path else None
        if option is None:
            return field_name(path)
        typed = self._typed.get(str(path[0]))
        if len(path) == 1 or not option or (isinstance(path[1], int) and typed is None):
            return option
        if isinstance(typed, list) and isinstance(path[1], int) and path[1] < len(typed):
            return f"{option} {typed[path[1]]}"
        return f"{option} {field_name(path[1:])}"


def _longest(options: Sequence[str]) -> str:
    return max(options, key=lambda option: (option.startswith("--"), -options.index(option)))
