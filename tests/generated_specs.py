"""Valid specs of every experiment type with random values, always the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from ucurve.experiments import parse
from ucurve.spec import Spec

CHECKPOINTS = ["all", {"log_spaced": 2}, {"log_spaced": 4}, ["seed0-step0-tokens0"]]
BRANCHES = ["weight_decay", "constant", "anneal", "sharpness_aware", "replay", "early_stop"]
METHODS = ["full", "head", "lora", "l2_sp", "ewc"]


def some(rng: random.Random, values: list[Any], least: int = 0) -> list[Any]:
    """Return some of the values, a few of them twice."""
    return [rng.choice(values) for _ in range(rng.randint(least, len(values)))]


FIELDS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "gaussian_perturbation": lambda rng: {
        "suite": rng.choice(["tiny", "tiny-constant"]),
        "checkpoints": rng.choice(CHECKPOINTS[: 4 if rng.random() < 0.9 else 3]),
        "gammas": some(rng, [0.1, 0.2, 0.3, 0.5], 1),
        "draws": rng.randint(1, 5),
        "scale": rng.choice(["both", "all", "current_std", "init_std", "matched_displacement"]),
        "tensors": rng.choice(["all", "matrices"]),
        "by_group": rng.random() < 0.5,
        "include": some(rng, ["*.attention.*", "*embed*"]),
    },
    "fine_tuning": lambda rng: {
        "checkpoints": rng.choice(CHECKPOINTS),
        "learning_rates": some(rng, [1e-3, 3e-3, 1e-2]),
        "methods": some(rng, METHODS, 1),
        "alphas": some(rng, [0.25, 0.5, 0.75]),
        "seeds": some(rng, [0, 1, 2, 3], 1),
        "evaluations": some(rng, ["tiny-held-out"]),
    },
    "linear_model": lambda rng: {
        "width": 24,
        "num_features": rng.randint(2, 24),
        "fixed_gammas": some(rng, [0.04, 0.08, 0.1]),
        "relative_gammas": some(rng, [0.3, 0.5]),
        "draws": rng.choice([2, 39, 40, 41, 200]),
        "l2_sp": some(rng, [0.0, 1.0]),
        "targets": rng.choice([2, 8, 9, 33]),
    },
    "quantisation": lambda rng: {
        "suite": rng.choice(["tiny", "tiny-constant"]),
        "checkpoints": rng.choice(CHECKPOINTS),
        "bits": some(rng, [2, 3, 4, 8], 1),
        "granularities": some(rng, ["tensor", "row", "group"], 1),
        "ranges": rng.choice(["symmetric", "asymmetric", "both"]),
        "group_size": rng.choice([16, 32]),
    },
    "pruning": lambda rng: {
        "checkpoints": rng.choice(CHECKPOINTS),
        "sparsities": some(rng, [0.1, 0.3, 0.5, 0.7], 1),
        "scopes": some(rng, ["tensor", "global"], 1),
        "patterns": some(rng, ["1:4", "2:4", "4:8"]),
    },
    "interpolation": lambda rng: {
        "suite": rng.choice(["tiny", "tiny-constant"]),
        "checkpoints": rng.choice(CHECKPOINTS[:3]),
        "pairs": rng.choice([["checkpoints"], ["seeds", "checkpoints"]]),
        "steps": rng.choice([2, 4, 8, 10]),
    },
    "sharpness": lambda rng: {
        "suite": rng.choice(["tiny", "tiny-constant"]),
        "checkpoints": rng.choice(CHECKPOINTS),
        "draws": rng.randint(1, 6),
        "sigmas": some(rng, [0.001, 0.003, 0.01, 0.03]),
        "by_group": rng.random() < 0.5,
        "windows": rng.choice([8, 64]),
    },
    "interventions": lambda rng: {
        "suite": "branches",
        "steps": sorted({400 + rng.randrange(1000) for _ in range(rng.randint(1, 4))}),
        "seeds": list(range(rng.randint(1, 4))),
        "interventions": rng.sample(BRANCHES, rng.randint(1, 6)),
        "branch_at": rng.choice([0.5, 0.8]),
        "draws": rng.randint(1, 4),
        "scale": rng.choice(["both", "current_std", "init_std"]),
    },
    "pretraining": lambda rng: {
        "steps": sorted({200 + rng.randrange(1000) for _ in range(rng.randint(1, 6))}),
        "seeds": list(range(rng.randint(1, 4))),
        "protocol": rng.choice(["run_per_budget", "one_run"]),
        "keep_initial": rng.random() < 0.5,
    },
}


def generated(kind: str, num: int) -> Iterator[Spec]:
    """Yield `num` valid specs of an experiment type."""
    rng = random.Random(f"specs of {kind}")
    while num:
        try:
            spec = parse({"kind": kind, **FIELDS[kind](rng)})
        except ValidationError:
            continue
        num -= 1
        yield spec
