"""Every change writes one audit record in its own transaction; nothing else does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Lab, refused
from db_helpers import claim, finish
from identity_provider import IdentityProvider
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.audit import ACTIONS
from api.failures import cause_id
from api.openapi import changes, routes_of
from db.session import open_session
from ucurve.cli import main
from ucurve.client import Client

TEST_KINDS = True
NONCE = "a nonce of the browser's own"
COUNT = {"kind": "slow_count", "to": [1, 2]}
SECRET_HOOK = "https://chat.example/hooks/of-nobody-else"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


@pytest.fixture(scope="module")
def team(
    provider: IdentityProvider,
    database_url: str,
    broker_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Lab]:
    """A lab that asks for tokens and trusts the provider; seen by its first admin."""
    running = Lab(database_url, broker_url, tmp_path_factory.mktemp("team"))
    try:
        running.start_api(
            UCURVE_ACCESS="tokens",
            UCURVE_OWNER="root",
            UCURVE_WEBHOOK_SECRET="of a test",
            **provider.environment(role="submitter"),
        )
        running.token = (running.data / "admin-token").read_text().strip()
        yield running
    finally:
        running.stop()


def trail(team: Lab, **filters: Any) -> list[Any]:
    return team.client.audit(**filters).records


def changing_routes() -> set[tuple[str, str]]:
    from api.main import app

    return {
        (method, route.path_format)
        for route in routes_of(app)
        for method in route.methods or ()
        if changes(route, method)
    }


def test_every_route_that_changes_something_has_a_named_action() -> None:
    assert changing_routes() == set(ACTIONS)


@dataclass
class Recorder:
    """Performs changes, and checks the one record that each of them leaves."""

    team: Lab
    http: httpx.Client
    done: set[tuple[str, str]] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)

    def change(
        self, method: str, route: str, verb: str, object: str, body: Any = None, **path: Any
    ) -> Any:
        before = trail(self.team, limit=1)[0].id
        answer = self.http.request(method, route.format(**path), json=body)
        assert answer.is_success, answer.text
        content = answer.json() if answer.content else {}
        new = [record for record in trail(self.team, limit=10) if record.id > before]
        fields = content if isinstance(content, dict) else {"ids": content[0]["id"]}
        if verb != "extend":
            fields = {**fields, **path}
        assert [(record.action, record.object) for record in new] == [
            (verb, object.format(**fields))
        ]
        self.done.add((method, route))
        return content

    @property
    def details(self) -> dict[str, Any]:
        return dict(trail(self.team, limit=1)[0].details)

    def experiments(self) -> None:
        path, object = "/v1/experiments/{id}", "experiment {id}"
        id = self.change("POST", "/v1/experiments", "submit", object, {"spec": COUNT})["id"]
        extension = {"changes": {"to": [1, 2, 3]}}
        self.change("POST", f"{path}/extend", "extend", object, extension, id=id)
        assert self.details["extends"] == str(id)
        edit = {"notes": "new", "priority": 2, "webhook": SECRET_HOOK}
        self.change("PATCH", path, "edit", object, edit, id=id)
        assert self.details == {
            "priority": 2,
            "webhook": "chat.example",
            "also_changed": ["notes"],
        }
        for method, verb in (("PUT", "star"), ("DELETE", "unstar")):
            self.change(method, f"{path}/star", verb, object, id=id)
        for verb in ("pause", "resume", "cancel", "retry", "cancel"):
            self.change("POST", path + "/{action}", verb, object, id=id, action=verb)
        self.change("DELETE", path, "delete", object, id=id)
        study = {"name": "s", "title": "s", "experiments": [{"name": "a", "spec": COUNT}]}
        self.change("POST", "/v1/studies", "submit", "experiments {ids}", study)
        while (taken := claim())[1]:
            for point in taken[1]:
                finish(taken[0], point.id, {"traceback": "ValueError: no"})
        cause = cause_id("ValueError: no")
        route = "/v1/failures/{cause}/retry"
        self.change("POST", route, "retry", "failures {cause}", cause=cause)

    def catalogue(self) -> None:
        folder = self.team.artefacts / "suites" / "audited"
        write_checkpoint(folder / "step1")
        (folder / "text.txt").write_text("a text to read\n" * 50)
        text = {"name": "words", "text": str(folder / "text.txt")}
        self.change("POST", "/v1/datasets", "register", "dataset {name}", text)
        suite = {"name": "copy", "path": str(folder)}
        self.change("POST", "/v1/suites", "register", "suite {name}", suite)
        content = "checkpoint,tokens,metric,value\nstep1,8,perplexity,14\n"
        curve = {
            "name": "paper",
            "suite": "tiny",
            "importer": "csv",
            "files": [{"name": "a.csv", "content": content}],
        }
        id = self.change("POST", "/v1/references", "add", "reference {id}", curve)["id"]
        self.change("DELETE", "/v1/references/{id}", "remove", "reference {id}", id=id)

    def people(self, provider: IdentityProvider) -> None:
        role = {"role": "viewer"}
        self.change("PUT", "/v1/users/{name}", "change", "user {name}", role, name="vera")
        assert self.details == role
        named = {"name": "x", "owner": "vera"}
        token = self.change("POST", "/v1/tokens", "create", "token {id}", named)
        assert self.details == named
        self.change("DELETE", "/v1/tokens/{id}", "revoke", "token {id}", id=token["id"])
        sign_in = {"id_token": provider.id_token(NONCE), "nonce": NONCE}
        session = self.change("POST", "/v1/sessions", "sign in", "token {id}", sign_in)
        assert trail(self.team, limit=1)[0].user == "ada@example.org"
        self.http.headers["Authorization"] = f"Bearer {session['secret']}"
        route = "/v1/sessions/current"
        self.change("DELETE", route, "sign out", f"token {session['id']}")
        self.http.headers["Authorization"] = f"Bearer {self.team.token}"
        self.secrets += [token["secret"], session["secret"], sign_in["id_token"]]

    def imports(self) -> None:
        empty = {"origin": "there", "suites": [], "datasets": [], "reference_curves": []}
        self.change("POST", "/v1/import/catalogue", "import", "catalogue", empty)
        batch = {"origin": "there", "measurements": []}
        self.change("POST", "/v1/import/measurements", "import", "measurements", batch)
        body = imported(self.team)
        self.change("POST", "/v1/import/experiments", "import", "experiment {id}", body)


def test_every_route_that_changes_something_writes_one_record(
    team: Lab, provider: IdentityProvider
) -> None:
    headers = {"Authorization": f"Bearer {team.token}"}
    with httpx.Client(base_url=team.url, headers=headers, timeout=60) as http:
        recorder = Recorder(team, http)
        recorder.experiments()
        recorder.catalogue()
        recorder.people(provider)
        recorder.imports()
    assert recorder.done == changing_routes()
    everything = json.dumps([record.model_dump(mode="json") for record in trail(team, limit=1000)])
    for secret in (*recorder.secrets, SECRET_HOOK):
        assert secret not in everything


def imported(team: Lab) -> dict[str, Any]:
    """An experiment of another lab on measurements that this one has."""
    rows = team.client.rows(team.client.experiments().experiments[0].id)
    points = [
        {"identity": row.identity, "repeat": 0, "stage": 0, "labels": row.labels} for row in rows
    ]
    texts = {"origin": "there", "name": "imported", "kind": "slow_count", "owner": "zoe"}
    created = {"created_at": "2026-01-01T00:00:00Z", "started_at": None, "finished_at": None}
    plain = {"id": 5, "tags": [], "notes": "", "priority": 0, "archived": False}
    return {**texts, **plain, **created, "spec": COUNT, "points": points}


def write_checkpoint(folder: Path) -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        }
    ).encode()
    folder.mkdir(parents=True)
    weights = len(header).to_bytes(8, "little") + header + b"\0" * 8
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text('{"model_type": "gpt_neox"}')


def test_a_refused_or_rolled_back_request_writes_none(team: Lab) -> None:
    team.client.set_user("sam", role="submitter")
    sam = Client(team.url, team.client.create_token("test", owner="sam").secret)
    id = team.client.submit(COUNT).id
    before = trail(team, limit=1)[0].id
    refused(403, lambda: sam.cancel(id))
    refused(403, lambda: sam.set_user("eve"))
    refused(404, lambda: team.client.cancel(10**9))
    refused(409, lambda: team.client.resume(id))
    refused(422, lambda: team.client.submit({"kind": "slow_count", "to": []}))
    refused(409, lambda: team.client.set_user("root", role="viewer"))
    team.client.plan(COUNT)
    assert trail(team, limit=1)[0].id == before


def test_a_repeated_request_is_recorded_once(team: Lab) -> None:
    headers = {"Authorization": f"Bearer {team.token}", "Idempotency-Key": uuid.uuid4().hex}
    for _ in range(2):
        id = httpx.post(f"{team.url}/v1/experiments", json={"spec": COUNT}, headers=headers).json()[
            "id"
        ]
    assert len(trail(team, object=f"experiment {id}")) == 1


def test_records_say_where_they_come_from_and_are_for_admins_only(
    team: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_TOKEN", team.token)
    monkeypatch.setenv("UCURVE_URL", team.url)
    assert main(["users", "set", "cleo", "--role", "viewer"]) == 0
    Client(team.url, team.token, source="dashboard").set_user("dora")
    httpx.put(
        f"{team.url}/v1/users/ann", json={}, headers={"Authorization": f"Bearer {team.token}"}
    )
    sources = {name: trail(team, object=f"user {name}")[0].source for name in ("cleo", "dora")}
    assert sources == {"cleo": "cli", "dora": "dashboard"}
    [record] = trail(team, object="user ann")
    assert (record.source, record.user, record.address) == ("api", "root", "127.0.0.1")
    first = trail(team, user="root", action="create", object="first admin token")
    assert [record.source for record in first] == ["lab"]
    viewer = Client(team.url, team.client.create_token("test", owner="cleo").secret)
    assert "requires the role admin" in refused(403, viewer.audit)
    capsys.readouterr()
    assert main(["audit", "--object", "user cleo"]) == 0
    assert "user cleo" in capsys.readouterr().out
    for name in ("trail.csv", "trail.jsonl"):
        assert main(["audit", "--user", "root", "-o", str(tmp_path / name)]) == 0
    lines = (tmp_path / "trail.jsonl").read_text().splitlines()
    assert {json.loads(line)["user"] for line in lines} == {"root"}
    assert len((tmp_path / "trail.csv").read_text().splitlines()) >= len(lines) + 1


def test_pages_neither_repeat_nor_skip_records(team: Lab) -> None:
    for name in "abcde":
        team.client.set_user(f"page-{name}")
    everything = [record.id for record in team.client.audit_records(page_size=2)]
    assert everything == sorted(set(everything), reverse=True)
    assert len(everything) == len(list(team.client.audit_records()))
    last = team.client.audit(limit=1).records[0]
    assert team.client.audit(until=last.at, limit=1).records[0].id < last.id
    assert team.client.audit(since=last.at).records[-1].id == last.id


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_records SET action = ''", "DELETE FROM audit_records"]
)
def test_records_cannot_be_changed(team: Lab, statement: str) -> None:
    team.client.set_user("kept")
    with open_session() as session, pytest.raises(DBAPIError, match="cannot be changed"):
        session.execute(text(statement))
