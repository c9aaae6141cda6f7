"""Another machine: a network namespace whose only cable can be pulled.

    machine = Machine.create()   # None without root, Linux or the command `ip`
    machine.command([...])       # the same command, run there
    machine.cut(); machine.restore()

Packets are lost then, as with a pulled cable: no end, no reset, only the timeouts of both sides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count


@dataclass
class Machine:
    """A namespace with one virtual cable to this machine."""

    name: str
    here: str  # address of this machine on the cable
    there: str

    @staticmethod
    def create() -> Machine | None:
        """Create a namespace with a cable, or return None where that is not possible."""
        if sys.platform != "linux" or os.getuid() != 0 or shutil.which("ip") is None:
            return None
        block = next((n for n in count() if n > 250 or not _exists(f"uchaos{n}")), 251)
        if block > 250:
            return None
        # 198.18.0.0/15 is reserved for tests of networks.
        machine = Machine(f"uchaos{block}", f"198.18.{block}.1", f"198.18.{block}.2")
        try:
            machine._set_up()
        except (OSError, subprocess.CalledProcessError):
            machine.remove()
            return None
        return machine

    def _set_up(self) -> None:
        inside = ("netns", "exec", self.name, "ip")
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "up0", "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        _ip(*inside, "addr", "add", f"{self.there}/30", "dev", "up0")
        _ip(*inside, "link", "set", "up0", "up")
        _ip(*inside, "link", "set", "lo", "up")

    @property
    def _cable(self) -> str:
        return f"{self.name}c"

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command that runs `words` on this machine, as the same process."""
        return ["ip", "netns", "exec", self.name, *words]

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self._cable, "down")

    def restore(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self._cable, "up")

    def remove(self) -> None:
        """Delete the namespace and its cable."""
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("link", "delete", self._cable)
        with suppress(OSError, subprocess.CalledProcessError):
            _ip("netns", "delete", self.name)


def _exists(name: str) -> bool:
    return os.path.exists(f"/run/netns/{name}")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)
