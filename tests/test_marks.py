"""Marks say what a test needs: no test that `make check` runs starts a service."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from marks import Guard, starts_service
from spread import group_of

STARTS = re.compile(r"\bEngines\(|\.start_(api|worker|dashboard)\(|sync_playwright\(|, \"up\"")
FIXTURES = re.compile(r"\b(lab|team|page|browser|address|engines|database_url)\b[:,]")


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda p: p.stem
)
def test_a_module_that_starts_a_service_uses_a_fixture_or_the_mark(path: Path) -> None:
    source = path.read_text()
    if path.name != Path(__file__).name and STARTS.search(source):
        assert "pytest.mark.engines" in source or FIXTURES.search(source)


@pytest.mark.parametrize(
    ("command", "service"),
    [
        (["/usr/lib/postgresql/bin/postgres", "-D", "data"], True),
        (["/venv/bin/valkey-server", "--port", "0"], True),
        ([sys.executable, "-m", "uvicorn", "api.main:app"], True),
        ([sys.executable, "-m", "celery", "-A", "worker.queue", "worker"], True),
        ([sys.executable, "-m", "streamlit", "run", "serve.py"], True),
        ([sys.executable, "-m", "ucurve.cli", "up", "--port", "8000"], True),
        ("ucurve up --data here", True),
        ([sys.executable, "-c", "import api.main"], False),
        ([sys.executable, "-m", "ucurve.cli", "export", "all"], False),
        (["git", "status"], False),
    ],
)
def test_a_command_that_starts_a_service_is_recognised(command: Any, service: bool) -> None:
    assert starts_service(command) == service


@pytest.mark.parametrize("marked", [True, False])
def test_an_unmarked_test_that_starts_a_service_fails(marked: bool) -> None:
    guard = Guard()
    item: Any = SimpleNamespace(get_closest_marker=lambda name: marked or None)

    def run() -> None:
        with guard.watch(item):
            guard.hear("subprocess.Popen", ("postgres", ["postgres", "-D", "data"], None, None))

    if marked:
        run()
    else:
        with pytest.raises(pytest.fail.Exception, match="postgres -D data"):
            run()


def test_the_guard_hears_every_process_that_a_test_starts() -> None:
    heard: list[str] = []
    guard = Guard()
    guard.hear = lambda event, args: heard.append(event)  # type: ignore[method-assign]
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert "subprocess.Popen" in heard


def test_modules_of_the_shared_lab_run_in_two_groups_and_every_other_module_alone() -> None:
    folder = Path(__file__).parent
    assert group_of(folder / "test_cli.py") == "shared lab"
    assert group_of(folder / "test_compare.py") == "shared lab, pages"
    assert group_of(folder / "test_dashboard.py") == "test_dashboard"
