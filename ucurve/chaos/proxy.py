"""A TCP link that can be cut, and that can lose answers.

    link = Link("api", ("127.0.0.1", 8000))
    link.cut()          # bytes wait in both directions, connections stay open, as without a cable
    link.restore()         # what waited is delivered, as TCP does when the cable is back
    link.swallow(2, 5)  # the next 2 answers within 5 s are lost: the request arrived, then a reset

The other side may be a unix socket (a path), so that a worker reaches an embedded database as it
would reach one on another machine.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

Address = tuple[str, int] | Path


class Link:
    """One listening port whose connections are forwarded to `upstream`, in a thread of its own."""

    def __init__(self, name: str, upstream: Address, host: str = "127.0.0.1") -> None:
        self.name = name
        self.upstream = upstream
        self.host = host
        self.port = 0
        self.swallowed = 0
        self._to_swallow = 0
        self._swallow_until = 0.0
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        listening = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(listening,), name=f"link {name}", daemon=True
        )
        self._thread.start()
        if not listening.wait(10):
            raise RuntimeError(f"the link {name} does not listen")

    def cut(self) -> None:
        """Stop forwarding without closing anything."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def restore(self) -> None:
        """Forward again, beginning with what waited."""
        self._loop.call_soon_threadsafe(self._open.set)

    def swallow(self, answers: int, seconds: float) -> None:
        """Lose the next answers within `seconds`, resetting their connections."""
        self.swallowed = 0
        self._swallow_until = time.monotonic() + seconds
        self._to_swallow = answers

    def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)

    def _serve(self, listening: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, self.host, 0))
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            if isinstance(self.upstream, Path):
                upstream = await asyncio.open_unix_connection(str(self.upstream))
            else:
                upstream = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.transport.abort()
            return
        directions = (
            self._forward(reader, upstream[1], answers=False),
            self._forward(upstream[0], writer, answers=True),
        )
        try:
            with suppress(asyncio.CancelledError):  # the link closes
                await asyncio.gather(*directions)
        finally:
            for side in (writer, upstream[1]):
                side.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                if answers and self._loses_this():
                    _reset(writer)
                    return
                writer.write(data)
                await writer.drain()
        writer.transport.abort() if answers else self._finish(writer)

    def _finish(self, writer: asyncio.StreamWriter) -> None:
        """Close one direction: the other may still have an answer."""
        with suppress(OSError, NotImplementedError):
            writer.write_eof()

    def _loses_this(self) -> bool:
        if self._to_swallow < 1 or time.monotonic() > self._swallow_until:
            return False
        self._to_swallow -= 1
        self.swallowed += 1
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset, which is an error on the other side, not an end."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
