"""docker-compose.yml, as far as it can be checked without a container engine."""

from __future__ import annotations

import fnmatch
import importlib.util
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ucurve.settings import Settings, settings, variable

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
VARIABLE = re.compile(r"\$\$|\$\{(\w+):([-?])([^}]*)\}")
ONE_SHOT = {"migrate"}


def interpolated(value: Any, required: str = "secret") -> Any:
    """As compose fills in an empty environment, with `required` for what it would ask for."""
    if isinstance(value, dict):
        return {key: interpolated(entry, required) for key, entry in value.items()}
    if isinstance(value, list):
        return [interpolated(entry, required) for entry in value]
    if isinstance(value, str):
        return VARIABLE.sub(
            lambda found: "$" if found[0] == "$$" else required if found[2] == "?" else found[3],
            value,
        )
    return value


SERVICES: dict[str, dict[str, Any]] = interpolated(yaml.safe_load(COMPOSE))["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = {name: service for name, service in OURS.items() if name.startswith("worker")}


def test_the_file_is_valid_by_the_compose_specification() -> None:
    from compose_spec import PyCompose

    def check(content: dict[str, Any]) -> None:
        PyCompose.from_json(json.dumps(content)).validate()

    content = interpolated(yaml.safe_load(COMPOSE))
    check(content)
    content["services"]["api"]["prots"] = content["services"]["api"].pop("ports")
    with pytest.raises(ValueError, match="prots"):
        check(content)


def test_every_password_comes_from_the_environment_and_none_has_a_default() -> None:
    variables = {found[1]: (found[2], found[3]) for found in VARIABLE.finditer(COMPOSE) if found[1]}
    secrets = {name for name in variables if name.endswith("PASSWORD")}
    assert secrets == {"UCURVE_DATABASE_PASSWORD", "UCURVE_BROKER_PASSWORD"}
    assert all(
        variables[name][0] == "?" and ".env.example" in variables[name][1] for name in secrets
    )
    for key, value in re.findall(r"(\w*(?:PASSWORD|AUTH)\w*): (.+)", COMPOSE):
        assert value.startswith("${"), f"{key} is written down"
    example = (ROOT / ".env.example").read_text()
    assert all(
        re.search(rf"^(# )?{name}=", example, re.MULTILINE)
        for name in variables
        if name != "OMP_NUM_THREADS"
    )
    assert all(re.search(rf"^{name}=$", example, re.MULTILINE) for name in secrets)


def test_only_the_api_and_the_dashboard_are_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8000:8000"], "dashboard": ["127.0.0.1:8501:8501"]}
    assert not any(
        "network_mode" in service or "privileged" in service for service in SERVICES.values()
    )


def test_every_service_has_the_fewest_rights_it_works_with() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if (
            name == "postgres"
        ):  # the entrypoint of the image runs as root until it starts the server
            changes_user = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
            assert set(service["cap_add"]) == changes_user
            continue
        assert "cap_add" not in service, name
        assert service["read_only"] is True, name
        assert "/tmp" in service["tmpfs"], name
    # The images of our own services end with USER 10001.
    assert SERVICES["broker"]["user"].split(":")[0] not in ("0", "root")
    assert {name for name in SERVICES if name not in OURS} == {"postgres", "broker"}


def test_every_published_port_requires_an_api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from api.auth import authentication

    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, value)
    assert settings().access == "tokens"
    monkeypatch.delenv("UCURVE_ACCESS")
    assert settings().access == "tokens"  # who forgets it opens nothing
    with pytest.raises(authentication.UnauthenticatedError):
        authentication.authenticate(None, ("127.0.0.1", 1))


def test_long_running_services_have_health_checks_restarts_and_dependencies() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name not in ONE_SHOT), name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected, f"{name} -> {needed}"
    assert all(
        "migrate" in service["depends_on"] for service in [SERVICES["api"], *WORKERS.values()]
    )


def test_every_variable_in_the_file_is_read_by_the_code() -> None:
    known = {variable(field) for field in Settings.model_fields} | {"OMP_NUM_THREADS"}  # torch's
    for name, service in OURS.items():
        assert set(service.get("environment", {})) <= known, name
    assert all(
        "UCURVE_DATABASE_URL" in OURS[name]["environment"] for name in ("migrate", "api", *WORKERS)
    )


def test_api_and_workers_share_the_artefacts_and_each_worker_has_its_own_device() -> None:
    for service in [SERVICES["api"], *WORKERS.values()]:
        mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
        assert mounts["artefacts"] == service["environment"]["UCURVE_ARTEFACTS"]
    assert len(
        {service["environment"]["UCURVE_WORKER_NAME"] for service in WORKERS.values()}
    ) == len(WORKERS)
    gpus = [
        device["device_ids"]
        for service in WORKERS.values()
        if "deploy" in service
        for device in service["deploy"]["resources"]["reservations"]["devices"]
        if device["capabilities"] == ["gpu"] and service["environment"]["UCURVE_DEVICE"] == "cuda"
    ]
    assert gpus == [["0"], ["1"], ["2"], ["3"]]


def test_the_commands_of_the_services_exist() -> None:
    for name, service in OURS.items():
        for command in (
            service["command"],
            service.get("healthcheck", {}).get("test", ["CMD"])[1:],
        ):
            modules = [
                word for before, word in itertools.pairwise(command) if before in ("-m", "-A")
            ]
            modules += [word.split(":")[0] for word in command if word.endswith(":app")]
            for module in modules:
                assert importlib.util.find_spec(module), f"{name} runs {module}"
    dashboard = SERVICES["dashboard"]
    assert (
        ROOT / dashboard["working_dir"].removeprefix("/app/") / dashboard["command"][2]
    ).is_file()
    assert "/health/ready" in str(SERVICES["api"]["healthcheck"])


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "Dockerfile.gpu"])
def test_an_image_contains_all_packages_and_runs_unprivileged(dockerfile: str) -> None:
    lines = (ROOT / dockerfile).read_text().splitlines()
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), (
            f".dockerignore keeps {source} out"
        )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {
        room.rstrip("*") for room in project["tool"]["setuptools"]["packages"]["find"]["include"]
    } <= set(copied)
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert "useradd --uid 10001" in "\n".join(lines)


@pytest.mark.parametrize(
    ("dockerfile", "with_torch"), [("Dockerfile", False), ("Dockerfile.gpu", True)]
)
def test_torch_is_installed_only_in_the_worker_image_and_pinned(
    dockerfile: str, with_torch: bool
) -> None:
    text = (ROOT / dockerfile).read_text().replace("\\\n", "")
    (command,) = re.findall(r'python -c "[^"]*tomllib[^"]*"', text)
    ran = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {re.split(r"[<>=\[]", line)[0] for line in ran.stdout.splitlines()}
    assert {"pydantic", "fastapi", "celery", "httpx"} <= wanted
    assert ("torch" in wanted, "transformers" in wanted) == (with_torch, with_torch)
    pins = (ROOT / "constraints.txt").read_text()
    assert all(
        re.search(rf"^{re.escape(name)}==[^+\s]+$", pins, re.MULTILINE | re.IGNORECASE)
        for name in wanted
    ), "unpinned"


def test_a_worker_is_healthy_while_it_sends_heartbeats(database_url: str) -> None:
    from sqlalchemy import text

    from db.models import Worker
    from db.session import open_session
    from worker.liveness import alive

    assert not alive("gpu0")
    with open_session() as session:
        session.add(Worker(name="gpu0", host="h", pid=1, device="cuda", memory_gb=80, versions={}))
        session.commit()
        assert alive("gpu0")
        session.execute(text("UPDATE workers SET seen_at = now() - interval '1 minute'"))
        session.commit()
    assert not alive("gpu0")
