"""Fine-tuned models, their batches and losses.

A task has label words, a linear head, or is plain language modelling.

    model = FinetunedModel(model)
    loss = token_loss(model, batch) / num_scored(model, batch)        # nats per scored token
    classified(model, batches, words, "fp32", progress).metrics       # {"id_loss": 0.41, ...}

Rows are padded on the right: attention is causal, so padding changes nothing before it and needs no
mask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from ucurve.modeling.perplexity import Precision, autocast, unembedding
from ucurve.modeling.throughput import count_tokens

Progress = Callable[[float, float], None]  # (done, total); may raise to stop
IGNORE_INDEX = -100  # target of a position that is not scored
LOGITS = 1 << 26  # logits computed at once in training: 256 MiB in fp32


@dataclass(frozen=True)
class Row:
    """One example: its tokens, of which those from `scored` on are targets, and its class."""

    tokens: list[int]
    scored: int
    label: int = 0


@dataclass(frozen=True)
class Batch:
    """A batch of rows.

    Attributes:
        ids: tokens [num_rows, length], padded on the right.
        targets: token to predict after each position, or IGNORE_INDEX: [num_rows, length - 1].
        last: position of the last token [num_rows].
        labels: classes [num_rows].
    """

    ids: torch.Tensor
    targets: torch.Tensor
    last: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`."""
        return Batch(
            *(part.to(device) for part in (self.ids, self.targets, self.last, self.labels))
        )

    def parts(self, vocabulary: int) -> Iterator[Batch]:
        """Yield the rows in parts that need at most LOGITS logits each."""
        size = max(1, LOGITS // (vocabulary * self.ids.shape[1]))
        for i in range(0, len(self.ids), size):
            yield Batch(
                *(part[i : i + size] for part in (self.ids, self.targets, self.last, self.labels))
            )


def collate(rows: Sequence[Row]) -> Batch:
    """Return rows of any lengths as one batch."""
    length = max(2, *(len(row.tokens) for row in rows))
    ids, targets = (
        torch.zeros(len(rows), length, dtype=torch.int64),
        torch.full((len(rows), length - 1), IGNORE_INDEX),
    )
    for i, row in enumerate(rows):
        tokens = torch.tensor(row.tokens)
        ids[i, : len(tokens)] = tokens
        targets[i, row.scored - 1 : len(tokens) - 1] = tokens[row.scored :]
    last, labels = (
        torch.tensor([len(row.tokens) - 1 for row in rows]),
        torch.tensor([row.label for row in rows]),
    )
    return Batch(ids, targets, last, labels)


@dataclass
class FinetunedModel:
    """A model, and the linear head on its last token where the task has one."""

    model: PreTrainedModel
    head: torch.nn.Linear | None = None
    _unembedding: list[torch.nn.Module | None] = field(default_factory=list)

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states [num_rows, length, hidden_size]."""
        states: torch.Tensor = self.model.base_model(
            input_ids=ids, use_cache=False
        ).last_hidden_state
        return states

    def logits(self, ids: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
        """Return fp32 logits [num_selected, vocabulary] at `selected` [num_rows, length]."""
        if not self._unembedding:
            with torch.no_grad():
                self._unembedding.append(unembedding(self.model, ids[0, :8]))
        head = self._unembedding[0]
        if head is None:
            all_logits: torch.Tensor = self.model(input_ids=ids, use_cache=False).logits
            return all_logits[selected].float()
        logits: torch.Tensor = head(self.hidden(ids)[selected])
        return logits.float()


def num_scored(finetuned: FinetunedModel, batch: Batch) -> int:
    """Return the number of scored tokens; with a linear head, of rows."""
    return (
        len(batch.ids) if finetuned.head is not None else int((batch.targets != IGNORE_INDEX).sum())
    )


def token_loss(finetuned: FinetunedModel, batch: Batch) -> torch.Tensor:
    """Return the summed cross-entropy in nats of scored tokens; with a linear head, of classes."""
    if finetuned.head is not None:
        scores = finetuned.head(
            finetuned.hidden(batch.ids)[
                torch.arange(len(batch.ids), device=batch.ids.device), batch.last
            ]
        )
        return cross_entropy(scores.float(), batch.labels, reduction="sum")
    selected = pad(batch.targets != IGNORE_INDEX, (0, 1))
    return cross_entropy(
        finetuned.logits(batch.ids, selected),
        batch.targets[batch.targets != IGNORE_INDEX],
        reduction="sum",
    )


@dataclass(frozen=True)
class Validation:
    """What was learned of the new task, on validation data.

    Attributes:
        metrics: "id_loss" and "id_tokens"; "accuracy", its standard error and "num_validation".
        series: the loss and the accuracy in blocks of consecutive examples, whose means are those
            over all: "id_block_loss", "block_accuracy".
    """

    metrics: dict[str, float]
    series: dict[str, list[float]]


@torch.inference_mode()
def classified(
    finetuned: FinetunedModel,
    parts: Sequence[Batch],
    words: Sequence[int],
    precision: Precision,
    progress: Progress,
) -> Validation:
    """Return the mean loss in nats ("id_loss"), and accuracy with its standard error.

    The loss is that of the scored tokens; with a linear head, of the classes. The predicted class
    has the largest logit: of the head, or of `words`, the first tokens of the label words.
    """
    losses: list[float] = []
    hits: list[int] = []
    total, num_scored, num_rows = 0.0, 0, 0
    for done, batch in enumerate((part.to(finetuned.model.device) for part in parts), start=1):
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        count_tokens(batch.ids.numel())
        with autocast(finetuned.model, precision):
            if finetuned.head is not None:
                scores = finetuned.head(finetuned.hidden(batch.ids)[rows, batch.last]).float()
                loss = cross_entropy(scores.double(), batch.labels, reduction="sum")
                num_scored += len(rows)
            else:
                selected = batch.targets != IGNORE_INDEX
                logits = finetuned.logits(batch.ids, pad(selected, (0, 1)))
                loss = cross_entropy(logits.double(), batch.targets[selected], reduction="sum")
                num_scored += len(logits)
                # Index of each row's first scored position among all scored positions.
                first = torch.cumsum(selected.sum(1), 0) - selected.sum(1)
                scores = logits[first][:, list(words)]
        losses.append(float(loss))
        total += losses[-1]  # sum() would round otherwise from Python 3.12 on
        hits.append(int((scores.argmax(1) == batch.labels).sum()) if scores.shape[1] else 0)
        num_rows += len(rows)
        progress(done, len(parts))
    metrics = {"id_loss": total / num_scored, "id_tokens": float(num_scored)}
    series = {"id_block_loss": _in_blocks(losses, num_scored)}
    if words or finetuned.head is not None:
        accuracy = sum(hits) / num_rows
        error = math.sqrt(accuracy * (1 - accuracy) / num_rows)
        metrics |= {"accuracy": accuracy, "accuracy_se": error, "num_validation": float(num_rows)}
        series["block_accuracy"] = _in_blocks(hits, num_rows)
    return Validation(metrics, series)


def _in_blocks(sums: Sequence[float], total: int, num_blocks: int = 32) -> list[float]:
    """Return sums over batches in at most num_blocks blocks whose mean is sum(sums) / total."""
    size, rest = divmod(len(sums), min(num_blocks, len(sums)))
    ends = [i * size + min(i, rest) for i in range(min(num_blocks, len(sums)) + 1)]
    return [sum(sums[low:high]) * (len(ends) - 1) / total for low, high in itertools.pairwise(ends)]
