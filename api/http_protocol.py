"""uvicorn's HTTP protocol with limits of a request's head, which uvicorn has none for.

    uvicorn api.main:app --http api.http_protocol:HttpProtocol

A client that sends its head byte by byte, or a head without an end, is disconnected. Until then it
holds a socket and no thread.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ucurve.schemas.problems import MEDIA_TYPE, problem_of

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 32 * 2**10  # the parser itself takes a URL of 64 KiB for invalid


def _last_answer(status: int, detail: str) -> bytes:
    body = problem_of(status, detail).model_dump_json().encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


TOO_SLOW = _last_answer(
    408, f"The head of the request was not complete after {HEAD_SECONDS:g} s. Send it again."
)
TOO_LARGE = _last_answer(
    431,
    f"The address and headers together are larger than {MAX_HEAD_BYTES // 2**10} KiB. "
    "Shorten the query, or send it in pages.",
)


class HttpProtocol(HttpToolsProtocol):
    """Closes connections whose head is not complete in time, or too large."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._num_head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the head is too large: it would call a long URL invalid."""
        if self._deadline is not None or self.cycle is None or self.cycle.response_complete:
            end = data.find(b"\r\n\r\n")
            self._num_head_bytes += len(data) if end < 0 else end
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse(TOO_LARGE)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Expect the rest of the head."""
        super().on_message_begin()
        if self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._end_head()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._num_head_bytes = 0
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HEAD_SECONDS, self._refuse, TOO_SLOW)

    def _end_head(self) -> None:
        self._num_head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, answer: bytes) -> None:
        self._end_head()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
