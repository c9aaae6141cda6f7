"""The words of config.json that architectures use for the same thing, in one table.

    context_length({"n_positions": 1024})  # 1024, as GPT-2 calls it
    initializer_std({"init_std": 0.02})    # 0.02, as OPT calls it

Registration reads the file; workers read the config as transformers completes it, with the
defaults of its class (`config.to_dict()`). The first word of a row that is present counts; where
the model reads texts among other things, its words are in `text_config` or the like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_COUNT = 2**31 - 1
VOCABULARY = ("vocab_size",)
WIDTHS = ("hidden_size", "n_embd", "d_model", "n_embed")  # n_embed: the first Bloom
INNER = ("intermediate_size", "n_inner", "ffn_dim", "num_attention_heads", "n_head")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
CONTEXT = (
    "max_position_embeddings",
    "n_positions",  # GPT-2, GPT-J, CodeGen
    "max_seq_len",  # MPT, DBRX
    "max_sequence_length",
    "seq_length",  # Bloom, ChatGLM
    "context_length",  # RWKV
    "n_ctx",
    "max_seq_length",
    "max_context_length",  # OpenELM
    "max_seqlen",  # StripedHyena
    "model_max_length",  # Baichuan, Kimi
)
INITIALIZER = (
    "initializer_range",
    "init_std",  # OPT and XGLM
    "initializer_std",
    "init_method_std",  # Megatron
)
PARTS = ("text_config", "llm_config", "language_config", "init_config")  # that hold such words, too


def context_length(config: Mapping[str, Any]) -> int | None:
    """Return the longest input in tokens that a config allows; None where it does not say."""
    longest = _first(config, CONTEXT)
    return longest if type(longest) is int and 0 < longest <= MAX_COUNT else None


def initializer_std(config: Mapping[str, Any]) -> float | None:
    """Return the standard deviation from which matrices were drawn; None where it does not say."""
    std = _first(config, INITIALIZER)
    number = isinstance(std, int | float) and not isinstance(std, bool)
    return float(std) if number and 0 < std < math.inf else None


def num_layers(config: Mapping[str, Any]) -> int | None:
    """Return the number of layers that a config asks for; None where it does not say."""
    num = _first(config, LAYERS)
    return num if type(num) is int and 0 < num <= MAX_COUNT else None


def _first(config: Mapping[str, Any], words: tuple[str, ...]) -> Any:
    inner = (config.get(name) for name in PARTS)
    parts = (config, *(part for part in inner if isinstance(part, Mapping)))
    return next((part[word] for part in parts for word in words if part.get(word)), None)
