"""The systemd unit of a lab: `ucurve up` as a service that starts with the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ucurve.settings import Settings, variable

UNIT = """\
# A lab of ucurve as a service of one user. Install it with
#   ucurve up --install-service > ~/.config/systemd/user/ucurve.service
#   systemctl --user daemon-reload && systemctl --user enable --now ucurve
#   loginctl enable-linger            # keep it running after logout
[Unit]
Description=ucurve lab in {data}
After=network.target

[Service]
Type=exec
ExecStart={command}
{environment}Restart=always
RestartSec=5
# SIGTERM goes to the supervisor alone, which stops its processes in order, the database last.
KillMode=mixed
TimeoutStopSec=120
OOMPolicy=continue
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
# Sockets may lie in the runtime folder (%t) or /tmp, where `ucurve backup` finds them.
ReadWritePaths={data} /tmp -%t
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK

[Install]
WantedBy=default.target
"""

# Secrets, and what `ucurve up` sets itself.
LEFT_OUT = ("TOKEN", "SECRET", "DATABASE_URL", "BROKER_URL", "HEARTBEAT")


def service_unit(data: Path, options: Sequence[str]) -> str:
    """Return a unit file that runs `ucurve up` with these options and our environment variables.

    Secrets are left out, because a unit file is readable for others; set them with
    EnvironmentFile=.
    """
    folder = data.expanduser().resolve()
    words = [sys.executable, "-m", "ucurve.cli", "up", "--data", str(folder), *options]
    names = [variable(field) for field in Settings.model_fields]
    environment = "".join(
        f"Environment={_quoted(f'{name}={os.environ[name]}')}\n"
        for name in names
        if name in os.environ and not any(word in name for word in LEFT_OUT)
    )
    command = " ".join(_quoted(word, dollars=True) for word in words)
    return UNIT.format(data=_quoted(str(folder)), command=command, environment=environment)


def _quoted(word: str, dollars: bool = False) -> str:
    """Quote a word for a unit file, where % starts a specifier and, in commands, $ a variable."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if dollars:
        word = word.replace("$", "$$")
    return f'"{word}"' if any(character in word for character in " \t;'\"#") else word
