"""One run of `ucurve chaos`, from an empty folder to a verdict.

1. start a lab, people and a remote worker; 2. inject the faults of the schedule; 3. end all faults,
let people leave, wait until nothing is queued; 4. read everything from the database; 5. measure the
same in an undisturbed lab; 6. compare.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ucurve import code_version
from ucurve.chaos import audit, undisturbed
from ucurve.chaos.attack import Attack
from ucurve.chaos.installation import Installation
from ucurve.chaos.people import Entry
from ucurve.chaos.proxy import Link
from ucurve.chaos.remote import RemoteWorker
from ucurve.chaos.report import Report
from ucurve.chaos.schedule import KINDS, schedule


@dataclass
class ChaosRun:
    """Settings of one run."""

    minutes: float
    seed: int
    workers: int = 2
    num_people: int = 3
    keep: Path | None = None  # where logs are copied to
    kinds: tuple[tuple[str, str], ...] = KINDS
    started: float = field(default_factory=time.monotonic)

    def run(self) -> Report:
        """Do everything and return the report; every process and file is gone afterwards."""
        report = Report(
            self.seed,
            self.minutes,
            datetime.now(UTC).isoformat(timespec="seconds"),
            code_version(),
            os.cpu_count() or 1,
            os.getloadavg()[0],
            0.0,
        )
        folder = Path(tempfile.mkdtemp(prefix="ucurve-chaos-"))
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        try:
            diaries, broken, weights = self._attack(folder / "lab", report)
            specs = [row["spec"] for row in broken["experiments"]]
            quiet, quiet_weights, problems = undisturbed.measure(
                folder / "quiet", specs, self.workers, self.log
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        report.problems += problems
        report.findings += audit.audit(diaries, broken, quiet, (weights, quiet_weights))
        report.num_compared = {
            "results": sum(row["state"] == "done" for row in broken["measurements"]),
            "checkpoints": len(broken["checkpoints"]),
            "files of weights": len(weights),
        }
        return report

    def log(self, message: str) -> None:
        """Print one line of progress."""
        with suppress(OSError):
            minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
            sys.stderr.write(f"[{minutes:2}:{seconds:02}] {message}\n")
            sys.stderr.flush()

    def _attack(
        self, data: Path, report: Report
    ) -> tuple[list[list[Entry]], dict[str, list[dict[str, Any]]], dict[str, str]]:
        """Run a lab with its faults; return the diaries, its rows, and hashes of its weights."""
        lab = Installation(data, self.workers, "tokens", limited_disk=True)
        front = Link("api", ("127.0.0.1", lab.port))
        remote: RemoteWorker | None = None
        try:
            lab.start()
            self.log(f"lab started on {lab.url}")
            remote = RemoteWorker(lab, data.parent)
            report.means = {"disk full": lab.disk_how, "network of a worker cut": remote.cable}
            attack = Attack(
                lab,
                remote,
                front,
                schedule(self.seed, self.minutes, self.kinds),
                self.seed,
                self.num_people,
                report,
                self.log,
            )
            try:
                rows, weights = attack.run(60 * self.minutes)
            finally:
                self._keep_diaries(attack)
            return [person.diary for person in attack.people], rows, weights
        finally:
            if self.keep is not None:
                lab.keep_logs(self.keep)
            if remote is not None:
                remote.close()
            front.close()
            lab.remove()

    def _keep_diaries(self, attack: Attack) -> None:
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            diaries = {p.name: [asdict(entry) for entry in p.diary] for p in attack.people}
            (self.keep / "diaries.json").write_text(json.dumps(diaries, indent=1))
