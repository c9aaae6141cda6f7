"""The size of a model, from its config alone: it is built without memory for its weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

MAX_BUFFER_BYTES = 2**28  # tables that a model computes itself, besides as much as its weights take


def expect_fits(config: Any, stored: int) -> None:
    """Raise ValueError where the model has more weights than its files store, or far larger tables.

    Args:
        config: the model's config, as transformers reads it.
        stored: the most numbers that the files can hold.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
        )
    weights = sum(parameter.numel() for parameter in model.parameters())
    if weights > stored:
        raise ValueError(
            f"its config asks for {weights:,} weights, but its files hold {stored:,} numbers"
        )
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if tables > 4 * stored + MAX_BUFFER_BYTES:
        raise ValueError(f"its config asks for tables of {tables / 2**30:,.1f} GiB")
