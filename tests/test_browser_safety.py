"""The dashboard answers under its own names only, is never framed, and reads no large bodies."""

from __future__ import annotations

import socket

import httpx
import pytest
from conftest import Lab
from playwright.sync_api import Page, expect

SHARED_LAB = True
PATHS = ["/", "/login", "/_stcore/health", "/pulse/none", "/files/none", "/static/none.js"]


@pytest.mark.parametrize("path", PATHS)
def test_every_response_forbids_frames_and_unknown_hosts(address: str, path: str) -> None:
    answer = httpx.get(address + path, timeout=60)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    refused = httpx.get(address + path, headers={"Host": "evil.example"}, timeout=60)
    assert (refused.status_code, "UCURVE_HOSTS" in refused.text) == (400, True)
    assert refused.headers["X-Frame-Options"] == "DENY"


def test_the_websocket_is_refused_to_unknown_hosts(address: str) -> None:
    assert b" 101 " in handshake(address, httpx.URL(address).netloc.decode())
    assert b" 403 " in handshake(address, "evil.example")


def handshake(address: str, host: str) -> bytes:
    """Return the first line of the answer to a websocket handshake under this name."""
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        head = (
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: http://{host}\r\n\r\n"
        )
        connection.sendall(head.encode())
        return connection.recv(4096).split(b"\r\n")[0]


def test_large_bodies_are_refused_before_they_are_read(address: str) -> None:
    answer = httpx.post(f"{address}/login", content=b"token=" + b"x" * 100_000, timeout=60)
    assert answer.status_code == 413
    chunked = httpx.post(f"{address}/login", content=iter([b"token=x"]), timeout=60)
    assert chunked.status_code == 413


def test_pages_work_under_these_rules(lab: Lab, page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("Experiments").first).to_be_visible(timeout=60_000)
