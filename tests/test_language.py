"""The names and words of the code: nouns of the field instead of fillers and a private dialect."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("api", "worker", "dashboard", "db", "ucurve")
FILLERS = frozenset(
    (
        *("found", "given", "asked", "made", "one", "now", "told", "said", "kept", "mine"),
        *("whole", "which", "what", "who", "whose", "held", "afresh", "looks", "shown", "known"),
    )
)
DIALECT = re.compile(
    r"\b(whoever|whatever it|nobody|somebody|everybody|anew|afresh|so many|goes on|told|"
    r"in words|by itself|of one's own|of ones own|bears|mend|mended)\b",
    re.IGNORECASE,
)


def sources() -> Iterator[Path]:
    for room in ROOMS:
        yield from (path for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts)


def bound_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names that a module binds or uses, arguments, functions and classes, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def test_fewer_than_three_names_per_thousand_lines_are_fillers() -> None:
    num_lines, places = 0, Counter[str]()
    for path in sources():
        text = path.read_text(encoding="utf-8")
        num_lines += text.count("\n")
        for name, _ in bound_names(ast.parse(text)):
            if name in FILLERS:
                places[f"{path.relative_to(ROOT)}: {name}"] += 1
    assert 1000 * places.total() / num_lines < 3, "\n".join(f"{n} {p}" for p, n in places.items())


def prose(path: Path) -> Iterator[tuple[str, int]]:
    """Comments and string literals of a file, docstrings included, each with its line."""
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == getattr(
            tokenize, "FSTRING_MIDDLE", -1
        ):
            yield token.string, token.start[0]


def test_texts_use_the_words_of_the_field() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line + text[: match.start()].count(chr(10))} {match[0]}"
        for path in sources()
        for text, line in prose(path)
        for match in DIALECT.finditer(text)
        if match[0] != "nobody" or path.name != "data_folder.py"  # the account of that name
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_have_at_most_fifty_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 50
    ]
    assert not long, "\n".join(long)
