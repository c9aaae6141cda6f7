"""Fine-tuning tasks: their batches, and the metrics on validation data.

task = build_task(inputs["task"], dataset, tokenizer, context, artefacts)
batch = task.batch(seed, step, num_rows)      # determined by (seed, step)
task.validate(finetuned, "fp32", progress).metrics    # {"id_loss": 0.41, "accuracy": 0.83, ...}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ucurve.modeling.batches import (
    Batch,
    FinetunedModel,
    Progress,
    Row,
    Validation,
    classified,
    collate,
)
from ucurve.modeling.checkpoints import file_sha256, local_copy
from ucurve.modeling.perplexity import Precision, window_losses
from ucurve.modeling.synthetic_language import LABEL_WORDS, TOKEN, VERSION, SyntheticLanguage
from ucurve.modeling.token_data import (
    HELD_OUT_TOKENS,
    Batches,
    DataError,
    text_batches,
    training_stream,
)
from ucurve.registry.artifacts import no_progress
from ucurve.registry.datasets import example_files, hub_datasets
from ucurve.registry.hub_cache import HubError
from ucurve.registry.roots import LocationError
from ucurve.registry.suites import Dataset, combined_sha256

VALIDATION_ROWS = 512  # of the built-in language, from a separate stream


class FinetuningTask(Protocol):
    """Source of batches and validation metrics.

    Attributes:
        num_examples: per epoch; None where the data is endless.
        num_classes: of the linear head; 0 without one.
    """

    @property
    def num_examples(self) -> int | None: ...
    @property
    def num_classes(self) -> int: ...
    def batch(self, seed: int, step: int, num_rows: int) -> Batch: ...
    def validate(
        self, finetuned: FinetunedModel, precision: Precision, progress: Progress = no_progress
    ) -> Validation: ...


@dataclass(frozen=True)
class LanguageModelingTask:
    """Language modelling: predict every token of a row but the first."""

    batches: Batches
    held_out: torch.Tensor
    context: int
    num_examples: int | None
    num_classes: int = 0

    def batch(self, seed: int, step: int, num_rows: int) -> Batch:
        ids = self.batches(seed, step, num_rows)
        return Batch(
            ids,
            ids[:, 1:],
            torch.full((len(ids),), ids.shape[1] - 1),
            torch.zeros(len(ids), dtype=torch.int64),
        )

    def validate(
        self, finetuned: FinetunedModel, precision: Precision, progress: Progress = no_progress
    ) -> Validation:
        measure = partial(
            window_losses, finetuned.model, self.held_out, window=self.context, stride=self.context
        )
        losses = measure(precision=precision, progress=progress)
        return Validation(
            {"id_loss": losses.nll_mean, "id_tokens": float(losses.num_tokens.sum())},
            {"id_block_loss": losses.in_blocks().tolist()},
        )


@dataclass(frozen=True)
class SyntheticSentimentTask:
    """Sentiment of the built-in language: one label word at the end of every document."""

    language: SyntheticLanguage
    context: int
    num_classes: int = 0
    num_examples: None = None

    def batch(self, seed: int, step: int, num_rows: int, split: str = "fine-tuning") -> Batch:
        documents = self.language.labelled_documents(
            num_rows, self.context, split=split, seed=seed, step=step
        )
        rows = documents.rows.astype(np.int64).tolist()
        end = self.context - (
            self.num_classes > 0
        )  # a linear head reads the document without its label word
        return collate(
            [
                Row(row[:end], self.context - 1, int(label))
                for row, label in zip(rows, documents.polarity, strict=True)
            ]
        )

    def validate(
        self, finetuned: FinetunedModel, precision: Precision, progress: Progress = no_progress
    ) -> Validation:
        words = [TOKEN[word] for word in LABEL_WORDS]
        parts = [
            self.batch(0, i, 64, "fine-tuning validation") for i in range(VALIDATION_ROWS // 64)
        ]
        return classified(finetuned, parts, words, precision, progress)


@dataclass(frozen=True)
class SupervisedTask:
    """Examples from files; `words`: first token of each class's label word, if any."""

    train: list[Row]
    validation: list[Row]
    words: list[int]
    num_classes: int = 0

    @property
    def num_examples(self) -> int:
        return len(self.train)

    def batch(self, seed: int, step: int, num_rows: int) -> Batch:
        """Return a batch; each epoch has its own order, and its last batch may be short."""
        num_batches = math.ceil(len(self.train) / num_rows)
        order = _order(len(self.train), seed, step // num_batches)
        start = (step % num_batches) * num_rows
        return collate([self.train[i] for i in order[start : start + num_rows]])

    def validate(
        self, finetuned: FinetunedModel, precision: Precision, progress: Progress = no_progress
    ) -> Validation:
        parts = [collate(self.validation[i : i + 32]) for i in range(0, len(self.validation), 32)]
        return classified(finetuned, parts, self.words, precision, progress)


def _order(num: int, seed: int, epoch: int) -> NDArray[np.int64]:
    raw = np.random.Philox(key=seed, counter=[0, 0, 1, epoch]).random_raw(num)
    return np.argsort(raw, kind="stable")


# ---- from datasets


def build_task(
    inputs: dict[str, Any],
    dataset: Dataset,
    tokenizer: Tokenizer | None,
    limit: int,
    artefacts: Path,
    progress: Progress = no_progress,
) -> FinetuningTask:
    """Return the task of a point's inputs; `limit`: the model's context. Raises DataError."""
    head = inputs["protocol"].startswith("linear_head")
    context = min(inputs["context"] or limit, limit)
    if dataset.kind == "language":
        version = int(dataset.parameters.get("version", VERSION))
        if version != VERSION:
            raise DataError(
                f"{dataset.name} has language version {version}; this installation has {VERSION}"
            )
        language = SyntheticLanguage(int(dataset.parameters["language"]))
        if dataset.parameters.get("task") == "sentiment":
            return SyntheticSentimentTask(language, context, num_classes=2 * head)
        return _language_stream(language, context)
    if tokenizer is None:
        raise DataError(f"{dataset.name} is text, but the checkpoint has no tokenizer.json")
    if dataset.kind == "text":
        stream, rest = training_stream(dataset, tokenizer, artefacts, lambda: progress(0, 1))
        held_out = torch.from_numpy(rest[:HELD_OUT_TOKENS].astype(np.int64))
        return LanguageModelingTask(
            text_batches(stream, context), held_out, context, len(stream) // context
        )
    return _supervised_task(
        inputs, dataset, tokenizer, context, _examples(dataset, artefacts, progress)
    )


def _supervised_task(
    inputs: dict[str, Any],
    dataset: Dataset,
    tokenizer: Tokenizer,
    context: int,
    splits: Mapping[str, example_files.Examples],
) -> SupervisedTask:
    """Tokenize the examples. Raises DataError when labels and label words differ."""
    train, validation = splits["train"], splits["validation"]
    if inputs["protocol"].startswith("language_modelling"):
        rows = [_prompted(tokenizer, examples, context) for examples in (train, validation)]
        return SupervisedTask(_some(rows[0], inputs["max_examples"]), rows[1], [])
    names = example_files.classes(train)
    answers = [
        tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in inputs["label_words"]
    ]
    if len(names) != len(answers) or len({answer[0] for answer in answers}) < len(answers):
        raise DataError(
            f"{dataset.name} has the labels {', '.join(names[:5])}; the label words "
            f"{inputs['label_words']} must be as many, and differ in their first token"
        )
    head = inputs["protocol"].startswith("linear_head")
    label = partial(_labelled, tokenizer, inputs["prompt"], names, answers, head, context)
    return SupervisedTask(
        _some(label(train), inputs["max_examples"]),
        label(validation),
        [answer[0] for answer in answers],
        len(names) * head,
    )


def pretraining_rows(
    dataset: Dataset, tokenizer: Tokenizer | None, num_rows: int, context: int, artefacts: Path
) -> torch.Tensor:
    """Return pre-training rows, int64 [num_rows, context], for the Fisher information.

    Rows of the built-in language come from a stream that no training reads. Raises DataError.
    """
    if dataset.kind == "language":
        rows = (
            SyntheticLanguage(int(dataset.parameters["language"]))
            .documents(num_rows, context, split="Fisher information")
            .rows
        )
        return torch.from_numpy(rows.astype(np.int64))
    if tokenizer is None or dataset.kind != "text":
        raise DataError(
            f"{dataset.name} must be a text, and the checkpoint must have a tokenizer.json"
        )
    return text_batches(training_stream(dataset, tokenizer, artefacts)[0], context)(0, 0, num_rows)


def _language_stream(language: SyntheticLanguage, context: int) -> LanguageModelingTask:
    def batch(seed: int, step: int, num_rows: int) -> torch.Tensor:
        rows = language.documents(num_rows, context, split="fine-tuning", seed=seed, step=step).rows
        return torch.from_numpy(rows.astype(np.int64))

    held_out = language.documents(VALIDATION_ROWS, context, split="fine-tuning validation").rows
    return LanguageModelingTask(
        batch, torch.from_numpy(held_out.astype(np.int64).ravel()), context, None
    )


def _examples(
    dataset: Dataset, artefacts: Path, progress: Progress
) -> dict[str, example_files.Examples]:
    """Return the examples of both splits. Raises DataError when the files changed."""
    try:
        paths = _files(dataset, artefacts, progress)
        return {split: example_files.read(path, artefacts) for split, path in paths.items()}
    except (LocationError, OSError, example_files.ExamplesError) as error:
        raise DataError(f"{dataset.name}: {error}") from error


def _files(dataset: Dataset, artefacts: Path, progress: Progress) -> dict[str, Path]:
    """Return the two files of a dataset of examples. Raises DataError when their hash changed."""
    if dataset.unresolved or dataset.location is None:
        raise DataError(f"{dataset.name}: {dataset.unresolved or 'has no location'}")
    if dataset.location.scheme == "hub":
        try:
            return hub_datasets.example_files(dataset, artefacts, progress)
        except HubError as error:
            raise DataError(str(error)) from error
    folder = local_copy(dataset.location, artefacts)
    files = {split: folder / str(dataset.parameters[split]) for split in example_files.SPLITS}
    sha256 = combined_sha256({split: file_sha256(path, artefacts) for split, path in files.items()})
    if dataset.sha256 and sha256 != dataset.sha256:
        raise DataError(
            f"the files of {dataset.name} changed: "
            f"sha256 {sha256[:12]}... instead of {dataset.sha256[:12]}..."
        )
    return files


def _labelled(
    tokenizer: Tokenizer,
    prompt: str,
    names: Sequence[str],
    answers: Sequence[list[int]],
    head: bool,
    context: int,
    examples: example_files.Examples,
) -> list[Row]:
    """Return prompt and label word as rows; for a linear head, the prompt only.

    Prompts that are too long lose their beginning.
    """
    texts = [prompt.replace("{sentence}", sentence.strip()) for sentence, _ in examples.rows]
    rows = []
    for encoded, (_, label) in zip(
        tokenizer.encode_batch_fast(texts, add_special_tokens=False), examples.rows, strict=True
    ):
        kind = names.index(label)
        answer = [] if head else answers[kind]
        tokens = encoded.ids[-(context - len(answer)) :]
        rows.append(Row([*tokens, *answer], len(tokens), kind))
    return rows


def _prompted(tokenizer: Tokenizer, examples: example_files.Examples, context: int) -> list[Row]:
    """Return prompt and completion as rows, of which the completion is scored.

    Sentences without a prompt are scored from their second token on. Raises DataError when no
    example has a scored token within the context.
    """
    rows = []
    for first, second in examples.rows:
        prompt, completion = (
            (first, second) if examples.columns == example_files.PROMPTED else ("", first)
        )
        start, end = (
            tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, completion)
        )
        tokens = [*start, *end][:context]
        if (scored := max(len(start), 1)) < len(tokens):
            rows.append(Row(tokens, scored))
    if not rows:
        raise DataError(f"no example fits a context of {context} tokens")
    return rows


def _some(rows: list[Row], most: int | None) -> list[Row]:
    """Return at most `most` rows, chosen at random but the same for all seeds."""
    return rows if most is None else [rows[i] for i in sorted(_order(len(rows), 0, 2**32)[:most])]
