"""Folders of small models whose weights a test makes up, in every layout that trainers leave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, INNER, WORDS, LAYERS, CONTEXT = 64, 128, 512, 2, 128
CONFIG = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": WIDTH,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "vocab_size": WORDS, "max_position_embeddings": CONTEXT, "initializer_range": 0.02,
    "use_parallel_residual": True, "tie_word_embeddings": False,
}  # fmt: skip
Weights = dict[str, np.ndarray[Any, Any]]


def initial(seed: int, spread: float = 0.02) -> Weights:
    """The weights of a GPT-NeoX model before the first step."""
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, spread, shape).astype(np.float32)

    weights: Weights = {"gpt_neox.embed_in.weight": matrix(WORDS, WIDTH)}
    for layer in range(LAYERS):
        start = f"gpt_neox.layers.{layer}"
        for part, shape in (
            ("attention.query_key_value", (3 * WIDTH, WIDTH)),
            ("attention.dense", (WIDTH, WIDTH)),
            ("mlp.dense_h_to_4h", (INNER, WIDTH)),
            ("mlp.dense_4h_to_h", (WIDTH, INNER)),
        ):
            weights[f"{start}.{part}.weight"] = matrix(*shape)
            weights[f"{start}.{part}.bias"] = np.zeros(shape[0], np.float32)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights |= _norm(f"{start}.{norm}")
    weights |= _norm("gpt_neox.final_layer_norm")
    return {**weights, "embed_out.weight": matrix(WORDS, WIDTH)}


def _norm(name: str) -> Weights:
    return {
        f"{name}.weight": np.ones(WIDTH, np.float32),
        f"{name}.bias": np.zeros(WIDTH, np.float32),
    }


def trained(seed: int, by: float = 1.0) -> Weights:
    """Weights as training leaves them: some rows have grown, no vector is constant."""
    rng = np.random.default_rng(1000 + seed)
    return {
        name: (
            value * np.exp(by * rng.normal(0, 0.3, (len(value), *[1] * (value.ndim - 1))))
            + by * rng.normal(0, 0.01, value.shape)
        ).astype(np.float32)
        for name, value in initial(0).items()
    }


def write(
    folder: Path,
    weights: Weights,
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    shards: int = 1,
    suffix: str = "safetensors",
    **config: Any,
) -> Path:
    """Write a folder with config and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    names = list(weights)
    parts = [names[i::shards] for i in range(shards)]
    start = "model" if suffix == "safetensors" else "pytorch_model"
    files = [
        f"{start}.{suffix}" if shards == 1 else f"{start}-{i + 1:05}-of-{shards:05}.{suffix}"
        for i in range(shards)
    ]
    for file, part in zip(files, parts, strict=True):
        _save(folder / file, {name: weights[name] for name in part}, dtype, metadata)
    if shards > 1:
        index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        (folder / f"{start}.{suffix}.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def _save(path: Path, weights: Weights, dtype: str, metadata: Mapping[str, str] | None) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: torch.from_numpy(value).to(getattr(torch, dtype)) for name, value in weights.items()
    }
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})
