"""The wheel contains all sources, pages, style sheets, migrations and built-in data."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "dashboard", "db", "ucurve", "worker")
PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")


def tracked(*paths: str) -> list[str]:
    """Files that git tracks, also new ones that it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the tracked files, without network."""
    source, output = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    for name in tracked(*PACKAGES, *PROJECT_FILES):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(output)]
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *options, str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    (path,) = output.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_contains_every_tracked_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    names = tracked(*PACKAGES)
    assert len(names) > 250
    assert sorted(set(names) - set(wheel.namelist())) == []


@pytest.mark.parametrize(
    "name",
    [
        "ucurve/py.typed",
        "ucurve/builtin/presets.json",
        "dashboard/app_pages/experiment.py",
        "dashboard/.streamlit/config.toml",
        "dashboard/components/chart.js",
        "db/migrations/script.py.mako",
        "db/migrations/versions/0001_first_schema.py",
    ],
)
def test_the_wheel_contains_what_no_import_finds(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_the_wheel_contains_nothing_else(wheel: zipfile.ZipFile) -> None:
    others = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(set(others) - set(tracked(*PACKAGES))) == []


def test_the_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert "ucurve = ucurve.cli:main" in wheel.read(name).decode()
