"""Users and roles in a lab that requires tokens: access to every route, and quotas."""

from __future__ import annotations

import sys
import threading

import httpx
import pytest
from conftest import Lab, refused
from fastapi.routing import APIRoute
from sqlalchemy import text

from db.session import open_session
from ucurve.client import Client, RequestRejectedError
from ucurve.schemas.users import ROLES, Role

TEST_KINDS = True
NOISE = {
    "kind": "gaussian_perturbation",
    "suite": "tiny",
    "checkpoints": ["seed0-step437-tokens894976", "seed0-step7000-tokens14336000"],
    "gammas": [0.2],
    "draws": 2,
    "scale": "init_std",
}  # six points


# Roles of the routes that write; those that only read (GET) are for viewers. Add new routes here.
WRITING: dict[str, Role] = {  # and what not every viewer may read
    "GET /v1/audit": "admin",
    "POST /v1/plan": "viewer",
    "POST /v1/tokens": "viewer",
    "DELETE /v1/tokens/{id}": "viewer",
    "DELETE /v1/sessions/current": "viewer",
    "PUT /v1/users/{name}": "admin",
    "POST /v1/uploads": "submitter",
    "POST /v1/suites/preview": "submitter",
    "POST /v1/failures/{cause}/retry": "submitter",
    "POST /v1/experiments": "submitter",
    "POST /v1/experiments/{id}/extend": "submitter",
    "POST /v1/experiments/{id}/{action}": "submitter",
    "PATCH /v1/experiments/{id}": "submitter",
    "DELETE /v1/experiments/{id}": "submitter",
    "PUT /v1/experiments/{id}/star": "viewer",
    "DELETE /v1/experiments/{id}/star": "viewer",
    "POST /v1/import/catalogue": "admin",
    "POST /v1/import/experiments": "admin",
    "POST /v1/import/measurements": "admin",
    "POST /v1/references": "submitter",
    "DELETE /v1/references/{id}": "submitter",
    "POST /v1/studies": "submitter",
    "POST /v1/suites": "submitter",
    "POST /v1/datasets": "submitter",
}
OPEN = ("GET /", "GET /health/live", "GET /health/ready", "POST /v1/sessions")


def routes() -> dict[str, APIRoute]:
    """Every route of the app, whoever included it: "GET /v1/me"."""
    from api.main import app

    found: dict[str, APIRoute] = {}
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        if isinstance(route, APIRoute):
            found |= {f"{method} {route.path_format}": route for method in route.methods or ()}
        elif hasattr(route, "original_router"):
            waiting += route.original_router.routes
    assert len(found) > 25, "the walk misses routes: this test would prove little"
    return found


def needs(name: str) -> Role | None:
    """The role a route is for; None: for everybody."""
    if name in OPEN:
        return None
    assert name.startswith("GET ") or name in WRITING, (
        f"{name} is new: say in WRITING who may use it, and declare it"
    )
    return WRITING.get(name, "viewer")


def test_every_route_declares_its_role() -> None:
    from api.auth.authorization import declared_role, required_role

    for name, route in routes().items():
        wanted = needs(name) or "public"
        assert required_role(route) == wanted, (
            f"{name} is open to {required_role(route)}; the table of this test says {wanted}"
        )
        assert declared_role(route) or name.startswith("GET "), (
            f"{name} does not declare who may use it (api/auth/authorization.py)"
        )
    assert not {*WRITING, *OPEN} - routes().keys(), "the table names routes that are gone"


def test_each_route_admits_exactly_the_roles_of_the_table(
    team: Lab, people: dict[Role, Client]
) -> None:
    shown = {None: {}, **{role: client._http.headers for role, client in people.items()}}
    table, wrong = [], []
    with httpx.Client(base_url=team.url, timeout=30) as http:
        for name in sorted(routes(), key=lambda name: name.split()[::-1]):
            method, path = name.split()
            for hole, filled in {
                "{action}": "cancel",
                "{id}": "999999",
                "{name}": "nobody-there",
            }.items():
                path = path.replace(hole, filled)
            need, answers = needs(name), []
            for role, headers in shown.items():
                status = http.request(method, path, headers=headers).status_code
                may = need is None or (role is not None and ROLES.index(role) >= ROLES.index(need))
                expected = "allowed" if may else "401" if role is None else "403"
                answers.append(str(status) if status in (401, 403) else "allowed")
                if answers[-1] != expected or status >= 500:
                    wrong.append(f"{name} answers {status} to {role}: it should be {expected}")
            table.append(f"{name:50} " + " ".join(f"{answer:9}" for answer in answers))
    heading = f"{'route':50} " + " ".join(f"{role or 'nobody':9}" for role in shown)
    sys.stdout.write("\n".join(["", heading, *table, ""]))  # to be seen with pytest -s
    assert not wrong, "\n".join(wrong)


def test_health_and_static_documentation_need_no_token(team: Lab) -> None:
    for path in ("/health/live", "/health/ready", "/docs", "/v1/openapi.json"):
        assert httpx.get(team.url + path).status_code == 200
    assert httpx.get(f"{team.url}/v1/no-such-thing").status_code == 401  # not even what is there


def test_a_lab_always_keeps_an_admin(
    database_url: str, team: Lab, people: dict[Role, Client]
) -> None:
    assert people["admin"].set_user("root", role="viewer").role == "viewer"
    assert "only admin" in refused(409, lambda: people["admin"].set_user("ada", role="submitter"))
    assert people["admin"].set_user("root", role="admin").role == "admin"


def test_only_owner_and_admins_change_an_experiment_while_others_read_and_extend_it(
    team: Lab, people: dict[Role, Client], sam: Client, sue: Client
) -> None:
    mine = sam.submit({"kind": "slow_count", "to": [1]})
    assert mine.owner == "sam"
    for verb in ("pause", "cancel", "resume", "retry"):
        said = refused(403, lambda verb=verb: getattr(sue, verb)(mine.id))
        assert f"Only sam and admins can {verb} experiment {mine.id}" in said
        assert "clone" in said
    assert people["viewer"].experiment(mine.id).state == "queued"
    assert "requires the role submitter; vera is a viewer" in refused(
        403, lambda: people["viewer"].submit(NOISE)
    )
    assert people["viewer"].plan(NOISE).num_points > 0
    assert sam.pause(mine.id).state == "paused"
    assert people["admin"].cancel(mine.id).state == "cancelled"
    first = sam.submit(NOISE)
    other = sue.extend(first.id, 1)
    assert other.owner == "sue"
    assert sam.cancel(first.id).state == sue.cancel(other.id).state == "cancelled"
    sam.star(first.id)
    address = f"{team.url}/v1/experiments/{first.id}/events"
    for _ in range(3):  # within half a second they share what changed, and not whose star it is
        said = [
            httpx.get(address, headers=dict(client._http.headers)).text for client in (sam, sue)
        ]
        assert [('"starred":true' in one, '"starred":false' in one) for one in said] == [
            (True, False),
            (False, True),
        ]


def test_limits_are_shown_in_the_plan_and_enforced_for_concurrent_submissions(
    people: dict[Role, Client], team: Lab
) -> None:
    admin = people["admin"]
    admin.set_user("lim", role="submitter", most_planned=8, most_queued=10)
    lim = Client(team.url, admin.create_token("test", owner="lim").secret)
    assert lim.me().user.own_limits == ["most_planned", "most_queued"]

    def spec(start: int, num: int) -> dict[str, object]:
        return {"kind": "slow_count", "to": list(range(start, start + num))}

    large = spec(100, 9)
    assert any("9 points; the limit of lim is 8" in warning for warning in lim.plan(large).warnings)
    assert "users set lim --most-planned 9" in refused(422, lambda: lim.submit(large))
    assert lim.experiments(owner="lim").total == 0
    for turn in range(3):
        outcomes: list[str] = []
        together = threading.Barrier(2)

        def submit(
            start: int, together: threading.Barrier = together, outcomes: list[str] = outcomes
        ) -> None:
            client = Client(team.url, lim._http.headers["Authorization"].split()[1])
            together.wait()
            try:
                outcomes.append(str(client.submit(spec(start, 6)).id))
            except RequestRejectedError as error:
                outcomes.append(f"{error.status} {error.problem.errors[0].pointer} {error}")

        both = [
            threading.Thread(target=submit, args=(200 + 100 * turn + 50 * half,)) for half in (0, 1)
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        admitted = [outcome for outcome in outcomes if outcome.isdigit()]
        assert len(admitted) == 1, outcomes
        assert any(
            outcome.startswith("429 /spec") and "12 points of lim would be queued" in outcome
            for outcome in outcomes
        )
        assert any("6 more would exceed" in warning for warning in lim.plan(spec(900, 6)).warnings)
        assert lim.me().user.num_queued == 6
        lim.cancel(int(admitted[0]))
        refilled = lim.submit(spec(900 + 10 * turn, 8))
        assert "the limit is 10" in refused(429, lambda id=int(admitted[0]): lim.retry(id))
        lim.cancel(refilled.id)
    assert admin.set_user("lim", most_planned=None).own_limits == ["most_queued"]


def test_open_mode_accepts_tokens_and_rejects_other_machines(
    team: Lab, sam: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.auth import authentication
    from ucurve.settings import SettingsError, settings

    monkeypatch.setenv("UCURVE_ACCESS", "open")
    monkeypatch.setenv("UCURVE_OWNER", "root")
    here, there = ("127.0.0.1", 1), ("192.168.7.7", 1)
    local = authentication.authenticate(None, here)
    assert (local.name, local.role) == ("root", "admin")
    shown = authentication.authenticate(str(sam._http.headers["Authorization"]), there)
    assert (shown.name, shown.role) == ("sam", "submitter")
    with pytest.raises(authentication.UnauthenticatedError, match="requires an access token"):
        authentication.authenticate(None, there)
    with pytest.raises(authentication.UnauthenticatedError, match="token is unknown"):
        authentication.authenticate("Bearer ucurve_nonsense", here)
    monkeypatch.setenv("UCURVE_ACCESS", "opne")
    with pytest.raises(SettingsError, match=r"UCURVE_ACCESS is 'opne'.*`tokens`: every request"):
        settings()


def test_results_are_shared_between_users_and_more_draws_measure_only_new_points(
    team: Lab, sam: Client, sue: Client
) -> None:
    team.start_worker()
    first = sam.wait(sam.submit(NOISE).id, timeout=120)
    assert (first.state, first.progress.reused) == ("done", 0)
    second = sue.submit(NOISE)
    assert (second.owner, second.state, second.progress.reused) == (
        "sue",
        "done",
        first.progress.total,
    )
    third = sue.wait(sue.extend(second.id, 2).id, timeout=120)
    assert (first.progress.total, third.progress.total, third.progress.reused) == (6, 10, 6)
    with open_session() as session:
        assert session.scalar(text("SELECT count(*) FROM attempts")) == 10
