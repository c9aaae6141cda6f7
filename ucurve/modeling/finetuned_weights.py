"""Fine-tuned weights on disk, shared by their measurements, and temporary interpolation to them.

    finetuned = read(folder)   # None until the fine-tuning run has finished
    with interpolated(parameters, finetuned.weights, 0.5) as displacement:
        ...                    # measure half-way between pre-trained and fine-tuned (WiSE-FT)
    # here every weight has its original bits again

A lost folder costs only time, because the same point trains the same weights again. So the least
recently used folders are evicted when all together exceed UCURVE_TUNED_GB (20).
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
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ucurve.modeling.changed_matrices import relative
from ucurve.modeling.interpolation import Towards, position
from ucurve.modeling.perturb import GROUPS, checksum, group_of
from ucurve.registry.artifacts import write_atomically
from ucurve.settings import settings

WEIGHTS, FACTS, STATE, LOCK = "weights.safetensors", "tuning.json", "state.pt", "lock"
WAIT_SECONDS = 0.5
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingSummary:
    """Summary of a fine-tuning run.

    losses[i] is the loss of the batch of update i in nats per scored token, without regularizer.
    """

    steps: int
    tokens: int
    seconds: float
    diverged: bool
    losses: list[float]


@dataclass(frozen=True)
class FinetunedWeights:
    """Trained tensors by name (empty after divergence) and the summary of the run."""

    weights: dict[str, torch.Tensor]
    summary: TrainingSummary


def write(folder: Path, tuned: FinetunedWeights) -> None:
    """Write the weights, then the summary, which marks them as complete; delete the training state.

    Evicts other folders when the disk budget requires it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evict(folder.parent, sum(4 * tensor.numel() for tensor in tuned.weights.values()))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tuned.weights.items()}
    write_atomically(folder / WEIGHTS, safetensors.torch.save(weights))
    write_atomically(folder / FACTS, json.dumps(asdict(tuned.summary)).encode())
    (folder / STATE).unlink(missing_ok=True)


def read(folder: Path) -> FinetunedWeights | None:
    """Return what `write` wrote, None when it is absent or incomplete."""
    try:
        facts = TrainingSummary(**json.loads((folder / FACTS).read_text()))
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        os.utime(folder / FACTS)  # marks the folder as recently used
    except (FileNotFoundError, json.JSONDecodeError, SafetensorError):
        return None
    return FinetunedWeights(weights, facts)


@contextmanager
def exclusive_lock(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock inside the block; call `waiting`, which may raise, until it is free.

    The kernel releases the lock of a process that dies; over NFS, the lock of a dead machine is
    released when its NFS lease expires. On a file system without locks the same weights may be
    trained twice, and written atomically twice.
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
    """Delete least recently used folders until `num_bytes` more fit under UCURVE_TUNED_GB.

    Folders without a summary, which are still in training, are never deleted.
    """
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
def interpolated(
    parameters: Tensors, weights: Tensors, alpha: float, new_head: bool = True
) -> Iterator[dict[str, float]]:
    """Interpolate in place inside the block: theta = (1 - alpha) pre-trained + alpha fine-tuned.

    This is WiSE-FT (Wortsman et al. 2022). On exit every weight has its original bits again.

    Args:
        parameters: all parameters of the model, fp32, by name.
        weights: fine-tuned tensors of some of them.
        alpha: 0 for the pre-trained weights, 1 for the fine-tuned ones.
        new_head: "head." are the parameters of a new head; RWKV calls its own unembedding so.

    Yields:
        |theta - pre-trained| / |pre-trained| over all parameters ("displacement") and over each
        group ("displacement_mlp"), without a new head, which has no pre-trained weights.
    """
    originals = {name: parameters[name].detach().clone() for name in weights}
    before = checksum(parameters)
    try:
        with torch.no_grad():
            for name, tensor in weights.items():
                parameters[name].lerp_(tensor.to(parameters[name].device), alpha)
        old = {n: p for n, p in parameters.items() if not (new_head and n.startswith("head."))}
        yield _displacement(old, originals)
    finally:
        with torch.no_grad():
            for name, tensor in originals.items():
                parameters[name].copy_(tensor)
        assert checksum(parameters) == before, "the weights were not restored"


def between(
    parameters: Tensors, first: Tensors, second: Tensors, line: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], float]:
    """Return weights on the line between two fine-tunings, and the distance of its ends.

    "interpolation/1": (1 - t) a + t b in fp64, rounded once. What one of them did not train has its
    pre-trained weights there. The distance is |b - a| / |a| over all parameters.
    """
    t = position(line)
    names = dict.fromkeys([*first, *second])
    starts, targets = (
        {name: tuned.get(name, parameters[name].detach()).cpu() for name in names}
        for tuned in (first, second)
    )
    towards = Towards(targets, t)
    weights = {name: towards(name, tensor) for name, tensor in starts.items()}
    moved = math.fsum(float((targets[n].double() - a.double()).square().sum())
                      for n, a in starts.items())  # fmt: skip
    rest = (p.detach() for name, p in parameters.items() if name not in names)
    size = math.fsum(float(a.double().square().sum()) for a in (*starts.values(), *rest))
    return weights, relative(moved, size)


def _displacement(parameters: Tensors, originals: Tensors) -> dict[str, float]:
    changes, sizes = dict.fromkeys(GROUPS, 0.0), dict.fromkeys(GROUPS, 0.0)
    for name, tensor in parameters.items():
        base = originals.get(name, tensor).detach().double()
        sizes[group_of(name)] += float(base.square().sum())
        changes[group_of(name)] += float((tensor.detach().double() - base).square().sum())
    by_group = {
        f"displacement_{group}": math.sqrt(changes[group] / sizes[group])
        for group in GROUPS
        if sizes[group]
    }
    return {"displacement": math.sqrt(sum(changes.values()) / sum(sizes.values())), **by_group}
