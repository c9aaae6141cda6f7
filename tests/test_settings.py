"""Settings: one place, clear messages, nothing read beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ucurve.settings import Settings, SettingsError, settings, variable

ROOT = Path(__file__).parents[1]
# Variables of compose alone: they become part of URLs, or name ports and folders of the host.
COMPOSE_ONLY = {
    "UCURVE_DATABASE_PASSWORD",
    "UCURVE_BROKER_PASSWORD",
    "UCURVE_PUBLIC_URL",
    "UCURVE_API_PORT",
    "UCURVE_DASHBOARD_PORT",
}


def test_no_other_module_reads_a_variable_of_ours() -> None:
    reading = re.compile(r"environ\b[^\n]*\b(UCURVE|HF)_|getenv")
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in ("api", "worker", "dashboard", "db", "ucurve")
        for path in (ROOT / room).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if reading.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_variable_named_anywhere_is_a_setting() -> None:
    texts = [*ROOT.glob("*.yml"), ROOT / ".env.example"]
    for room in ("api", "worker", "dashboard", "db", "ucurve"):
        texts += (ROOT / room).rglob("*.py")
    named = {
        name
        for path in texts
        for name in re.findall(r"\bUCURVE_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    assert named - {variable(field) for field in Settings.model_fields} - COMPOSE_ONLY == set()


def test_every_setting_has_a_description_that_ends_as_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name


def test_a_bad_value_names_the_variable_and_what_it_accepts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UCURVE_HANG_SECONDS", "soon")
    monkeypatch.setenv("UCURVE_OIDC_ROLE", "admin")
    with pytest.raises(SettingsError) as error:
        settings()
    assert "UCURVE_HANG_SECONDS is 'soon'" in str(error.value)
    assert "UCURVE_OIDC_ROLE is 'admin': Input should be 'viewer' or 'submitter'" in str(
        error.value
    )


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_HOSTS", "")
    monkeypatch.setenv("UCURVE_DEVICE", "")
    assert settings().hosts == ("127.0.0.1", "localhost", "api")
    assert settings().device is None


def test_lists_and_folders_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_WEBHOOK_HOSTS", "Relay, inside ,")
    monkeypatch.setenv("UCURVE_ARTEFACTS", "~/lab")
    monkeypatch.setenv("UCURVE_KINDS", os.pathsep.join(["/a", "", "/b"]))
    assert settings().webhook_hosts == ("relay", "inside")
    assert settings().artefacts == Path.home() / "lab"
    assert settings().kind_folders == ["/a", "/b"]
