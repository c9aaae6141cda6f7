"""Access tokens: errors, secrets shown once and stored hashed, ownership, the command line."""

from __future__ import annotations

import stat
from datetime import datetime

import httpx
import pytest
from conftest import Lab, problem, refused
from sqlalchemy import text

from db.session import open_session
from ucurve.cli import main
from ucurve.client import Client
from ucurve.lab.up import LabSupervisor
from ucurve.schemas.users import Role


def test_a_401_explains_the_problem_and_the_remedy(team: Lab, sam: Client) -> None:
    def ask(authorization: str) -> httpx.Response:
        return httpx.get(
            f"{team.url}/v1/me", headers={"Authorization": authorization} if authorization else {}
        )

    mine = {name: sam.create_token(name, days=1) for name in ("old", "lost")}
    sam.revoke_token(mine["lost"].id)
    with open_session() as session:
        session.execute(
            text("UPDATE tokens SET expires_at = now() - interval '1 hour' WHERE id = :id"),
            {"id": mine["old"].id},
        )
        session.commit()
    for authorization, reason in {
        "": "--token-file or UCURVE_TOKEN",
        "Basic c2FtOnNhbQ==": "has to be `Bearer TOKEN`",
        "Bearer ucurve_wrong": "token is unknown",
        f"Bearer {mine['lost'].secret}": "'lost' was revoked on",
        f"Bearer {mine['old'].secret}": "'old' expired on",
    }.items():
        answer = ask(authorization)
        assert reason in problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert {token.name: token.state for token in sam.tokens()} == {
        "test": "valid",
        "old": "expired",
        "lost": "revoked",
    }


def test_a_token_is_shown_once_and_never_stored_or_logged(team: Lab, sam: Client) -> None:
    made = sam.create_token("only once")
    assert made.secret.startswith("ucurve_")
    assert len(made.secret) >= 7 + 43  # 32 random bytes
    Client(team.url, made.secret).me()
    assert "secret" not in str([token.model_dump() for token in sam.tokens()])
    with open_session() as session:
        rows = session.scalars(text("SELECT to_jsonb(t)::text FROM tokens t")).all()
        plan = session.execute(
            text(
                "EXPLAIN SELECT * FROM tokens t JOIN users u ON u.name = t.owner WHERE sha256 = 'x'"
            )
        ).all()
    logs = "".join(path.read_text() for path in (team.data / "logs").iterdir())
    for secret in (made.secret, team.token):
        assert secret not in "".join(rows) + logs
    assert (
        "Seq Scan on tokens" not in str(plan) or len(rows) < 20
    )  # of some rows Postgres reads all
    assert (team.data / "admin-token").as_posix() in logs


def test_the_time_of_last_use_is_written_once_a_minute(team: Lab, sam: Client) -> None:
    made = sam.create_token("used")

    def used() -> datetime | None:
        return next(token.used_at for token in sam.tokens() if token.id == made.id)

    assert used() is None
    Client(team.url, made.secret).me()
    first = used()
    Client(team.url, made.secret).me()
    assert first is not None
    assert used() == first
    with open_session() as session:
        session.execute(
            text("UPDATE tokens SET used_at = used_at - interval '61 seconds' WHERE id = :id"),
            {"id": made.id},
        )
        session.commit()
    Client(team.url, made.secret).me()
    assert (latest := used()) is not None
    assert latest > first


def test_tokens_are_managed_by_their_owner_and_admins(
    people: dict[Role, Client], sam: Client, sue: Client
) -> None:
    made = sam.create_token("mine")
    assert "Only an admin" in refused(403, lambda: sue.create_token("theirs", owner="sam"))
    assert "no token" in refused(404, lambda: sue.revoke_token(made.id))
    assert {token.owner for token in sue.tokens()} == {"sue"}
    assert {"sam", "sue", "root"} <= {token.owner for token in people["admin"].tokens()}
    assert people["admin"].revoke_token(made.id).state == "revoked"
    assert "no user nobody" in refused(
        422, lambda: people["admin"].create_token("x", owner="nobody")
    )


def test_the_first_admin_key_lies_in_a_private_file_until_a_person_uses_it(
    team: Lab, people: dict[Role, Client], capsys: pytest.CaptureFixture[str]
) -> None:
    file = team.data / "admin-token"
    assert not file.exists(), "it was used when this module made its users"
    file.touch(mode=0o600)
    file.write_text(f"{team.token}\n")
    team.children["api"].kill()
    team.start_api(UCURVE_ACCESS="tokens")
    people["admin"].me()
    refused(401, Client(team.url, f"{team.token}x").me)
    lab = LabSupervisor(port=team.port, access="tokens")
    assert lab._admin_client(team.data), "the supervisor may use it"
    printed = capsys.readouterr().out
    assert str(file) in printed
    assert team.token not in printed, "this output is no terminal"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    me = team.client.me()
    assert (me.user.name, me.user.role, me.access) == ("root", "admin", "tokens")
    assert not file.exists()
    team.children["api"].stop()
    team.start_api(UCURVE_ACCESS="tokens")
    assert not file.exists()
    assert team.client.me() == me


def test_on_a_terminal_the_first_admin_key_is_printed(
    team: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (team.data / "admin-token").write_text("ucurve_unknown")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert LabSupervisor(port=team.port, access="tokens")._admin_client(team.data) is None
    assert "ucurve_unknown" in capsys.readouterr().out


def test_the_command_line_creates_lists_and_revokes_tokens_and_sets_roles(
    team: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str, status: int = 0, token: str = "") -> str:
        monkeypatch.setenv("UCURVE_TOKEN", token or team.token)
        assert main(["--url", team.url, *words]) == status
        return "".join(capsys.readouterr())

    secret = run(
        "tokens", "create", "laptop", "--user", "cleo", "--role", "submitter", "--days", "7"
    ).strip()
    assert "cleo, submitter (API key 'laptop')" in run("whoami", token=secret)
    assert "cleo: viewer, at most 40 queued evaluations" in run(
        "users", "set", "cleo", "--role", "viewer", "--most-queued", "40"
    )
    assert "requires the role admin; cleo is a viewer" in run(
        "users", "set", "cleo", "--role", "admin", status=1, token=secret
    )
    listed = run("tokens", "list", token=secret)
    assert "laptop" in listed
    assert secret not in listed
    number = next(line.split()[0] for line in listed.splitlines() if "laptop" in line)
    assert "cleo is revoked" in run("tokens", "revoke", number)
    monkeypatch.setenv("UCURVE_TOKEN", secret)
    assert main(["--url", team.url, "whoami"]) == 1
    assert "'laptop' was revoked" in capsys.readouterr().err
    assert "vera" in run("users", "list")
