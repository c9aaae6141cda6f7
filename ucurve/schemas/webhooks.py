"""Webhooks: a URL is notified when an experiment finishes or fails. Requests are signed.

    POST https://example.org/hook
    Ucurve-Notice: 17
    Ucurve-Timestamp: 1764000000
    Ucurve-Signature: sha256=5257a869...

    {"event": "done", "id": 7, "name": "noise", "state": "done",
     "counts": {"total": 40, "done": 39, "failed": 1, "reused": 12},
     "url": "http://lab.example.org:8000/v1/experiments/7"}

The signature is HMAC-SHA256, with the lab's UCURVE_WEBHOOK_SECRET, over the timestamp, a dot and
the body as it was sent:

    signature(secret, headers["Ucurve-Timestamp"], body) == headers["Ucurve-Signature"]

Any 2xx response within 10 seconds is a delivery. Otherwise delivery is retried with growing delays
for a day. A delivery can arrive twice (the response was lost, the lab was restarted), with the same
Ucurve-Notice. An experiment that is retried and ends again is delivered again.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, StringConstraints

SECRET = "UCURVE_WEBHOOK_SECRET"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of Ucurve-Signature; compare it with hmac.compare_digest."""
    message = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for an invalid number
    except ValueError as error:
        raise ValueError(f"this is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a webhook URL begins with http:// or https://")
    if parts.username or parts.password:
        raise ValueError(
            "remove name and password from the URL: requests are authenticated by their signature"
        )
    return url


def host_of(url: str) -> str:
    """Return the host of a URL: the part that may be shown, since the rest may hold a secret."""
    return urlsplit(url).hostname or ""


Webhook = Annotated[
    str, StringConstraints(max_length=2000, strip_whitespace=True), AfterValidator(_check_url)
]


def problem_of(text: str) -> str | None:
    """Return what is wrong with a typed URL, None when it is valid or empty."""
    try:
        _check_url(text.strip() or "http://none")
    except ValueError as error:
        return f"{str(error).capitalize()}."
    return None


class Counts(BaseModel):
    """Point counts of the experiment."""

    total: int = Field(description="All points.")
    done: int = Field(description="Finished points, reused ones included.")
    failed: int = Field(description="Failed points.")
    reused: int = Field(description="Points that were finished before the submission.")


class WebhookPayload(BaseModel):
    """Body of a webhook request."""

    event: Literal["done", "failed"] = Field(description="What happened to the experiment.")
    id: int = Field(description="Number of the experiment.")
    name: str = Field(description="Name of the experiment.")
    state: str = Field(description="Its state when the request was sent.")
    counts: Counts = Field(description="Point counts.")
    url: str = Field(description="URL of the experiment in the API.")


class WebhookDelivery(BaseModel):
    """A past or pending delivery."""

    id: int = Field(description="Value of the header Ucurve-Notice.")
    host: str = Field(description="Host of the URL.")
    event: Literal["done", "failed"] = Field(description="What happened to the experiment.")
    num_tries: int = Field(description="Number of attempts so far.")
    created_at: datetime = Field(description="Time of the event.")
    due_at: datetime | None = Field(
        description="Time of the next attempt; null when delivered or given up."
    )
    delivered_at: datetime | None = Field(description="Time of the successful attempt.")
    error: str | None = Field(description="Why the last attempt failed.")
