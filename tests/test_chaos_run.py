"""One minute of `ucurve chaos`: faults, people, an undisturbed lab, and nothing harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engines, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_minute_of_faults_loses_doubles_and_changes_nothing(tmp_path: Path) -> None:
    report = tmp_path / "chaos.json"
    words = ["--minutes", "1", "--seed", "1", "--workers", "1", "--people", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "ucurve.cli", "chaos", *words, "--json", str(report)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=890,
    )
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    found = json.loads(report.read_text())
    assert found["holds"]
    assert found["num_compared"]["results"] > 5
    assert len(found["recoveries"]) >= 4
    assert found["requests"]["acknowledged"] >= 3
    assert "Everything holds." in done.stdout
