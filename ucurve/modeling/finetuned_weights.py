"""Fine-tuned weights: kept in a folder that every measurement on them shares, and put into a model for as long as it is measured.

    tuned = read(folder)                                   # None until the fine-tuning has ended
    with interpolated(parameters, tuned.weights, 0.5) as displacement:
        ...                                                # measure: half-way between base and fine-tuned (WiSE-FT)
    # here every weight has its old bits again

Losing a folder costs time only: the same point fine-tunes to the same weights again. So the oldest are removed when all
together exceed UCURVE_TUNED_GB (20).
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from ucurve.modeling.perturb import GROUPS, checksum, group_of
from ucurve.registry.artifacts import write_atomically
from ucurve.settings import settings

WEIGHTS, FACTS, STATE, LOCK = "weights.safetensors", "tuning.json", "state.pt", "lock"
WAIT_SECONDS = 0.5
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingSummary:
    """What a fine-tuning was like. losses[i]: of the batch of update i, nats per scored token, without penalties."""

    steps: int
    tokens: int
    seconds: float
    diverged: bool
    losses: list[float]


@dataclass(frozen=True)
class FinetunedWeights:
    """weights: the tensors that were trained, by name; none where it diverged."""

    weights: dict[str, torch.Tensor]
    summary: TrainingSummary


def write(folder: Path, tuned: FinetunedWeights) -> None:
    """Weights, then facts: whoever sees the facts finds the weights. Removes the state that training resumed from."""
    folder.mkdir(parents=True, exist_ok=True)
    evict(folder.parent, sum(4 * tensor.numel() for tensor in tuned.weights.values()))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tuned.weights.items()}
    write_atomically(folder / WEIGHTS, safetensors.torch.save(weights))
    write_atomically(folder / FACTS, json.dumps(asdict(tuned.summary)).encode())
    (folder / STATE).unlink(missing_ok=True)


def read(folder: Path) -> FinetunedWeights | None:
    """What `write` left, if it is all there."""
    try:
        facts = TrainingSummary(**json.loads((folder / FACTS).read_text()))
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        os.utime(folder / FACTS)  # the order of removal
    except (FileNotFoundError, json.JSONDecodeError, SafetensorError):
        return None
    return FinetunedWeights(weights, facts)


@contextmanager
def exclusive_lock(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Within: no other process is in here with this folder. `waiting` is called while one is, and may raise.

    The kernel releases the lock of a process that dies; over NFS that of a dead machine when its lease there runs out. Where a file
    system has no locks nobody waits: the same weights are then trained twice, and written whole twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(WAIT_SECONDS)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise
                break
        yield


def evict(root: Path, num_bytes: int) -> None:
    """Remove the folders used longest ago until all, and so many bytes more, fit under the cap; never one still in training."""
    cap = settings().tuned_gb * 1e9
    finished = sorted(root.glob(f"*/{FACTS}"), key=lambda path: path.stat().st_mtime)
    sizes = {
        facts.parent: sum(file.stat().st_size for file in facts.parent.iterdir())
        for facts in finished
    }
    for folder, size in list(sizes.items()):
        if sum(sizes.values()) + num_bytes <= cap:
            return
        shutil.rmtree(folder, ignore_errors=True)
        sizes[folder] -= size


@contextmanager
def interpolated(parameters: Tensors, weights: Tensors, alpha: float) -> Iterator[dict[str, float]]:
    """Within: theta = (1 - alpha) base + alpha tuned for every tensor in `weights`, in place (Wortsman et al. 2022). After:
    the old bits again.

    parameters: all of the model, fp32; weights: some of them, fine-tuned. Yields |theta - base| / |base| over all parameters
    ("displacement") and over each group ("displacement_mlp"): a new head, which has no base, is left out.
    """
    originals = {name: parameters[name].detach().clone() for name in weights}
    before = checksum(parameters)
    try:
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].lerp_(tensor.to(parameters[name].device), alpha)
        yield _displacement(parameters, originals)
    finally:
        with torch.no_grad():
            for name, tensor in originals.items():
                parameters[name].copy_(tensor)
        assert checksum(parameters) == before, "the weights were not restored"


def _displacement(parameters: Tensors, originals: Tensors) -> dict[str, float]:
    changes, sizes = dict.fromkeys(GROUPS, 0.0), dict.fromkeys(GROUPS, 0.0)
    for name, tensor in parameters.items():
        if name.startswith("head."):
            continue
        base = originals.get(name, tensor).detach().double()
        sizes[group_of(name)] += float(base.square().sum())
        changes[group_of(name)] += float((tensor.detach().double() - base).square().sum())
    by_group = {
        f"displacement_{group}": math.sqrt(changes[group] / sizes[group])
        for group in GROUPS
        if sizes[group]
    }
    return {"displacement": math.sqrt(sum(changes.values()) / sum(sizes.values())), **by_group}
