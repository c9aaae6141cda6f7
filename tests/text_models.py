"""Small models of text with tokenizers of different sizes, and their loss computed another way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM

TEXT = "".join(
    f"Chapter {i}. The café by the river had {i * 7 % 13} chairs, and naïve guests paid {i} €.\n"
    for i in range(60)
)


def tokenizer_of(vocab_size: int) -> Tokenizer:
    """A byte-level BPE, trained on TEXT."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def write_suite(folder: Path, vocab_size: int, num_tokens: int | None = None) -> Path:
    """Two checkpoints of random weights with a tokenizer of `vocab_size` tokens.

    num_tokens: of the model's vocabulary, where it is another.
    """
    for step in (1000, 2000):
        torch.manual_seed(step + vocab_size)
        config = GPTNeoXConfig(
            vocab_size=num_tokens or vocab_size, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
            initializer_range=0.2, use_cache=False,
        )  # fmt: skip
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
        tokenizer_of(vocab_size).save(str(folder / f"step{step}" / "tokenizer.json"))
    return folder


def bits_per_byte_of(checkpoint: Path, text: str, window: int) -> float:
    """Bits per byte, token by token: total nats over scored tokens, the rest like the average."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    nats, scored = 0.0, 0
    for start in range(0, len(ids), window):
        part = ids[start : start + window]
        with torch.inference_mode():
            logits = model(torch.tensor([part])).logits[0].double()
        for i in range(1, len(part)):
            nats -= torch.log_softmax(logits[i - 1], 0)[part[i]].item()
            scored += 1
    return nats / scored * len(ids) / len(text.encode()) / math.log(2)


def write_json_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    """A file with an object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
