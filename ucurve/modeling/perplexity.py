"""Loss over windows of a token stream, as sums and counts, so that later averages are exact.

losses = window_losses(model, tokens, window=1024, stride=1024)
losses.nll_sum.sum() / losses.num_tokens.sum()        # mean loss in nats; its exp is the perplexity
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from ucurve.modeling.throughput import count_tokens
from ucurve.registry.tensors.config_words import context_length

Precision = Literal["fp32", "bf16"]
LOGITS = 1 << 24  # logits computed at once: 64 MiB in fp32


@dataclass(frozen=True)
class WindowLosses:
    """Per window: summed loss of its scored tokens in nats (inf and NaN stay), and their number."""

    nll_sum: NDArray[np.float64]
    num_tokens: NDArray[np.int64]

    @property
    def nll_mean(self) -> float:
        """Return the mean loss in nats per scored token."""
        return float(self.nll_sum.sum() / self.num_tokens.sum())

    def in_blocks(self, num_blocks: int = 32) -> NDArray[np.float64]:
        """Return losses of consecutive windows, [num_blocks], whose mean is the mean loss.

        The blocks are those of `ucurve.analysis.statistics.blocks`.
        """
        parts = np.array_split(self.nll_sum, min(num_blocks, len(self.nll_sum)))
        sums = np.array([part.sum() for part in parts])
        return np.asarray(sums * len(parts) / self.num_tokens.sum(), dtype=np.float64)


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `end`, of which those from `score` on are scored."""

    start: int
    score: int
    end: int


def windows(num_tokens: int, window: int, stride: int) -> Iterator[Window]:
    """Yield windows that together score every token once, including a short last window.

    With stride == window every token but each window's first is scored, which has no context. With
    stride < window the windows overlap, and only tokens that no earlier window has read are scored.
    Raises ValueError when stride or window is out of range.
    """
    if not 1 <= stride <= window or window < 2:
        raise ValueError(
            "stride must be between 1 and the window, and the window at least 2; "
            f"got {stride} and {window}"
        )
    read = 0
    for start in range(0, num_tokens, stride):
        end = min(start + window, num_tokens)
        score = max(read, start + 1)
        if score < end:
            yield Window(start, score, end)
        if end == num_tokens:
            return
        read = end


@torch.inference_mode()
def window_losses(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    *,
    window: int,
    stride: int,
    batch_tokens: int | None = None,
    precision: Precision = "fp32",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> WindowLosses:
    """Return the cross-entropy of `tokens` under `model` by window (protocol "perplexity/1").

    The logits are computed in slices of 64 MiB, so a large vocabulary costs no memory.

    Args:
        model: in eval mode.
        tokens: int64 [num_tokens].
        window: tokens per window.
        stride: tokens between the starts of two windows.
        batch_tokens: tokens per forward pass; by default suited to the device.
        precision: "bf16" is autocast on fp32 weights, which rounds away perturbations much smaller
            than 0.4% of a weight.
        progress: called with (tokens done, all tokens); may raise to stop.

    Raises:
        ValueError: tokens or window do not fit the model.
    """
    plan = list(windows(len(tokens), window, stride))
    _check(model, tokens, window, plan)
    rows = max(1, (batch_tokens or (1 << 15 if model.device.type == "cuda" else 1 << 11)) // window)
    head = unembedding(model, tokens[:8])
    sums, done = [], 0
    for batch in _batches(plan, rows):
        ids = torch.stack([tokens[span.start : span.end] for span in batch]).to(model.device)
        with autocast(model, precision):
            losses = _token_losses(model, head, ids)
        sums += [losses[i, span.score - span.start - 1 :].sum() for i, span in enumerate(batch)]
        done += ids.numel()
        count_tokens(ids.numel())
        progress(done, sum(span.end - span.start for span in plan))
    return WindowLosses(
        torch.stack(sums).cpu().numpy(),
        np.array([span.end - span.score for span in plan], dtype=np.int64),
    )


def _check(model: PreTrainedModel, tokens: torch.Tensor, window: int, plan: list[Window]) -> None:
    if not plan:
        raise ValueError(f"an evaluation set needs at least two tokens; this one has {len(tokens)}")
    vocabulary = _vocabulary(model)
    if int(tokens.max()) >= vocabulary:
        raise ValueError(
            f"token {int(tokens.max())} is beyond the model's vocabulary of {vocabulary}: "
            "the evaluation set was not made with this suite's tokenizer"
        )
    context = context_length(model.config.to_dict())
    if context and min(window, len(tokens)) > context:
        raise ValueError(
            f"a window of {window} tokens is longer than the model's context of {context}"
        )


def _vocabulary(model: PreTrainedModel) -> int:
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding), (
        f"{type(model).__name__} embeds its tokens in an unknown way"
    )
    return embedding.num_embeddings


def _batches(plan: list[Window], rows: int) -> Iterator[list[Window]]:
    """Yield windows of equal length, at most `rows` at once."""
    for _, equal in groupby(plan, key=lambda span: span.end - span.start):
        together = list(equal)
        for i in range(0, len(together), rows):
            yield together[i : i + rows]


def autocast(model: PreTrainedModel, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context of the precision."""
    return (
        torch.autocast(model.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    )


def unembedding(model: PreTrainedModel, probe: torch.Tensor) -> torch.nn.Module | None:
    """Return the unembedding if logits are just that of the last hidden state, else None."""
    head: torch.nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    ids = probe.to(model.device)[None]
    full_logits = model(ids, use_cache=False).logits
    apart = None if head is None else head(model.base_model(ids, use_cache=False).last_hidden_state)
    same = apart is not None and torch.allclose(
        apart, full_logits, rtol=1e-4, atol=1e-5, equal_nan=True
    )
    return head if same else None


def _token_losses(
    model: PreTrainedModel, head: torch.nn.Module | None, ids: torch.Tensor
) -> torch.Tensor:
    """Return the loss of all tokens but each row's first, float64 [num_rows, length - 1]."""
    if head is None:
        logits = model(ids, use_cache=False).logits[:, :-1].float()
        return cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").double()
    hidden = model.base_model(ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    targets = ids[:, 1:].flatten()
    size = max(1, LOGITS // _vocabulary(model))
    parts = [
        cross_entropy(
            head(hidden[i : i + size]).float(), targets[i : i + size], reduction="none"
        ).double()
        for i in range(0, len(targets), size)
    ]
    return torch.cat(parts).view(len(ids), -1)
