"""What a plan says about its texts and examples: tokens, windows, steps, and what cannot be.

A text and a model meet first in a plan. So what would fail on a worker is refused here: a text of
fewer than two tokens, or with a token that the model does not know.
"""

from __future__ import annotations

from typing import Any

from ucurve.registry.datasets.token_counts import (
    ExampleCount,
    TextCount,
    count_examples,
    count_text,
    num_steps,
    vocabulary_of,
    why_uncounted,
)
from ucurve.registry.suites import Checkpoint, Dataset
from ucurve.spec import Spec, SpecError


class PlanTexts:
    """Looks at every pair of text and model of a plan once.

    Attributes:
        notes: what to know of the texts.
    """

    def __init__(self, spec: Spec) -> None:
        self.notes: list[str] = []
        self._field = "evaluations" if "evaluations" in type(spec).model_fields else "evaluation"
        self._seen: set[tuple[Any, ...]] = set()

    def look_at(self, row: dict[str, Any]) -> None:
        """Check the text and the examples of a point. Raises SpecError naming the field."""
        evaluation = row["inputs"].get("evaluation")
        change = row["inputs"].get("perturbation")
        source = row["source"]
        if isinstance(evaluation, dict) and evaluation.get("tokenizer"):
            key = (*map(str, evaluation.values()), row["inputs"]["checkpoint"]["config"])
            if key not in self._seen:
                self._seen.add(key)
                self._check_text(source, evaluation)
        if isinstance(change, dict) and (change.get("task") or {}).get("tokenizer"):
            task, recipe = change["task"], change["recipe"]
            key = (*map(str, task.values()), str(recipe["length"]), recipe["batch_rows"])
            if key not in self._seen:
                self._seen.add(key)
                self._note_examples(source, task, recipe)

    def _check_text(self, source: dict[str, Any], evaluation: dict[str, Any]) -> None:
        dataset = Dataset.model_validate(source["dataset"])
        checkpoint = Checkpoint.model_validate(source["checkpoint"])
        count = count_text(dataset, checkpoint)
        if count is None:
            self._add(_uncounted(dataset, checkpoint))
            return
        if count.num_tokens < 2 and count.complete:
            raise SpecError(
                self._field,
                f"{dataset.name!r} has fewer than two tokens: there is nothing to predict.",
            )
        vocabulary = vocabulary_of(checkpoint)
        if vocabulary is not None and count.highest >= vocabulary:
            raise SpecError(
                self._field,
                f"{dataset.name!r} has the token {count.highest:,} for the tokenizer of "
                f"{checkpoint.revision}, and its model knows {vocabulary:,} tokens: the "
                "tokenizer.json is another model's; copy the right one and register the suite "
                "again.",
            )
        self._add(_text_note(dataset, checkpoint, count, evaluation))

    def _note_examples(
        self, source: dict[str, Any], task: dict[str, Any], recipe: dict[str, Any]
    ) -> None:
        dataset = Dataset.model_validate(source["data"])
        if dataset.kind != "examples":
            return
        checkpoint = Checkpoint.model_validate(source["checkpoint"])
        count = count_examples(dataset, checkpoint, task)
        context = min(task["context"], checkpoint.context or task["context"])
        total = int(dataset.parameters.get("train_rows", 0))
        if count is not None and count.num_rows and count.dropped == count.num_rows:
            raise SpecError(
                "context",
                f"No example of {dataset.name!r} has a token to learn within {context:,} "
                "tokens: give a longer context, or shorter prompts.",
            )
        self._add(_examples_note(dataset, total, count, {**task, "context": context}, recipe))

    def _add(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def _uncounted(dataset: Dataset, checkpoint: Checkpoint) -> str:
    return (
        f"{dataset.name}: its tokens for the tokenizer of {checkpoint.suite} are not known: "
        f"{why_uncounted(dataset, checkpoint)}."
    )


def _text_note(
    dataset: Dataset, checkpoint: Checkpoint, count: TextCount, evaluation: dict[str, Any]
) -> str:
    per_byte = f"{count.tokens_per_byte:.3f} per byte"
    tokenizer = f"for the tokenizer of {checkpoint.suite}"
    window = f"windows of {evaluation['window']:,}"
    if not count.complete:
        about = (dataset.size_bytes or 0) * count.tokens_per_byte
        return f"{dataset.name}: about {about:,.0f} tokens ({per_byte}) {tokenizer}, in {window}."
    return f"{dataset.name}: {count.num_tokens:,} tokens ({per_byte}) {tokenizer}, in {window}."


def _examples_note(
    dataset: Dataset,
    total: int,
    count: ExampleCount | None,
    task: dict[str, Any],
    recipe: dict[str, Any],
) -> str:
    """Return examples, steps per epoch and all, and what does not fit the context."""
    dropped = count.dropped if count and count.num_rows >= total else 0
    used = min(total - dropped, task["max_examples"] or total)
    epoch, steps = num_steps(used, recipe["batch_rows"], recipe["length"])
    note = f"{dataset.name}: {used:,} examples, {epoch:,} steps per epoch, {steps:,} steps in all."
    if count and (count.cut or count.dropped):
        sample = f" of the first {count.num_rows:,}" if count.num_rows < total else ""
        note += (
            f" Longer than {task['context']:,} tokens and cut: {count.cut:,}{sample}; without a "
            f"token to learn, and left out: {count.dropped:,}."
        )
    return note
