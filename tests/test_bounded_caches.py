"""No cache grows without a bound: a lab runs for months, and a page stays open for days."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dashboard.live import pages

ROOT = Path(__file__).parents[1]
ROOMS = ("api", "worker", "dashboard", "db", "ucurve")
# By the number of experiment types and their modules, which a process loads once.
OF_KINDS = {"ucurve/experiments/__init__.py"}


def cached_functions() -> Iterator[tuple[str, ast.FunctionDef, ast.expr]]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    for decorator in node.decorator_list:
                        if "cache" in ast.unparse(decorator).replace("cached_property", ""):
                            yield str(path.relative_to(ROOT)), node, decorator


def test_every_cache_of_a_function_with_arguments_has_a_bound() -> None:
    num, wrong = 0, []
    for path, function, decorator in cached_functions():
        num += 1
        args = function.args
        if not (args.args or args.kwonlyargs or args.vararg) or path in OF_KINDS:
            continue
        text = ast.unparse(decorator)
        if ("maxsize=" not in text and "max_entries=" not in text) or "=None" in text:
            wrong.append(f"{path}:{function.lineno} {function.name}: @{text}")
    assert num > 20, "there are fewer caches than expected: this would prove little"
    assert not wrong, "\n".join(wrong)


def test_a_session_keeps_the_answers_it_used_last() -> None:
    answers = pages.Answers()
    for number in range(100):
        answers.put("first", 0)
        answers.put(f"page {number}", number)
    assert answers.get("first") == 0
    assert answers.get("page 99") == 99
    assert answers.get("page 1") is None
    assert len(answers) == pages.MAX_ANSWERS
