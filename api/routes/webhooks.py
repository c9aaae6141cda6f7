"""Webhook calls: sent by a thread of their own, so that a slow receiver delays at most other calls, by ten seconds.

The lab sends only to addresses of the public internet. On a machine where everybody is trusted (UCURVE_ACCESS=open) loopback and
private networks are allowed too; else the hosts named in UCURVE_WEBHOOK_HOSTS (with a comma between). Link-local addresses,
where clouds keep their credentials, are never called. The address that was checked is the one that is called, whatever the name
stands for a moment later; redirects are not followed, and nothing of the answer but its status is kept.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.errors import invalid, not_found
from db import webhooks
from db.models import Experiment
from db.session import open_session
from ucurve.schemas.webhooks import SECRET, Counts, Notice, Told, host_of, signature
from ucurve.settings import settings

LOOK_SECONDS = 1.0
TIMEOUT = 10.0
NAT64 = ipaddress.ip_network("64:ff9b::/96")
CREDENTIALS = ipaddress.ip_address("fd00:ec2::254")  # a cloud's, on IPv6
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["experiments"])


class RefusedAddressError(ValueError):
    """An address that this lab does not call."""


@router.get("/experiments/{id}/notices", summary="Webhook calls about it")
def of_experiment(id: int) -> list[Notice]:
    """Made or due, the newest first. Only the host of an address is shown, since the rest may be a secret."""
    with open_session() as session:
        if session.get(Experiment, id) is None:
            raise not_found(f"experiment {id}")
        rows = webhooks.of_experiment(session, id)
    copied = Notice.model_fields.keys() - {"host"}
    return [
        Notice(**{name: getattr(row, name) for name in copied}, host=host_of(row.url))
        for row in rows
    ]


def check(url: str | None) -> None:
    """Refuse a submission whose webhook could never be called: without a secret nobody could tell our calls from others'."""
    if url is None:
        return
    if not settings().webhook_secret:
        raise invalid("/webhook", f"This lab sends no webhooks: set {SECRET} for its API.")
    host = host_of(url)
    try:
        _allowed(host, str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)))
    except RefusedAddressError as error:
        raise invalid("/webhook", f"{error}.") from error
    except ValueError:  # a name: looked up when it is called
        return


def _allowed(host: str, address: str) -> None:
    """Raises RefusedAddressError for an address that must not be called."""
    found = _within(ipaddress.ip_address(address.partition("%")[0]))
    if found.is_link_local or found.is_multicast or found.is_unspecified or found == CREDENTIALS:
        raise RefusedAddressError(
            f"{host} is a link-local, multicast or unspecified address, which this lab never calls"
        )
    if (
        not found.is_global
        and settings().access != "open"
        and host.lower() not in settings().webhook_hosts
    ):
        raise RefusedAddressError(
            f"{host} is in a private network: name it in UCURVE_WEBHOOK_HOSTS of the API to allow it"
        )


def _within(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does: mapped, by 6to4 or by a NAT64 gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    gateway = ipaddress.IPv4Address(address.packed[-4:]) if address in NAT64 else None
    return address.ipv4_mapped or address.sixtofour or gateway or address


def send(url: str, notice: int, body: bytes) -> None:
    """One try. Where it was not delivered: ValueError (as RefusedAddressError), OSError, httpx.HTTPError, httpx.InvalidURL."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = list(
        dict.fromkeys(
            str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
    )
    for address in addresses:
        _allowed(host, address)
    timestamp = str(int(time.time()))
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "ucurve",
        "Ucurve-Notice": str(notice),
        "Ucurve-Timestamp": timestamp,
        "Ucurve-Signature": signature(settings().webhook_secret or "", timestamp, body),
    }
    at = httpx.URL(url).copy_with(host=addresses[0])
    with (
        httpx.Client(timeout=TIMEOUT, trust_env=False) as client,
        client.stream(
            "POST", at, content=body, headers=headers, extensions={"sni_hostname": host}
        ) as answer,
    ):
        if not answer.is_success:
            raise httpx.HTTPError(f"it answered {answer.status_code}")


def deliver_one() -> bool:
    """Try a notice that is due; False when there is none."""
    with open_session() as session:
        due = webhooks.take(session)
        session.commit()
        if due is None:
            return False
        counts = Counts(
            total=due.num_points, done=due.num_done, failed=due.num_failed, reused=due.num_reused
        )
        url = f"{settings().url.rstrip('/')}/v1/experiments/{due.experiment}"
        body = Told(
            event=due.event,
            id=due.experiment,
            name=due.name,
            state=due.state,
            counts=counts,
            url=url,
        ).model_dump_json()
        try:
            send(due.url, due.id, body.encode())
        except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL, KeyError) as error:
            webhooks.not_delivered(session, due.id, due.num_tries, _reason(error))
            log.warning(
                "notice %d to %s was not delivered: %s", due.id, host_of(due.url), _reason(error)
            )
        else:
            webhooks.delivered(session, due.id)
        session.commit()
    return True


def _reason(error: Exception) -> str:
    """In a few words, without the address."""
    if isinstance(error, KeyError):
        return f"{SECRET} is not set"
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {TIMEOUT:.0f} s"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    if isinstance(error, httpx.TransportError):
        return "nobody answers there"
    if isinstance(
        error, UnicodeError | httpx.InvalidURL
    ):  # a host that can be typed, but not looked up
        return "this is no address"
    return str(error)


def keep_delivering(stop: threading.Event) -> None:
    """Deliver until told to stop; a database that does not answer is asked again."""
    while not stop.wait(LOOK_SECONDS):
        try:
            while not stop.is_set() and deliver_one():
                pass
        except (DBAPIError, PoolTimeoutError) as error:
            log.warning(
                "the database does not answer, notices wait: %s", str(error).splitlines()[0]
            )
