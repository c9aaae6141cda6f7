"""Which webhook URLs this lab calls: a guard against requests into private networks (SSRF).

The lab calls addresses of the public internet. With UCURVE_ACCESS=open, where all users of the
machine are trusted, loopback and private networks are allowed too; otherwise only the hosts listed
in UCURVE_WEBHOOK_HOSTS (comma-separated). Link-local addresses, where clouds serve credentials, are
never called.
"""

from __future__ import annotations

import ipaddress
import socket

from api.errors import invalid
from ucurve.schemas.webhooks import SECRET, host_of
from ucurve.settings import settings

NAT64 = ipaddress.ip_network("64:ff9b::/96")
CLOUD_CREDENTIALS = ipaddress.ip_address("fd00:ec2::254")  # a metadata service on IPv6
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(ValueError):
    """An address that this lab does not call."""


def check_webhook(url: str | None) -> None:
    """Answer 422 for a webhook that this lab could never call."""
    if url is None:
        return
    if not settings().webhook_secret:
        raise invalid("/webhook", f"This lab sends no webhooks: set {SECRET} for its API.")
    host = host_of(url)
    try:
        check_address(host, str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)))
    except ForbiddenAddressError as error:
        raise invalid("/webhook", f"{error}.") from error
    except ValueError:  # a host name: resolved and checked when it is called
        return


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host that may be called, in the resolver's order.

    Raises ForbiddenAddressError where none of them may, OSError where the host is unknown.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    permitted, refusal = [], ForbiddenAddressError(f"{host} has no address")
    for address in dict.fromkeys(str(info[4][0]) for info in infos):
        try:
            check_address(host, address)
        except ForbiddenAddressError as error:
            refusal = error
        else:
            permitted.append(address)
    if not permitted:
        raise refusal
    return permitted


def check_address(host: str, address: str) -> None:
    """Raise ForbiddenAddressError for an address that must not be called."""
    target = _embedded_ipv4(ipaddress.ip_address(address.partition("%")[0]))
    if (
        target.is_link_local
        or target.is_multicast
        or target.is_unspecified
        or target == CLOUD_CREDENTIALS
    ):
        raise ForbiddenAddressError(
            f"{host} is a link-local, multicast or unspecified address, which this lab never calls"
        )
    if (
        not target.is_global
        and settings().access != "open"
        and host.lower() not in settings().webhook_hosts
    ):
        raise ForbiddenAddressError(
            f"{host} is in a private network: add it to UCURVE_WEBHOOK_HOSTS of the API to allow it"
        )


def _embedded_ipv4(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one leads to: mapped, by 6to4 or by a NAT64 gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    gateway = ipaddress.IPv4Address(address.packed[-4:]) if address in NAT64 else None
    return address.ipv4_mapped or address.sixtofour or gateway or address
