"""Webhooks: an experiment's address is told when it is done or failed, and whoever is told can prove by whom.

    POST https://example.org/hook
    Ucurve-Notice: 17
    Ucurve-Timestamp: 1764000000
    Ucurve-Signature: sha256=5257a869...

    {"event": "done", "id": 7, "name": "noise", "state": "done", "counts": {"total": 40, "done": 39, "failed": 1, "reused": 12},
     "url": "http://lab.example.org:8000/v1/experiments/7"}

The signature is HMAC-SHA256, with the lab's UCURVE_WEBHOOK_SECRET, over the timestamp, a dot and the body as it was sent:

    signature(secret, request.headers["Ucurve-Timestamp"], body) == request.headers["Ucurve-Signature"]

Any 2xx answer within 10 seconds is a delivery; else it is tried again, ever more slowly, for a day. A notice may come twice (the
answer was lost, the lab was killed): Ucurve-Notice is the same then. An experiment that is reopened and ends again is told again.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, StringConstraints

SECRET = "UCURVE_WEBHOOK_SECRET"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of Ucurve-Signature; compare it with hmac.compare_digest."""
    return (
        "sha256="
        + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    )


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise ValueError(f"this is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook URL begins with http:// or https://")
    if parts.username or parts.password:
        raise ValueError("remove name and password from the URL: requests are authenticated by their signature")
    return url


def host_of(url: str) -> str:
    """What may be shown of an address: the rest of it may be a secret."""
    parts = urlsplit(url)
    return parts.hostname or ""


Webhook = Annotated[
    str, StringConstraints(max_length=2000, strip_whitespace=True), AfterValidator(_address)
]


def problem_of(text: str) -> str | None:
    """What is wrong with an address as typed; nothing where none is."""
    try:
        _address(text.strip() or "http://none")
    except ValueError as error:
        return f"{str(error).capitalize()}."
    return None


class Counts(BaseModel):
    total: int
    done: int
    failed: int
    reused: int


class WebhookPayload(BaseModel):
    """The body of a call."""

    event: Literal["done", "failed"]
    id: int
    name: str
    state: str
    counts: Counts
    url: str


class WebhookDelivery(BaseModel):
    """A call that was made or is due."""

    id: int
    host: str
    event: Literal["done", "failed"]
    num_tries: int
    created_at: datetime
    due_at: datetime | None  # None: delivered, or given up
    delivered_at: datetime | None
    error: str | None  # of the last try
