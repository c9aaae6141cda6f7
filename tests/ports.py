"""Free ports for the servers of tests, each handed out once, below the range the kernel assigns."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, PER_PROCESS, LAST = 20_000, 1_000, 32_000


def _candidates() -> itertools.cycle[int]:
    """The ports of this pytest process: each xdist worker has a thousand of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + worker * PER_PROCESS % (LAST - FIRST)
    start = os.getpid() % PER_PROCESS  # two runs of pytest side by side rarely meet
    return itertools.cycle(first + (start + i) % PER_PROCESS for i in range(PER_PROCESS))


_ports = _candidates()


def free_port() -> int:
    """Return a port on which nothing listens.

    The kernel assigns outgoing connections from 32768 up, so that nothing takes the port between
    this call and the start of its server.
    """
    for port in itertools.islice(_ports, PER_PROCESS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"none of {PER_PROCESS} ports is free")
