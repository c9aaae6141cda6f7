"""Small experiments of every built-in type, whose points take a fraction of a second each.

A draw is identified later by its name or, where the API makes the name (extensions), by a seed
that no other request uses.
"""

from __future__ import annotations

import random
from typing import Any

EXTENSION_SEEDS = 1_000_000  # an extension's seed is at least this
REVISIONS = (
    "seed0-step437-tokens894976",
    "seed0-step875-tokens1792000",
    "seed0-step1750-tokens3584000",
    "seed0-step3500-tokens7168000",
    "seed1-step437-tokens894976",
    "seed1-step1750-tokens3584000",
)
# Seeds that submissions draw from: few enough that people meet in the same points.
SHARED_SEEDS = 40


def draw_spec(rng: random.Random, name: str) -> dict[str, Any]:
    """Return a small spec of a random built-in type."""
    seed = rng.randrange(SHARED_SEEDS)
    draw = rng.random()
    if draw < 0.4:
        return {
            "kind": "gaussian_perturbation",
            "suite": "tiny",
            "checkpoints": sorted(rng.sample(REVISIONS, 2)),
            "gammas": sorted(rng.sample([0.05, 0.1, 0.15, 0.2, 0.3], 2)),
            "draws": 2,
            "seed": seed,
            "scale": rng.choice(["current_std", "init_std"]),
        }
    if draw < 0.65:
        return {
            "kind": "fine_tuning",
            "suite": "tiny",
            "checkpoints": [rng.choice(REVISIONS)],
            "learning_rates": [rng.choice([1e-3, 3e-3])],
            "methods": [rng.choice(["full", "lora", "l2_sp"])],
            "seeds": [seed],
            "steps": rng.choice([20, 40, 80]),
        }
    if draw < 0.8:
        return {
            "kind": "pretraining",
            "suite": name,
            "hidden_size": 16,
            "intermediate_size": 32,
            "context": 32,
            "batch_rows": 8,
            "warmup_steps": 5,
            "steps": [20, 60, 150],
            "seeds": [seed],
        }
    return {
        "kind": "linear_model",
        "width": 8,
        "num_features": 8,
        "draws": 10,
        "fixed_gammas": [rng.choice([0.05, 0.08, 0.1])],
        "relative_gammas": [0.5],
        "l2_sp": [0.0],
        "seed": seed,
    }


def extension(spec: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return changes that make a spec measure new points, marked by `seed`."""
    assert seed >= EXTENSION_SEEDS
    if spec["kind"] == "pretraining":
        return {"suite": f"extended-{seed}", "seeds": [seed]}
    return {"seeds": [seed]} if spec["kind"] == "fine_tuning" else {"seed": seed}


def key_of(name: str, spec: dict[str, Any]) -> str:
    """Return what identifies the request that made an experiment."""
    seed = spec.get("seed", (spec.get("seeds") or [0])[0])
    return f"extension {seed}" if seed >= EXTENSION_SEEDS else name
