"""The systemd unit that `ucurve up --install-service` prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ucurve.cli import main
from ucurve.lab.service_unit import service_unit


def test_the_unit_runs_this_python_with_the_same_options_and_restarts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_HOSTS", "lab.example, 100%")
    monkeypatch.setenv("UCURVE_TOKEN", "secret-of-the-client")
    data = tmp_path / "a lab"
    command = ["up", "--install-service", "--data", str(data), "--workers", "3", "--no-demo"]
    assert main(command) == 0
    unit = capsys.readouterr().out
    start = f'ExecStart={sys.executable} -m ucurve.cli up --data "{data}" --port 8000 '
    assert start in unit
    assert "--workers 3 " in unit
    assert unit.split("ExecStart=")[1].splitlines()[0].endswith("--no-demo")
    assert 'Environment="UCURVE_HOSTS=lab.example, 100%%"' in unit
    assert "secret-of-the-client" not in unit
    for line in ("Restart=always", "KillMode=mixed", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert f"\n{line}\n" in unit
    assert f'ReadWritePaths="{data}" ' in unit
    assert data.is_dir()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "ucurve.service"
    file.write_text(service_unit(tmp_path, ["--workers", "2"]))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ucurve.service" not in checked.stderr, checked.stderr
    file.write_text(file.read_text().replace("KillMode=mixed", "KillMode=sometimes"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ucurve.service" in checked.stderr, "systemd-analyze finds nothing here"
