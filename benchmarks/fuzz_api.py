"""Generated requests against a running lab, with an API key of each role and without one.

    UCURVE_TOKEN=... python benchmarks/fuzz_api.py --url http://127.0.0.1:8000 --minutes 10

Schemathesis reads the lab's own OpenAPI document. No request may lead to a 5xx, to a status or
content type that the document does not have, or to an answer that contradicts its schema. Use an
installation of its own: with an admin's key the requests create and delete whatever they can.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ucurve.client import Client
from ucurve.schemas.users import ROLES

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
PHASES = "examples,coverage,fuzzing"
# Streams that last as long as an experiment; answered by their own tests.
EXCLUDED = r"/events$"


def keys(client: Client) -> dict[str, str]:
    """Create a user of each role and return their API keys; "" is nobody's."""
    names = {role: f"fuzz-{role}" for role in ROLES}
    for role, name in names.items():
        client.set_user(name, role=role)
    secrets = {role: client.create_token("fuzz", 1.0, name).secret for role, name in names.items()}
    return {**secrets, "nobody": ""}


def fuzz(
    url: str, key: str, examples: int, seconds: float, seed: int, phases: str = PHASES
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis; it fails with a report of the requests that broke a check."""
    headers = f'headers = {{ Authorization = "Bearer {key}" }}\n' if key else ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "schemathesis.toml"
        file.touch(mode=0o600)
        file.write_text(headers)  # not an argument: others see those
        return subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(file), "run"),
                *(f"{url}/v1/openapi.json", "--checks", ",".join(CHECKS)),
                *("--exclude-path-regex", EXCLUDED, "--phases", phases),
                *("--max-examples", str(examples), "--max-time", str(round(seconds))),
                *("--seed", str(seed), "--continue-on-failure", "--no-color", "--no-shrink"),
                *("--request-timeout", "30", "--generation-database", "none"),
                *("--suppress-health-check", "all", "--warnings", "off"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
        )


def main() -> int:
    """Fuzz with each role for its share of the time; the exit status counts roles that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    num_failed = 0
    roles = keys(Client(args.url))
    for role, key in roles.items():
        start = time.monotonic()
        run = fuzz(args.url, key, 100_000, args.minutes * 60 / len(roles), args.seed)
        print(f"{role}: exit status {run.returncode} after {time.monotonic() - start:.0f} s")
        if run.returncode:
            num_failed += 1
            print(run.stdout, run.stderr)
    return num_failed


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
