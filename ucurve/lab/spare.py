"""One spare worker per lab: it replaces a worker that died within a second or two.

Loading torch takes a worker 5 s of CPU time, and minutes on a busy machine. A spare has done that;
whichever worker is started next takes its process over. Costs about 400 MB of memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ucurve.lab.processes import ChildProcess
from ucurve.lab.supervision import SupervisedProcess, Supervision

FRESH_SECONDS = 5.0  # a spare that has been silent for longer is not used
# What distinguishes one worker's environment from another's.
OWN_VARIABLES = ("UCURVE_WORKER_NAME", "CUDA_VISIBLE_DEVICES")


@dataclass
class SpareWorker:
    """The spare of a lab; `supervise` starts it once all workers work."""

    env: Mapping[str, str]
    logs: Path
    process: SupervisedProcess | None = None

    def supervise(
        self, supervision: Supervision, workers: list[SupervisedProcess]
    ) -> SupervisedProcess:
        """Keep a spare from the time when all workers are ready, and give it to the first to die.

        Later than the workers, because they would wait for the CPU that it needs.
        """
        child = ChildProcess(
            "spare-worker",
            [sys.executable, "-m", "worker.spare"],
            self.logs / "spare-worker.log",
            env=self.env,
            sends_heartbeats=True,
            takes_orders=True,
        )
        self.process = supervision.add(child, needs=tuple(workers))
        self.process.optional = True
        for worker in workers:
            worker.child.stand_in = self.take_over
        return self.process

    def take_over(self, worker: ChildProcess) -> bool:
        """Make the spare's process the worker's; return False when there is none to use."""
        spare = self.process
        # One that is still loading is ahead of a new process all the same.
        if spare is None or spare.restart_at is not None or spare.silence > FRESH_SECONDS:
            return False
        process = spare.child.process
        if process is None or not spare.child.alive or process.stdin is None:
            return False
        order = {
            "env": {name: worker.env[name] for name in OWN_VARIABLES},
            "log": str(worker.log),
            "command": list(worker.command[2:]),  # after python -m
        }
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.close()
        except OSError:  # it has just died
            return False
        worker.process, spare.child.process = process, None
        worker.replace_heartbeats(spare.child.heartbeats)
        spare.child.heartbeats = None
        spare.expect_start()
        return True
