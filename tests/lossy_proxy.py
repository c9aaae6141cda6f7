"""A TCP proxy that loses answers: the server has answered in full, the client gets nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class LossyProxy:
    """Forwards each connection's first request, and loses the next `to_lose` answers."""

    server_port: int
    listener: socket.socket
    to_lose: int = 0
    num_lost: int = 0
    requests: list[bytes] = field(default_factory=list)
    before_losing: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(connection,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client:
            request = _read_message(client)
            self.requests.append(request)
            try:
                with socket.create_connection(("127.0.0.1", self.server_port)) as server:
                    server.sendall(_closing(request))
                    answer = b"".join(iter(lambda: server.recv(65536), b""))
            except ConnectionError:
                return
            if self.to_lose and answer:
                self.to_lose -= 1
                self.num_lost += 1
                self.before_losing()
            else:
                client.sendall(answer)


def _read_message(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    while len(body) < sum(lengths):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def _closing(request: bytes) -> bytes:
    """Ask the server to close the connection after its answer."""
    head, separator, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + separator + body


@contextmanager
def lossy_proxy(server_port: int) -> Iterator[LossyProxy]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = LossyProxy(server_port, listener)
        threading.Thread(target=proxy.serve, daemon=True).start()
        yield proxy
