"""The size of a model, from its config alone: it is built without memory for its weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

MAX_BUFFER_BYTES = 2**28  # tables that a model computes itself, besides as much as its weights take


ATTENTION = ("sdpa", "eager")  # a name in a config could be a repository with code of its own


def expect_fits(config: Any, stored: int) -> str:
    """Return the attention to build the model with: the first of ATTENTION that it supports.

    Raises ValueError where it has more weights than its files store, or far larger tables.

    Args:
        config: the model's config, as transformers reads it.
        stored: the most numbers that the files can hold.
    """
    model, attention = without_memory(config)
    weights = sum(parameter.numel() for parameter in model.parameters())
    if weights > stored:
        raise ValueError(
            f"its config asks for {weights:,} weights, but its files hold "
            f"{stored:,}: copy the config.json that was saved with these weights"
        )
    tables = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if tables > 4 * stored + MAX_BUFFER_BYTES:
        raise ValueError(f"its config asks for tables of {tables / 2**30:,.1f} GiB")
    return attention


def without_memory(config: Any) -> tuple[PreTrainedModel, str]:
    """Return the model of a config without memory for its weights, and its attention.

    Raises ValueError where transformers has no such language model.
    """
    for attention in ATTENTION:
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                    config,
                    dtype=torch.float32,
                    attn_implementation=attention,
                    trust_remote_code=False,
                )
        except ValueError:
            if attention == ATTENTION[-1]:
                raise
        else:
            return model, attention
    raise AssertionError("the last attention is returned or raises")
