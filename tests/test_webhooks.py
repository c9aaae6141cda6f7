"""Webhooks against real receivers: signatures, retries, TLS, and forbidden addresses."""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Lab
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ports import free_port
from sqlalchemy import text

from db.session import open_session
from ucurve.cli import main
from ucurve.client import RequestRejectedError
from ucurve.schemas.webhooks import signature

SHARED_LAB = True

LINEAR = {
    "kind": "linear_model",
    "num_features": 6,
    "width": 8,
    "draws": 2,
    "targets": 2,
    "seed": 11,
}

REAL_GETADDRINFO = socket.getaddrinfo


@dataclass
class Receiver:
    """What a team's own service would be: it believes only what is signed."""

    secret: str
    port: int = field(default_factory=free_port)
    status: int = 204
    calls: list[dict[str, Any]] = field(default_factory=list)
    answers: threading.Event = field(
        default_factory=threading.Event
    )  # until then it keeps who calls waiting
    server: ThreadingHTTPServer | None = None

    def start(self, certificate: Certificate | None = None) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = signature(receiver.secret, self.headers["Ucurve-Timestamp"], body)
                receiver.calls.append(
                    {
                        "body": json.loads(body),
                        "signed": hmac.compare_digest(signed, self.headers["Ucurve-Signature"]),
                        "late": abs(time.time() - int(self.headers["Ucurve-Timestamp"])),
                        "host": self.headers["Host"],
                        "notice": self.headers["Ucurve-Notice"],
                    }
                )
                receiver.answers.wait(60)
                with contextlib.suppress(BrokenPipeError):
                    self.send_response(receiver.status)
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.file)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/hook?key=hidden"


@pytest.fixture
def receiver(lab: Lab) -> Iterator[Receiver]:
    made = Receiver((lab.data / "webhook-secret").read_text())
    made.answers.set()
    yield made
    if made.server:
        made.server.shutdown()
        made.server.server_close()


def until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_each_event_is_delivered_once_and_signed_after_the_receiver_was_down(
    lab: Lab, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    made = lab.client.submit(LINEAR, name="told", webhook=receiver.url)
    lab.client.wait(made.id, timeout=60)
    until(
        lambda: (
            [one.error for one in lab.client.webhook_deliveries(made.id)] == ["connection refused"]
        )
    )
    receiver.status = 500
    receiver.start()
    until(
        lambda: [one.error for one in lab.client.webhook_deliveries(made.id)] == ["it answered 500"]
    )
    refused = len(receiver.calls)
    receiver.status = 204
    until(lambda: lab.client.webhook_deliveries(made.id)[0].delivered_at)
    again = lab.client.submit(
        LINEAR, name="reused", webhook=receiver.url
    )  # done as soon as it is asked for
    until(
        lambda: (
            lab.client.webhook_deliveries(again.id)
            and lab.client.webhook_deliveries(again.id)[0].delivered_at
        )
    )
    time.sleep(2.5)
    told = receiver.calls[refused:]
    assert [call["body"]["id"] for call in told] == [made.id, again.id]
    assert all(call["signed"] and call["late"] < 5 for call in receiver.calls)
    total = made.progress.total
    assert told[0]["body"] == {
        "event": "done",
        "id": made.id,
        "name": "told",
        "state": "done",
        "counts": {"total": total, "done": total, "failed": 0, "reused": 0},
        "url": f"{lab.url}/v1/experiments/{made.id}",
    }
    assert {call["notice"] for call in receiver.calls[: refused + 1]} == {told[0]["notice"]}
    assert told[0]["host"] == f"localhost:{receiver.port}"
    [notice] = lab.client.webhook_deliveries(made.id)
    assert (notice.host, notice.event, notice.due_at, notice.error) == (
        "localhost",
        "done",
        None,
        None,
    )
    assert (
        lab.client.experiment(made.id).webhook == receiver.url
    )  # whole only for its owner and admins: it may hold a secret


def test_a_delivery_interrupted_by_a_crash_is_repeated(lab: Lab, receiver: Receiver) -> None:
    receiver.start()
    receiver.answers.clear()
    made = lab.client.submit(LINEAR, name="killed meanwhile", webhook=receiver.url)
    until(lambda: len(receiver.calls) == 1, 60)
    lab.children["api"].kill()
    receiver.answers.set()
    lab.start_api()
    assert (
        lab.client.webhook_deliveries(made.id)[0].delivered_at is None
    )  # nobody knows whether it arrived
    with open_session() as session:
        session.execute(
            text("UPDATE notices SET due_at = now() WHERE delivered_at IS NULL")
        )  # a minute is not waited for
        session.commit()
    until(lambda: lab.client.webhook_deliveries(made.id)[0].delivered_at)
    assert [call["body"]["name"] for call in receiver.calls] == ["killed meanwhile"] * 2
    assert (
        len({call["notice"] for call in receiver.calls}) == 1
    )  # by which the receiver knows that it is the same


def test_a_delivery_is_given_up_after_a_day_with_its_reason(lab: Lab, receiver: Receiver) -> None:
    made = lab.client.submit(LINEAR, webhook=receiver.url)
    until(
        lambda: (
            lab.client.webhook_deliveries(made.id)
            and lab.client.webhook_deliveries(made.id)[0].error
        )
    )
    with open_session() as session:
        session.execute(
            text(
                "UPDATE notices SET created_at = created_at - interval '25 h', due_at = now() "
                "WHERE due_at IS NOT NULL"
            )
        )
        session.commit()
    until(lambda: lab.client.webhook_deliveries(made.id)[0].due_at is None)
    assert lab.client.webhook_deliveries(made.id)[0].error == "connection refused"


def test_an_invalid_host_name_does_not_delay_other_deliveries(lab: Lab, receiver: Receiver) -> None:
    receiver.start()
    strange = lab.client.submit(LINEAR, webhook=f"http://{'a' * 70}.example/")
    until(
        lambda: (
            lab.client.webhook_deliveries(strange.id)
            and lab.client.webhook_deliveries(strange.id)[0].error
        )
    )
    assert lab.client.webhook_deliveries(strange.id)[0].error == "not a valid host name"
    lab.client.submit(LINEAR, webhook=receiver.url)
    until(lambda: receiver.calls)


@pytest.mark.parametrize(
    ("webhook", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://0.0.0.0/", "unspecified"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http://user:pass@example.org/", "name and password"),
        ("https://example.org:99999/", "not a URL"),
        ("example.org", "http:// or https://"),
    ],
)
def test_a_forbidden_webhook_url_is_rejected_at_its_field(
    lab: Lab, webhook: str, message: str
) -> None:
    before = lab.client.experiments().total
    with pytest.raises(RequestRejectedError, match=message) as refused:
        lab.client._request("POST", "/v1/experiments", json={"spec": LINEAR, "webhook": webhook})
    assert refused.value.problem.errors[0].pointer == "/webhook"
    assert lab.client.experiments().total == before


def test_with_tokens_private_networks_are_called_only_if_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from api.webhook_addresses import ForbiddenAddressError, check_address

    monkeypatch.setenv("UCURVE_ACCESS", "tokens")
    check_address("example.org", "93.184.215.14")
    for address in (
        "127.0.0.1",
        "10.0.0.7",
        "192.168.1.1",
        "::1",
        "::ffff:10.0.0.7",
        "fd00::1",
        "2002:a00:7::1",
    ):
        with pytest.raises(ForbiddenAddressError, match="UCURVE_WEBHOOK_HOSTS"):
            check_address("inside", address)
    monkeypatch.setenv("UCURVE_WEBHOOK_HOSTS", "relay, inside")
    check_address("inside", "10.0.0.7")
    for address in (
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "fe80::1%eth0",
        "224.0.0.1",
    ):
        with pytest.raises(ForbiddenAddressError, match="never calls"):
            check_address("inside", address)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate of some host, with its key, in one file."""

    file: Path

    @classmethod
    def write(cls, file: Path, host: str = "localhost", days: int = 1) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
        return cls(file)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that this process calls itself, on a machine where all users are trusted."""
    monkeypatch.setenv("UCURVE_ACCESS", "open")
    monkeypatch.setenv("UCURVE_WEBHOOK_SECRET", "secret")
    receiver = Receiver("secret")
    receiver.answers.set()
    yield receiver
    if receiver.server:
        receiver.server.shutdown()
        receiver.server.server_close()


def failure(url: str) -> str:
    from api.background.webhook_delivery import failure_reason, send

    with pytest.raises(httpx.HTTPError) as raised:
        send(url, 1, b"{}")
    return failure_reason(raised.value, "localhost")


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("localhost", 1, False, "is self-signed: .* SSL_CERT_FILE"),
        ("localhost", -1, True, "has expired: renew it"),
        ("elsewhere.example", 1, True, "is for another host: use a name that it lists"),
    ],
)
def test_a_bad_certificate_is_reported_with_its_reason_and_remedy(
    direct: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    days: int,
    trusted: bool,
    reason: str,
) -> None:
    certificate = Certificate.write(tmp_path / "certificate.pem", host, days)
    direct.start(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    message = failure(f"https://localhost:{direct.port}/hook?key=hidden")
    assert re.fullmatch(f"the certificate of localhost {reason}.*", message), message
    assert not direct.calls


def test_a_certificate_of_a_private_authority_is_trusted_through_ssl_cert_file(
    direct: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.background.webhook_delivery import send

    certificate = Certificate.write(tmp_path / "certificate.pem")
    direct.start(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    send(f"https://localhost:{direct.port}/hook", 1, b"{}")
    assert [call["signed"] for call in direct.calls] == [True]


def test_a_receiver_without_tls_is_reported(direct: Receiver) -> None:
    direct.start()
    assert "no TLS connection" in failure(f"https://localhost:{direct.port}/hook")


def test_each_permitted_address_is_tried_until_one_connects(
    direct: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api import webhook_addresses
    from api.background.webhook_delivery import send

    addresses = ["169.254.169.254", "127.0.0.9", "127.0.0.1"]  # forbidden, refusing, answering
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(webhook_addresses.socket, "getaddrinfo", lambda *args, **more: infos)
    assert webhook_addresses.resolve("relay.example", 80) == addresses[1:]
    direct.start()
    with monkeypatch.context() as patch:  # the guard alone looks names up; connections use numbers
        patch.setattr(webhook_addresses, "resolve", lambda host, port: addresses[1:])
        patch.setattr("api.background.webhook_delivery.resolve", lambda host, port: addresses[1:])
        patch.setattr(webhook_addresses.socket, "getaddrinfo", REAL_GETADDRINFO)
        send(f"http://relay.example:{direct.port}/hook", 1, b"{}")
    assert [call["host"] for call in direct.calls] == [f"relay.example:{direct.port}"]
    infos[1:] = []
    with pytest.raises(webhook_addresses.ForbiddenAddressError, match="never calls"):
        webhook_addresses.resolve("relay.example", 80)


def test_the_command_line_submits_with_a_webhook(
    lab: Lab, receiver: Receiver, tmp_path: Any
) -> None:
    receiver.start()
    (tmp_path / "spec.json").write_text(json.dumps(LINEAR))
    assert (
        main(["--url", lab.url, "submit", str(tmp_path / "spec.json"), "--webhook", receiver.url])
        == 0
    )
    until(lambda: receiver.calls)
    assert receiver.calls[0]["body"]["event"] == "done"
