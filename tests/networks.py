"""Two machines on one: a network namespace beside this one, and a link between them to cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not() -> str:
    """Why this process cannot make network namespaces, "" when it can."""
    if os.getuid() != 0:
        return "needs root for network namespaces"
    if shutil.which("ip") is None:
        return "needs `ip` (iproute2) for network namespaces"
    try:
        name = f"ucurve-{os.getpid()}"
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not allowed here: {error.stderr.strip()}"
    return ""


@dataclass
class Machine:
    """Another machine: `prefix` before a command runs it there."""

    number: int = field(default_factory=lambda: os.getpid() % 250 + 1)

    @property
    def name(self) -> str:
        return f"ucurve{self.number}"

    @property
    def here(self) -> str:
        """Our address on the link, in the range that is reserved for tests of networks."""
        return f"198.18.{self.number}.1"

    @property
    def there(self) -> str:
        return f"198.18.{self.number}.2"

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def __enter__(self) -> Machine:
        near, far = f"uca{self.number}", f"ucb{self.number}"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
            _ip("addr", "add", f"{self.here}/24", "dev", near)
            _ip("link", "set", near, "up")
            _ip("-n", self.name, "addr", "add", f"{self.there}/24", "dev", far)
            self.heal()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        _ip("netns", "del", self.name)  # and the link with it

    def cut(self) -> None:
        """Unplug the cable at the other end: nothing arrives, and nobody is told."""
        _ip("-n", self.name, "link", "set", f"ucb{self.number}", "down")

    def heal(self) -> None:
        """Plug it in again."""
        _ip("-n", self.name, "link", "set", f"ucb{self.number}", "up")
