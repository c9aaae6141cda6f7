"""Datasets as tokens: one stream to evaluate, counted batches to train on.

A text is its file byte for byte, tokenised once as one string, without special tokens. A language
dataset is rows of `context` tokens, concatenated, so that windows of `context` tokens are the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ucurve.modeling.checkpoints import (
    CheckpointError,
    file_sha256,
    local_copy,
    read_bytes,
    read_tokenizer,
)
from ucurve.modeling.synthetic_language import VERSION, WORDS, SyntheticLanguage
from ucurve.registry.artifacts import Progress, no_progress, replacement
from ucurve.registry.datasets import hub_datasets
from ucurve.registry.hub_cache import HubError
from ucurve.registry.suites import Dataset

END_OF_TEXT = (
    "<|endoftext|>"  # separates documents of a training text; id 0 of the tokenizers trained here
)
HELD_OUT = 0.01  # fraction of a training text, at its end, that is never trained on
HELD_OUT_TOKENS = 1 << 16  # of these, the number that is evaluated
Alive = Callable[[], None]  # called periodically during long work; may raise to stop it
Batches = Callable[
    [int, int, int], torch.Tensor
]  # (seed, step, num_rows) -> tokens, int64 [num_rows, context]


class DataError(CheckpointError):
    """A dataset that cannot be used; the message is shown to users."""


@dataclass(frozen=True)
class TrainingData:
    """The data of a pre-training run.

    Attributes:
        batches: source of training batches.
        held_out: tokens that are never trained on, int64 [num_tokens].
        window: of an evaluation on `held_out`.
        tokenizer: None for the built-in language.
        vocab_size: number of tokens of the vocabulary.
    """

    batches: Batches
    held_out: torch.Tensor
    window: int
    tokenizer: Tokenizer | None
    vocab_size: int


def training_data(
    data: Dataset,
    evaluation: Dataset | None,
    tokenizer: Tokenizer | None,
    context: int,
    artefacts: Path,
    alive: Alive = lambda: None,
) -> TrainingData:
    """Return batches of `context` tokens and held-out tokens.

    The latter are those of `evaluation`, by default the end of the training text.
    """
    if data.kind == "language":
        assert evaluation is not None, "the language is endless: name its held-out set"
        window = int(evaluation.parameters["context"])
        held_out = tokens_of(evaluation, None, artefacts)
        return TrainingData(language_batches(data, context), held_out, window, None, len(WORDS))
    assert tokenizer is not None, "a text needs a tokenizer"
    stream, rest = training_stream(data, tokenizer, artefacts, alive)
    if evaluation is not None:
        held_out = tokens_of(evaluation, tokenizer, artefacts)
    else:
        held_out = torch.from_numpy(rest[:HELD_OUT_TOKENS].astype(np.int64))
    return TrainingData(
        text_batches(stream, context), held_out, context, tokenizer, tokenizer.get_vocab_size()
    )


def tokens_of(
    dataset: Dataset, tokenizer: Tokenizer | None, artefacts: Path, progress: Progress = no_progress
) -> torch.Tensor:
    """Return the dataset as one stream of tokens, int64 [num_tokens].

    `dataset` is a language split, or a text, which is read with the checkpoint's `tokenizer`.
    Raises DataError.
    """
    if dataset.kind == "language":
        parameters = dataset.parameters
        if "rows" not in parameters:
            raise DataError(f"{dataset.name} is endless; choose a held-out set")
        documents = partial(
            _lang(dataset).documents, int(parameters["rows"]), int(parameters["context"])
        )
        rows = documents(split=str(parameters["split"])).rows
        return torch.from_numpy(rows.astype(np.int64).ravel())
    if tokenizer is None:
        raise DataError(f"{dataset.name} is a text, but the checkpoint has no tokenizer.json")
    text = _read(text_file(dataset, artefacts, progress), artefacts)
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids, dtype=torch.int64)


def text_file(dataset: Dataset, artefacts: Path, progress: Progress = no_progress) -> Path:
    """Return the file of a text. Raises DataError when its hash is not the registered one."""
    if dataset.unresolved or dataset.location is None:
        raise DataError(f"{dataset.name}: {dataset.unresolved or 'has no location'}")
    try:
        rebuilt = dataset.location.scheme == "hub"
        path = (
            hub_datasets.text_file(dataset, artefacts, progress)
            if rebuilt
            else local_copy(dataset.location, artefacts)
        )
    except HubError as error:
        raise DataError(str(error)) from error
    sha256 = file_sha256(path, artefacts)
    if dataset.sha256 and sha256 != dataset.sha256:
        raise DataError(
            f"{path} changed: sha256 {sha256[:12]}... instead of {dataset.sha256[:12]}..."
        )
    return path


def language_batches(dataset: Dataset, context: int) -> Batches:
    """Return endless batches of the language's training split."""
    language = _lang(dataset)

    def batch(seed: int, step: int, num_rows: int) -> torch.Tensor:
        rows = language.documents(num_rows, context, split="train", seed=seed, step=step).rows
        return torch.from_numpy(rows.astype(np.int64))

    return batch


def text_batches(stream: NDArray[np.integer], context: int) -> Batches:
    """Return batches of random windows; their starts depend on (seed, step) only."""
    starts = len(stream) - context + 1
    if starts < 1:
        raise DataError(f"the text has {len(stream)} tokens, fewer than one context of {context}")

    def batch(seed: int, step: int, num_rows: int) -> torch.Tensor:
        raw = np.random.Philox(key=seed, counter=[0, 0, 0, step]).random_raw(num_rows)
        return torch.from_numpy(
            np.stack([stream[s : s + context] for s in raw % starts]).astype(np.int64)
        )

    return batch


def training_stream(
    dataset: Dataset, tokenizer: Tokenizer, artefacts: Path, alive: Alive = lambda: None
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the tokens of a training text: (training part, held-out rest).

    Documents are joined by `END_OF_TEXT`. The tokens are cached in the artefacts under the hashes
    of text and tokenizer.
    """
    text = text_file(dataset, artefacts)
    tokenizer_sha256 = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    cached = (
        artefacts / "texts" / f"{file_sha256(text, artefacts)[:16]}-{tokenizer_sha256[:16]}.npy"
    )
    if not cached.exists():
        stream = _encode_documents(_read(text, artefacts), tokenizer, alive)
        with replacement(cached) as temporary, temporary.open("wb") as file:
            np.save(file, stream)
    stream = np.load(cached, mmap_mode="r")
    cut = len(stream) - int(HELD_OUT * len(stream))
    return stream[:cut], stream[cut:]


def train_tokenizer(
    dataset: Dataset, vocab_size: int, artefacts: Path, alive: Alive = lambda: None
) -> Tokenizer:
    """Train a byte-level BPE of `vocab_size` on the text; it is cached in the artefacts."""
    text = text_file(dataset, artefacts)
    cached = artefacts / "texts" / f"{file_sha256(text, artefacts)[:16]}-bpe{vocab_size}.json"
    if not cached.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_lines(_read(text, artefacts), alive), trainer)
        with replacement(cached) as temporary:
            tokenizer.save(str(temporary))
    return read_tokenizer(cached, artefacts)


def _lang(dataset: Dataset) -> SyntheticLanguage:
    version = int(dataset.parameters.get("version", VERSION))
    if version != VERSION:
        raise DataError(
            f"{dataset.name} has language version {version}; this installation has {VERSION}"
        )
    return SyntheticLanguage(int(dataset.parameters.get("language", 0)))


def _read(path: Path, artefacts: Path) -> str:
    try:
        return read_bytes(path, artefacts).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start:,}"
        ) from error


def _lines(text: str, alive: Alive) -> Iterator[str]:
    for document in text.split(END_OF_TEXT):
        alive()
        yield from document.splitlines(keepends=True)


def _encode_documents(text: str, tokenizer: Tokenizer, alive: Alive) -> NDArray[np.integer]:
    separator = tokenizer.token_to_id(END_OF_TEXT)
    parts: list[NDArray[np.integer]] = []
    dtype = np.uint16 if tokenizer.get_vocab_size() <= 65536 else np.uint32
    for document in text.split(END_OF_TEXT):
        alive()
        if parts and separator is not None:
            parts.append(np.array([separator], dtype))
        parts.append(
            np.array(
                tokenizer.encode_batch_fast([document], add_special_tokens=False)[0].ids, dtype
            )
        )
    return np.concatenate(parts)
