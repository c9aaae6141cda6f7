"""Deliver webhooks in a background thread, so that a slow receiver delays only other deliveries.

The host is resolved once: exactly the addresses that passed the guard (api/webhook_addresses.py)
are connected to, one after the other until one accepts. Redirects are not followed, and nothing of
the response but its status is stored.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api import metrics
from api.webhook_addresses import resolve
from db import webhooks
from db.session import open_session
from ucurve.schemas.webhooks import SECRET, Counts, WebhookPayload, host_of, signature
from ucurve.settings import settings

POLL_SECONDS = 1.0
TIMEOUT = 10.0  # for the response
CONNECT_TIMEOUT = 10.0  # for all addresses together
MAX_ADDRESSES = 4
NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout)  # no byte of the request was sent

# OpenSSL's X509_V_ERR_* -> what is wrong with a certificate, and what to do
UNTRUSTED = (
    "is not signed by a trusted authority: send the full chain, or put the authority's "
    "certificate into SSL_CERT_FILE of the API"
)
CERTIFICATE_ERRORS = {
    9: "is not valid yet: check its dates, and the clock of this machine",
    10: "has expired: renew it",
    18: "is self-signed: use one of a public authority, or put it into SSL_CERT_FILE of the API",
    19: UNTRUSTED,
    20: UNTRUSTED,
    21: UNTRUSTED,
    62: "is for another host: use a name that it lists",
    64: "is for another host: use a name that it lists",
}

E = TypeVar("E", bound=BaseException)

log = logging.getLogger(__name__)


def send(url: str, delivery: int, body: bytes) -> None:
    """Try once. Raises ValueError, OSError, httpx.HTTPError or httpx.InvalidURL."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = resolve(host, port)[:MAX_ADDRESSES]
    timestamp, secret = str(int(time.time())), settings().webhook_secret
    if not secret:
        raise ValueError(f"{SECRET} is not set")
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "ucurve",
        "Ucurve-Notice": str(delivery),
        "Ucurve-Timestamp": timestamp,
        "Ucurve-Signature": signature(secret, timestamp, body),
    }
    timeout = httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT / len(addresses))
    failures: list[httpx.TransportError] = []
    with httpx.Client(
        timeout=timeout, trust_env=False, verify=httpx.create_ssl_context()
    ) as client:
        for address in addresses:
            try:
                _post(client, httpx.URL(url).copy_with(host=address), host, headers, body)
            except NO_CONNECTION as error:
                failures.append(error)
            else:
                return
    # A certificate that was refused says more than a connection that was.
    raise next((error for error in failures if _cause(error, ssl.SSLError)), failures[0])


def _post(
    client: httpx.Client, at: httpx.URL, host: str, headers: dict[str, str], body: bytes
) -> None:
    with client.stream(
        "POST", at, content=body, headers=headers, extensions={"sni_hostname": host}
    ) as response:
        if not response.is_success:
            raise httpx.HTTPError(f"it answered {response.status_code}")


def deliver_one() -> bool:
    """Try one delivery that is due; False when there is none."""
    with open_session() as session:
        due = webhooks.claim_delivery(session)
        session.commit()
        if due is None:
            return False
        try:
            send(due.url, due.id, _payload(due).model_dump_json().encode())
        except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            reason = failure_reason(error, host_of(due.url))
            webhooks.record_failure(session, due.id, due.num_tries, reason)
            metrics.count_webhook(delivered=False)
            log.warning("webhook %d to %s not delivered: %s", due.id, host_of(due.url), reason)
        else:
            webhooks.record_success(session, due.id)
            metrics.count_webhook(delivered=True)
        session.commit()
    return True


def _payload(due: Row[Any]) -> WebhookPayload:
    root = settings().url.rstrip("/")
    return WebhookPayload(
        event=due.event,
        id=due.experiment,
        name=due.name,
        state=due.state,
        counts=Counts(
            total=due.num_points, done=due.num_done, failed=due.num_failed, reused=due.num_reused
        ),
        url=f"{root}/v1/experiments/{due.experiment}",
    )


def failure_reason(error: Exception, host: str) -> str:
    """Return why a delivery failed and what to do, without the URL, which may hold a secret."""
    if certificate := _cause(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} {_certificate_problem(certificate)}"
    if tls := _cause(error, ssl.SSLError):
        return f"no TLS connection ({tls.reason or tls}): check that it is an https:// address"
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return f"no response within {TIMEOUT:.0f} s"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, httpx.ConnectError):
        return "connection refused" if _cause(error, ConnectionRefusedError) else "no connection"
    if isinstance(error, httpx.TransportError):
        return "the connection broke before a response"
    if isinstance(error, UnicodeError | httpx.InvalidURL):  # can be typed, but not resolved
        return "not a valid host name"
    return str(error)


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    return CERTIFICATE_ERRORS.get(error.verify_code, f"is not valid: {error.verify_message}")


def _cause(error: BaseException, wanted: type[E]) -> E | None:
    """Return the exception of this type that led to the error."""
    return next((cause for cause in _causes(error) if isinstance(cause, wanted)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def keep_delivering(stop: threading.Event) -> None:
    """Deliver until stopped; while the database is unavailable, wait and retry."""
    while not stop.wait(POLL_SECONDS):
        try:
            while not stop.is_set() and deliver_one():
                pass
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning("database unavailable, webhooks wait: %s", str(error).splitlines()[0])
