"""Folders of checkpoints as people have them: what registers must load, and soon be judged.

    python benchmarks/fuzz_folders.py --cases 500

For each folder that hypothesis draws: registration answers, then (where it says that the checkpoint
can be used, and where this version tries the structure, the trial says so too) the worker's loader
must load it and one forward pass must give finite losses. Nothing may raise another error than the
loader's own, and neither step may take more than 2 s of processor time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from folder_cases import Case, cases, write
from hypothesis import HealthCheck, Phase, given, seed, settings

from ucurve.modeling.checkpoints import CheckpointError, LoadedCheckpoint, load
from ucurve.registry import hashing
from ucurve.registry.suites import Checkpoint, Location

try:
    from ucurve.modeling.trial import try_checkpoint
except ImportError:  # a version that plans without a trial
    try_checkpoint = None  # type: ignore[assignment]

MAX_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    refused: str | None  # by registration or the trial, in words
    failed: str | None  # after registration said that it can be used
    seconds: float  # of processor time, the longer one of registration and loading


def judge(case: Case, parent: Path) -> Outcome:
    """Write a folder, register it, and load it where that was promised to work."""
    folder = parent / "run" / "step1"
    write(case, folder)
    location = Location(scheme="path", path=str(folder))
    started = time.process_time()
    checkpoint = hashing.resolve(Checkpoint(suite="s", revision="r", location=location), folder)
    refused = checkpoint.unresolved
    registered = time.process_time() - started
    if refused is None and try_checkpoint is not None:
        try:
            try_checkpoint(checkpoint)
        except CheckpointError as error:
            refused = str(error)
    started = time.process_time()
    failed = None
    try:
        loaded = load(checkpoint.model_copy(update={"unresolved": None}), "cpu", parent)
        if refused is None:
            failed = _unusable(loaded, checkpoint)
    except Exception as error:  # without a promise no worker gets here
        failed = f"{type(error).__name__}: {error}" if refused is None else None
    return Outcome(refused, failed, max(registered, time.process_time() - started))


@torch.no_grad()
def _unusable(loaded: LoadedCheckpoint, checkpoint: Checkpoint) -> str | None:
    """Return what is wrong with a model that was promised to work."""
    length = min(checkpoint.context or 8, 8)
    tokens = torch.zeros((1, length), dtype=torch.int64)
    logits = loaded.model(input_ids=tokens).logits
    if logits.shape[:2] != (1, length):
        return f"logits of shape {tuple(logits.shape)}"
    if (loaded.tokenizer is None) != (checkpoint.tokenizer_sha256 is None):
        return "the tokenizer differs from what was registered"
    return None


def main() -> None:
    """Judge random folders, print how they ended, and exit with 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    outcomes: list[tuple[Case, Outcome]] = []
    os.environ["UCURVE_MODELS"] = tempfile.gettempdir()

    @seed(args.seed)
    @settings(
        max_examples=args.cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: Case) -> None:
        with tempfile.TemporaryDirectory() as parent:
            outcomes.append((case, judge(case, Path(parent))))

    run()
    broken = [(case, out) for case, out in outcomes if out.failed or out.seconds > MAX_SECONDS]
    reasons = Counter((out.refused or "usable")[:60] for _, out in outcomes)
    for reason, count in reasons.most_common(40):
        print(f"{count:5} {reason}")
    for case, out in broken[:20]:
        print(f"BROKEN {out.failed or f'{out.seconds:.1f} s'}: {case}")
    slowest = max(out.seconds for _, out in outcomes)
    print(f"{len(outcomes)} folders, {len(broken)} broken promises, slowest {slowest:.2f} s")
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
