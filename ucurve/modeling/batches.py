"""A model being fine-tuned, the batches it reads, and its losses: label words, a linear head, or plain language modelling.

    trainee = Trainee(model)
    loss = token_loss(trainee, batch) / num_scored(trainee, batch)     # nats per scored token
    classified(trainee, batches, words, "fp32", progress)              # {"id_loss": 0.41, "accuracy": 0.83, ...}

Rows are padded on the right: attention is causal, so padding changes nothing before it and needs no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from ucurve.modeling.perplexity import Precision, autocast, unembedding

Progress = Callable[[float, float], None]  # work done, work in all; may raise to stop
IGNORE_INDEX = -100  # a position that is not scored
LOGITS = 1 << 26  # made at once in training: 256 MiB in fp32


@dataclass(frozen=True)
class Row:
    """One example: its tokens, those from `scored` on being the targets, and its class."""

    tokens: list[int]
    scored: int
    label: int = 0


@dataclass(frozen=True)
class Batch:
    """ids [num_rows, length], padded on the right; targets [num_rows, length - 1]: the token to predict after each position,
    or NONE; last [num_rows]: position of the last token; labels [num_rows]."""

    ids: torch.Tensor
    targets: torch.Tensor
    last: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        return Batch(
            *(part.to(device) for part in (self.ids, self.targets, self.last, self.labels))
        )

    def parts(self, vocabulary: int) -> Iterator[Batch]:
        """The same rows in parts that need at most LOGITS logits each."""
        size = max(1, LOGITS // (vocabulary * self.ids.shape[1]))
        for i in range(0, len(self.ids), size):
            yield Batch(
                *(part[i : i + size] for part in (self.ids, self.targets, self.last, self.labels))
            )


def collate(rows: Sequence[Row]) -> Batch:
    """Rows of any lengths as one batch."""
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
    """The model, and a linear head on its last token where the task has one."""

    model: PreTrainedModel
    head: torch.nn.Linear | None = None
    _apart: list[torch.nn.Module | None] = field(default_factory=list)

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """Last hidden states, [num_rows, length, size]."""
        states: torch.Tensor = self.model.base_model(
            input_ids=ids, use_cache=False
        ).last_hidden_state
        return states

    def logits(self, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits [num_wanted, vocabulary] at the positions marked in `wanted` [num_rows, length], in fp32."""
        if not self._apart:
            with torch.no_grad():
                self._apart.append(unembedding(self.model, ids[0, :8]))
        apart = self._apart[0]
        if apart is None:
            all_logits: torch.Tensor = self.model(input_ids=ids, use_cache=False).logits
            return all_logits[wanted].float()
        logits: torch.Tensor = apart(self.hidden(ids)[wanted])
        return logits.float()


def num_scored(trainee: FinetunedModel, batch: Batch) -> int:
    """Scored tokens; rows, with a linear head."""
    return (
        len(batch.ids) if trainee.head is not None else int((batch.targets != IGNORE_INDEX).sum())
    )


def token_loss(trainee: FinetunedModel, batch: Batch) -> torch.Tensor:
    """Sum of the losses of the scored tokens, nats; with a linear head, of the classes."""
    if trainee.head is not None:
        scores = trainee.head(
            trainee.hidden(batch.ids)[
                torch.arange(len(batch.ids), device=batch.ids.device), batch.last
            ]
        )
        return cross_entropy(scores.float(), batch.labels, reduction="sum")
    wanted = pad(batch.targets != IGNORE_INDEX, (0, 1))
    return cross_entropy(
        trainee.logits(batch.ids, wanted),
        batch.targets[batch.targets != IGNORE_INDEX],
        reduction="sum",
    )


@torch.inference_mode()
def classification_metrics(
    trainee: FinetunedModel,
    parts: Sequence[Batch],
    words: Sequence[int],
    precision: Precision,
    progress: Progress,
) -> dict[str, float]:
    """Mean loss of scored tokens (of classes with a head); accuracy by the largest of the classes' logits."""
    loss, num_scored, correct, num_rows = 0.0, 0, 0, 0
    for done, batch in enumerate((part.to(trainee.model.device) for part in parts), start=1):
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        with autocast(trainee.model, precision):
            if trainee.head is not None:
                scores = trainee.head(trainee.hidden(batch.ids)[rows, batch.last]).float()
                loss += float(cross_entropy(scores.double(), batch.labels, reduction="sum"))
                num_scored += len(rows)
            else:
                wanted = batch.targets != IGNORE_INDEX
                logits = trainee.logits(batch.ids, pad(wanted, (0, 1)))
                loss += float(
                    cross_entropy(logits.double(), batch.targets[wanted], reduction="sum")
                )
                num_scored += len(logits)
                first = torch.cumsum(wanted.sum(1), 0) - wanted.sum(
                    1
                )  # of each row among the scored positions
                scores = logits[first][:, list(words)]
        correct += int((scores.argmax(1) == batch.labels).sum()) if scores.shape[1] else 0
        num_rows += len(rows)
        progress(done, len(parts))
    metrics = {"id_loss": loss / num_scored, "id_tokens": float(num_scored)}
    if words or trainee.head is not None:
        accuracy = correct / num_rows
        error = math.sqrt(accuracy * (1 - accuracy) / num_rows)
        metrics |= {"accuracy": accuracy, "accuracy_se": error, "num_validation": float(num_rows)}
    return metrics
