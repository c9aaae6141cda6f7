"""Signing in with an API key or an identity provider in a real browser, and how sessions end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from browser_helpers import PATIENCE
from conftest import Lab
from identity_provider import CLIENT, IdentityProvider
from joserfc.jwk import OctKey, RSAKey
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from db.session import open_session
from ucurve.cli import main
from ucurve.client import Client, RequestRejectedError

NONCE = "a nonce of the browser's own"


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_KINDS", str(Path(__file__).parent / "kinds"))
        try:
            running.start_api(
                UCURVE_ACCESS="tokens",
                UCURVE_OWNER="root",
                **provider.environment(role="submitter"),
            )
            running.token = (running.data / "admin-token").read_text().strip()
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def address(team: Lab, provider: IdentityProvider) -> str:
    return team.start_dashboard(**provider.environment())


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("API key").fill(token)
    page.get_by_role("button", name="Sign in", exact=True).click()


def test_signing_in_with_a_key_returns_to_the_requested_page_and_disabled_buttons_explain(
    page: Page, team: Lab
) -> None:
    team.client.set_user("vera", role="viewer")
    made = team.client.create_token("browser", owner="vera")
    experiment = team.client.submit({"kind": "slow_count", "to": [3]}, name="of the admin")
    page.goto(f"/experiment?id={experiment.id}")
    page.wait_for_url(re.compile(r"/login\?next="))
    sign_in(page, "ucurve_not_a_token")
    expect(page.get_by_role("alert")).to_contain_text("token is unknown")
    sign_in(page, made.secret)
    page.wait_for_url(f"**/experiment?id={experiment.id}")
    expect(page.get_by_role("heading", name="of the admin")).to_be_visible()
    [cookie] = [one for one in page.context.cookies() if one["value"] == made.secret]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert made.secret not in page.content()
    assert made.secret not in page.evaluate("document.cookie")

    cancel = page.get_by_role("button", name="Cancel")
    expect(cancel).to_be_disabled()
    cancel.hover(force=True)
    expect(page.get_by_text("Your role is viewer (read-only)")).to_be_visible()
    page.get_by_role("link", name="New experiment").click()
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()

    team.client.revoke_token(
        made.id
    )  # the session ends, and its next step leads to the login and from there back
    page.get_by_role("textbox", name="Name", exact=True).fill("too late")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/login\?next=%2Fnew"))
    sign_in(page, made.secret)
    expect(page.get_by_role("alert")).to_contain_text("'browser' was revoked")
    sign_in(page, team.token)
    page.wait_for_url("**/new")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    page.goto(f"/experiment?id={experiment.id}")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".stMarkdownBadge").filter(has_text="cancelled").first).to_be_visible()


def test_two_users_share_evaluations_and_sign_out_separately(
    browser: Browser, page: Page, address: str, team: Lab
) -> None:
    """The same experiment under two accounts: the second measures nothing."""
    names = ("sam", "sue")
    tokens = {}
    for name in names:
        team.client.set_user(name, role="submitter")
        tokens[name] = team.client.create_token("browser", owner=name).secret
    if not team.workers:
        team.start_worker()
    other = browser.new_context(viewport={"width": 1360, "height": 1000}, base_url=address)
    other.set_default_timeout(PATIENCE)
    pages = {"sam": page, "sue": other.new_page()}
    first = Client(team.url, tokens["sam"]).submit(
        {
            "kind": "gaussian_perturbation",
            "checkpoints": {"log_spaced": 2},
            "gammas": [0.2],
            "draws": 2,
            "scale": "init_std",
        },
        name="sam's",
    )
    Client(team.url, tokens["sam"]).wait(first.id, timeout=120)
    for name, own in pages.items():
        own.goto(
            f"/login?next=/new?clone={first.id}" if name == "sue" else "/login?next=//evil.example/"
        )
        sign_in(own, tokens[name])
        own.get_by_role("button", name=name).click()
        expect(own.get_by_text(f"{name} · submitter")).to_be_visible()
        own.keyboard.press("Escape")
    assert re.search(r"127\.0\.0\.1:\d+/$", page.url), "led to another site"
    pages["sue"].get_by_role("button", name="Submit", exact=True).click()
    pages["sue"].wait_for_url(re.compile(r"/experiment\?id="))
    total = first.progress.total
    expect(
        pages["sue"].get_by_text(f"{total} of {total} evaluations finished · {total} cached")
    ).to_be_visible()
    [second, *_] = team.client.experiments(owner="sue").experiments
    assert (second.state, second.progress.reused) == ("done", total)

    def num_attempts() -> int:
        with open_session() as session:
            return session.scalar(text("SELECT count(*) FROM attempts")) or 0

    before = num_attempts()
    pages["sue"].goto(f"/new?clone={second.id}")  # two draws more: only those run
    draws = pages["sue"].get_by_role("textbox", name="Noise seeds", exact=True)
    expect(draws).to_have_value("2")
    draws.fill("4")
    draws.press("Enter")
    expect(
        pages["sue"].get_by_text(re.compile(rf"^{total} of \d+ cached, \d+ new"))
    ).to_be_visible()
    pages["sue"].get_by_role("button", name="Submit", exact=True).click()
    pages["sue"].wait_for_url(re.compile(r"/experiment\?id="))
    [third, *_] = team.client.experiments(owner="sue").experiments
    third = team.client.wait(third.id, timeout=120)
    more = third.progress.total
    assert (third.state, third.spec["draws"], third.progress.reused, num_attempts() - before) == (
        "done",
        4,
        total,
        more - total,
    )
    expect(
        pages["sue"].get_by_text(f"{more} of {more} evaluations finished · {total} cached")
    ).to_be_visible()
    page.get_by_role("button", name="sam").click()
    page.get_by_role("link", name="Sign out").click()
    expect(page.get_by_role("status")).to_contain_text("signed out")
    page.goto("/")
    page.wait_for_url(re.compile(r"/login\?next="))
    pages["sue"].reload()
    expect(pages["sue"].get_by_role("button", name="sue")).to_be_visible()
    other.close()


def test_sign_in_forms_of_other_sites_are_rejected(address: str, team: Lab) -> None:
    there = httpx.post(
        f"{address}/login", data={"token": team.token}, headers={"Origin": "http://evil.example"}
    )
    assert (there.status_code, "set-cookie" in there.headers) == (403, False)
    here = httpx.post(f"{address}/login", data={"token": team.token}, headers={"Origin": address})
    assert (
        here.status_code,
        "HttpOnly" in here.headers["set-cookie"],
        "Secure" in here.headers["set-cookie"],
    ) == (
        303,
        True,
        False,
    )
    proxied = httpx.post(
        f"{address}/login", data={"token": team.token}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" in proxied.headers["set-cookie"]


def test_an_identity_provider_signs_users_in_and_its_refusal_is_shown(
    page: Page, team: Lab, provider: IdentityProvider
) -> None:
    page.goto("/workers")
    page.get_by_role("link", name="Sign in with Example").click()
    page.wait_for_url("**/workers")
    page.get_by_role("button", name="ada@example.org").click()
    expect(page.get_by_text("ada@example.org · submitter")).to_be_visible()
    [token] = [one for one in team.client.tokens() if one.owner == "ada@example.org"]
    assert (token.name, token.state) == ("sign-in", "valid")
    assert token.expires_at is not None
    assert 11 < (token.expires_at - token.created_at).total_seconds() / 3600 < 13
    page.get_by_role("link", name="Sign out").click()
    expect(page.get_by_role("status")).to_contain_text("signed out")
    assert [one.state for one in team.client.tokens() if one.owner == "ada@example.org"] == [
        "revoked"
    ]
    provider.denies = True
    page.get_by_role("link", name="Sign in with Example").click()
    expect(page.get_by_role("alert")).to_contain_text("Example refused the sign-in: access_denied")
    provider.denies = False
    page.goto("/login/open-id/back?code=stolen&state=guessed")
    expect(page.get_by_role("alert")).to_contain_text("Please try again")


def test_only_valid_id_tokens_are_accepted(team: Lab, provider: IdentityProvider) -> None:
    anybody = Client(team.url, "")
    other = RSAKey.generate_key(2048, {"kid": "first"})
    shared = OctKey.generate_key(256, {"kid": "first"})
    wrong = {
        "is not valid: bad_signature": provider.id_token(NONCE, key=other),
        "is not valid: unsupported_algorithm": provider.id_token(NONCE, key=shared, alg="HS256"),
        "has expired": provider.id_token(NONCE, exp=1_700_000_000),
        "'aud'": provider.id_token(NONCE, aud="another application"),
        "'iss'": provider.id_token(NONCE, iss="http://evil.example"),
        "'nonce'": provider.id_token("of another sign-in"),
        "'exp'": provider.id_token(NONCE, exp=None),
        "issued for another application": provider.id_token(
            NONCE, aud=[CLIENT, "other"], azp="other"
        ),
        "not verified the e-mail": provider.id_token(NONCE, email_verified=False),
        "has no user name in": provider.id_token(NONCE, email="two words"),
        "token is not valid": "not.a.token",
    }
    for reason, id_token in wrong.items():
        with pytest.raises(RequestRejectedError, match=re.escape(reason)) as refusal:
            anybody.sign_in(id_token, NONCE)
        assert refusal.value.status == 401
    assert anybody.sign_in(provider.id_token(NONCE), NONCE).owner == "ada@example.org"
    provider.key = RSAKey.generate_key(
        2048, {"kid": "second", "use": "sig", "alg": "RS256"}
    )  # providers change their keys
    assert anybody.sign_in(provider.id_token(NONCE), NONCE).owner == "ada@example.org"
    with open_session() as session:
        assert (
            session.scalar(text("SELECT role FROM users WHERE name = 'ada@example.org'"))
            == "submitter"
        )


def test_blocking_rejects_keys_browsers_and_provider_until_unblocked(
    page: Page,
    team: Lab,
    provider: IdentityProvider,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    team.client.set_user("mia@example.org", role="admin")
    mia = Client(team.url, team.client.create_token("laptop", owner="mia@example.org").secret)
    anybody = Client(team.url, "")

    def by_provider() -> str:
        return anybody.sign_in(provider.id_token(NONCE, email="mia@example.org"), NONCE).secret

    signed_in = Client(team.url, by_provider())
    page.goto("/login?next=/people")
    sign_in(page, team.token)
    page.locator(".st-key-block-mia-example-org button").first.click()
    expect(page.get_by_text("blocked just now").first).to_be_visible()
    expect(page.get_by_role("heading", name="Recent changes")).to_be_visible()
    [record] = team.client.audit(object="user mia@example.org", limit=1).records
    assert (record.source, record.user, record.details) == ("dashboard", "root", {"blocked": True})
    for client in (mia, signed_in):
        with pytest.raises(
            RequestRejectedError, match=r"mia@example\.org was blocked on"
        ) as refusal:
            client.me()
        assert refusal.value.status == 401
    with pytest.raises(
        RequestRejectedError, match=r"The user mia@example\.org was blocked"
    ) as refusal:
        by_provider()
    assert refusal.value.status == 403
    with pytest.raises(RequestRejectedError, match="only admin who is not blocked"):
        team.client.set_user("root", blocked=True)
    with pytest.raises(RequestRejectedError, match="user nobody"):
        team.client.set_user("nobody", blocked=True)

    monkeypatch.setenv("UCURVE_TOKEN", team.token)
    shell = ["--url", team.url, "users"]
    assert main([*shell, "unblock", "mia@example.org"]) == 0
    assert "mia@example.org is unblocked" in capsys.readouterr().out
    assert (mia.me().user.role, Client(team.url, by_provider()).me().user.blocked_at) == (
        "admin",
        None,
    )
    team.client.set_user("mia@example.org", role="submitter")
    with pytest.raises(RequestRejectedError, match="requires the role admin"):
        mia.set_user("root", blocked=True)
    assert main([*shell, "block", "mia@example.org"]) == 0
    assert main([*shell, "list"]) == 0
    assert f"{datetime.now(UTC):%Y-%m-%d}" in capsys.readouterr().out


def test_without_a_default_role_only_existing_users_can_sign_in(
    team: Lab, provider: IdentityProvider
) -> None:
    team.children["api"].stop()
    team.start_api(UCURVE_ACCESS="tokens", **provider.environment(role=""))
    anybody = Client(team.url, "")
    with pytest.raises(RequestRejectedError, match=r"no user eve@example\.org") as refusal:
        anybody.sign_in(provider.id_token(NONCE, email="eve@example.org"), NONCE)
    assert refusal.value.status == 403
    team.client.set_user("eve@example.org", role="viewer")
    made = anybody.sign_in(provider.id_token(NONCE, email="Eve@Example.org"), NONCE)
    assert Client(team.url, made.secret).me().user.role == "viewer"
