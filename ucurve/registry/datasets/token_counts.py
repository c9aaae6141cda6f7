"""Texts and examples as the tokens of one tokenizer, counted without torch for plans.

>>> count_text(dataset, checkpoint).tokens_per_byte    # doctest: +SKIP
0.2229

Counted once per text and tokenizer and kept in the artefact folder. None where the text or the
tokenizer is not on this machine yet (a hub's file before its first use).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ucurve.registry.artifacts import LocationError, folder_of, write_atomically
from ucurve.registry.datasets import example_files
from ucurve.registry.datasets.hub_datasets import cached_files
from ucurve.registry.hub_cache import repository_folder
from ucurve.registry.roots import open_file
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.settings import settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COUNTED_BYTES = 2**21  # of a text: about a second; of a longer one the start stands for the rest
COUNTED_ROWS = 20_000  # of examples
VERSION = 1  # of the files that keep counts


@dataclass(frozen=True)
class TextCount:
    """Tokens of a text, or of its first `num_bytes` bytes.

    Attributes:
        highest: the greatest token; -1 without any.
        complete: whether all of the text was counted.
    """

    num_tokens: int
    num_bytes: int
    highest: int
    complete: bool

    @property
    def tokens_per_byte(self) -> float:
        """Tokens per byte of what was counted."""
        return self.num_tokens / max(self.num_bytes, 1)


@dataclass(frozen=True)
class ExampleCount:
    """How the training examples fit into a context.

    Attributes:
        num_rows: examples that were counted, from the first.
        cut: of these, longer than the context, which lose tokens.
        dropped: of these, without any token to learn within the context.
    """

    num_rows: int
    cut: int
    dropped: int


def count_text(dataset: Dataset, checkpoint: Checkpoint) -> TextCount | None:
    """Return the tokens of a text as a checkpoint's tokenizer makes them; None where unknown."""
    key = [dataset.sha256, checkpoint.tokenizer_sha256]
    cached = _kept(key)
    if cached is not None:
        return TextCount(**cached)
    path = _text_file(dataset)
    tokenizer = _tokenizer(checkpoint) if path else None
    if path is None or tokenizer is None:
        return None
    try:
        with open_file(path) as file:
            content = file.read(COUNTED_BYTES + 1)
    except (OSError, LocationError):
        return None
    part = content[:COUNTED_BYTES]
    ids = tokenizer.encode(part.decode(errors="ignore"), add_special_tokens=False).ids
    count = TextCount(len(ids), len(part), max(ids, default=-1), len(content) <= COUNTED_BYTES)
    _keep(key, asdict(count))
    return count


def why_uncounted(dataset: Dataset, checkpoint: Checkpoint) -> str:
    """Return why `count_text` knows no tokens, and when they will be known."""
    if _text_file(dataset) is None:
        return "the text is downloaded when it is first measured"
    on_hub = checkpoint.location.scheme == "hub"
    try:
        folder = _model_folder(checkpoint)
    except LocationError as error:
        return str(error)
    if on_hub and not (folder / "tokenizer.json").exists():
        return "the tokenizer is downloaded again when the model is first measured"
    return "only workers read its tokenizer; a tokenizer.json is read by plans, too"


def count_examples(
    dataset: Dataset, checkpoint: Checkpoint, task: Mapping[str, Any]
) -> ExampleCount | None:
    """Return how the training examples fit into the context of a task; None where unknown."""
    context = min(int(task["context"]), checkpoint.context or int(task["context"]))
    fields = ("protocol", "prompt", "label_words")
    key = [dataset.sha256, checkpoint.tokenizer_sha256, context, *(task[name] for name in fields)]
    cached = _kept(key)
    if cached is not None:
        return ExampleCount(**cached)
    path = _examples_file(dataset)
    tokenizer = _tokenizer(checkpoint) if path else None
    if path is None or tokenizer is None:
        return None
    try:
        examples = example_files.read(path)
    except (OSError, LocationError, example_files.ExamplesError):
        return None
    count = _fitted(tokenizer, examples, context, task)
    _keep(key, asdict(count))
    return count


def _fitted(
    tokenizer: Tokenizer, examples: example_files.Examples, context: int, task: Mapping[str, Any]
) -> ExampleCount:
    rows = examples.rows[:COUNTED_ROWS]
    if task["protocol"].startswith("language_modelling"):
        prompted = examples.columns == example_files.PROMPTED
        starts = _lengths(tokenizer, [first if prompted else "" for first, _ in rows])
        ends = _lengths(tokenizer, [second if prompted else first for first, second in rows])
        cut = sum(a + b > context for a, b in zip(starts, ends, strict=True))
        fits = [max(a, 1) < min(a + b, context) for a, b in zip(starts, ends, strict=True)]
        return ExampleCount(len(rows), cut, fits.count(False))
    head = task["protocol"].startswith("linear_head")
    answers = _lengths(tokenizer, [f" {word}" for word in task["label_words"]])
    longest = 0 if head else max(answers)
    texts = [task["prompt"].replace("{sentence}", sentence.strip()) for sentence, _ in rows]
    cut = sum(length + longest > context for length in _lengths(tokenizer, texts))
    return ExampleCount(len(rows), cut, 0)


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [len(each.ids) for each in encoded]


def num_steps(num_rows: int, batch_rows: int, length: Mapping[str, float]) -> tuple[int, int]:
    """Return the optimiser steps of an epoch, and those of a fine-tuning."""
    epoch = max(1, math.ceil(num_rows / batch_rows))
    return epoch, int(length.get("steps") or max(1, round(length.get("epochs", 0) * epoch)))


def vocabulary_of(checkpoint: Checkpoint) -> int | None:
    """Return the number of tokens that a model knows, from its config; None where unknown."""
    config: Any = None
    with suppress(OSError, LocationError, ValueError, RecursionError):
        folder = _model_folder(checkpoint)
        with open_file(folder / "config.json") as file:
            config = json.loads(file.read(10**7))
    if not isinstance(config, dict):
        return None
    text = config.get("text_config")
    size = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, dict) else None)
    return size if type(size) is int else None


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    try:
        from tokenizers import Tokenizer

        with open_file(_model_folder(checkpoint) / "tokenizer.json") as file:
            return Tokenizer.from_str(file.read().decode())
    except Exception:  # the library raises a bare Exception; a worker says what is wrong
        return None


def _model_folder(checkpoint: Checkpoint) -> Path:
    location = checkpoint.location
    if location.scheme != "hub":
        return folder_of(location)
    folder = repository_folder(settings().artefacts / "hub", location.path)
    return folder / "snapshots" / str(location.commit)


def _text_file(dataset: Dataset) -> Path | None:
    return _local(dataset) if dataset.kind == "text" else None


def _examples_file(dataset: Dataset) -> Path | None:
    if dataset.kind != "examples":
        return None
    path = _local(dataset)
    hub = dataset.location is not None and dataset.location.scheme == "hub"
    return path if hub or path is None else path / str(dataset.parameters["train"])


def _local(dataset: Dataset) -> Path | None:
    """Return the file or folder of a dataset; of one on the hub only what was rebuilt here."""
    if dataset.location is None:
        return None
    if dataset.location.scheme == "hub":
        return next(iter(cached_files(dataset, settings().artefacts)), None)
    try:
        return folder_of(dataset.location)
    except LocationError:
        return None


def _kept_file(key: Sequence[Any]) -> Path:
    name = hashlib.sha256(json.dumps([VERSION, *key]).encode()).hexdigest()[:32]
    return settings().artefacts / "texts" / "counts" / f"{name}.json"


def _kept(key: Sequence[Any]) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        cached: dict[str, Any] = json.loads(_kept_file(key).read_bytes())
        return cached
    return None


def _keep(key: Sequence[Any], count: Mapping[str, Any]) -> None:
    with suppress(OSError):  # a full disk: it is counted again
        write_atomically(_kept_file(key), json.dumps(count).encode())
