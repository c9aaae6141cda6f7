"""Audit: each request that changed something writes one record, in the transaction of its change.

A record holds who (user, access token), what (action, object), from where (client, address), and
those fields of the request that are listed here: secrets are not.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from api.auth.authorization import Principal
from db import audit
from db.unit_of_work import UnitOfWork
from ucurve.schemas.audit import CLIENT_SOURCES, SOURCE_HEADER

# (method, path) -> action, object. In braces: parameters of the path, else fields of the answer.
ACTIONS = {
    ("POST", "/v1/experiments"): ("submit", "experiment {id}"),
    ("POST", "/v1/experiments/{id}/extend"): ("extend", "experiment {id}"),
    ("POST", "/v1/experiments/{id}/{action}"): ("{action}", "experiment {id}"),
    ("PATCH", "/v1/experiments/{id}"): ("edit", "experiment {id}"),
    ("DELETE", "/v1/experiments/{id}"): ("delete", "experiment {id}"),
    ("PUT", "/v1/experiments/{id}/star"): ("star", "experiment {id}"),
    ("DELETE", "/v1/experiments/{id}/star"): ("unstar", "experiment {id}"),
    ("POST", "/v1/failures/{cause}/retry"): ("retry", "failures {cause}"),
    ("POST", "/v1/studies"): ("submit", "experiments {ids}"),
    ("POST", "/v1/suites"): ("register", "suite {name}"),
    ("POST", "/v1/datasets"): ("register", "dataset {name}"),
    ("POST", "/v1/references"): ("add", "reference {id}"),
    ("DELETE", "/v1/references/{id}"): ("remove", "reference {id}"),
    ("PUT", "/v1/users/{name}"): ("change", "user {name}"),
    ("POST", "/v1/tokens"): ("create", "token {id}"),
    ("DELETE", "/v1/tokens/{id}"): ("revoke", "token {id}"),
    ("POST", "/v1/sessions"): ("sign in", "token {id}"),
    ("DELETE", "/v1/sessions/current"): ("sign out", "token {token}"),
    ("POST", "/v1/import/catalogue"): ("import", "catalogue"),
    ("POST", "/v1/import/measurements"): ("import", "measurements"),
    ("POST", "/v1/import/experiments"): ("import", "experiment {id}"),
}
RECORDED = frozenset(  # fields whose values are recorded
    (
        *("name", "owner", "role", "most_queued", "most_planned", "blocked", "days"),
        *("tags", "priority", "archived", "fresh", "draws", "changes", "kind", "origin"),
        *("path", "hub", "preset", "text", "train", "validation", "evaluation", "suite"),
        *("importer", "citation", "title"),
    )
)
MAX_PARSED_BYTES = 2**18  # larger bodies (imports, files) are not read again
PLACEHOLDER = re.compile(r"\{(\w+)\}")
MAX_LENGTH = 500  # characters of a recorded value


def record(unit: UnitOfWork, scope: Scope, body: bytes, answer: bytes) -> None:
    """Append the record of a successful request to its unit."""
    route_path = str(getattr(scope.get("route"), "path_format", scope["path"]))
    action, object = ACTIONS.get(
        (scope["method"], route_path), (scope["method"].lower(), scope["path"])
    )
    fields = _answer_fields(answer)
    user = scope.get("ucurve.user") or Principal(str(fields.get("owner", "")), "viewer")
    assert isinstance(user, Principal), "authentication puts a principal into the request"
    parameters = {} if action == "extend" else scope.get("path_params", {})
    values = {**fields, "token": user.token or "-", **parameters}
    client = scope.get("client")
    with unit.session() as session:
        audit.record(
            session,
            user.name,
            _filled(action, values),
            _filled(object, values),
            source_of(scope),
            token=user.token,
            address=client[0] if client else None,
            details=details_of(action, scope, body),
        )
        session.commit()


def source_of(scope: Scope) -> str:
    """Return what the client calls itself, "api" for one that does not say."""
    name = Headers(scope=scope).get(SOURCE_HEADER, "")
    return name if name in CLIENT_SOURCES else "api"


def details_of(action: str, scope: Scope, body: bytes) -> dict[str, Any]:
    """Return the recorded fields of a request; of an edit the names of the others, too."""
    sent = _json(body)
    details = {name: _recorded(value) for name, value in sent.items() if name in RECORDED}
    if kind := _field(sent.get("spec"), "kind"):
        details["kind"] = _recorded(kind)
    if isinstance(webhook := sent.get("webhook"), str):
        details["webhook"] = urlsplit(webhook).hostname  # the rest may hold a secret
    if action == "edit" and (others := sorted(sent.keys() - details.keys())):
        details["also_changed"] = [_storable(name) for name in others]
    if action == "extend":
        details["extends"] = scope.get("path_params", {}).get("id")
    return details


def _filled(template: str, values: dict[str, Any]) -> str:
    return PLACEHOLDER.sub(lambda match: _storable(str(values.get(match[1], "-"))), template)


def _answer_fields(answer: bytes) -> dict[str, Any]:
    try:
        content = json.loads(answer) if answer else {}
    except ValueError:
        return {}
    if isinstance(content, list):
        return {"ids": ", ".join(str(_field(item, "id")) for item in content)}
    return {name: content[name] for name in ("id", "name", "owner") if name in content}


def _json(body: bytes) -> dict[str, Any]:
    """Return the body's object; the route has accepted it, so it is JSON where it was read."""
    try:
        content = json.loads(body) if body and len(body) <= MAX_PARSED_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _recorded(value: Any) -> Any:
    """Return a value of a request as it is stored: short, and as text where it is nested."""
    if value is None or isinstance(value, bool | int):
        return value
    return _storable(value if isinstance(value, str) else json.dumps(value))


def _storable(text: str) -> str:
    """Return a text without what Postgres does not store, cut where it is long."""
    text = text.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"
