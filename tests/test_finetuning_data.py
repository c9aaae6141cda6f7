"""Fine-tuning data: scored tokens, batches and epochs, label words and heads, example files."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import RECIPE, SENTIMENT, language_task, model_of, quiet, tuning_of
from tokenizers import Tokenizer, models, pre_tokenizers

from ucurve.modeling.batches import FinetunedModel, Row, collate, num_scored, token_loss
from ucurve.modeling.finetune import (
    FinetuningConfig,
    all_parameters,
    build_head,
    num_steps_of,
)
from ucurve.modeling.finetuning_data import SupervisedTask, build_task
from ucurve.modeling.synthetic_language import WORDS, SyntheticLanguage
from ucurve.modeling.token_data import DataError
from ucurve.registry.suites import Dataset, Location


def test_only_scored_tokens_count_and_padding_changes_nothing() -> None:
    trainee = FinetunedModel(model_of())
    rows = [Row([1, 2, 3, 4, 5], 3), Row([6, 7, 8, 9, 10, 11, 12], 6), Row([13, 14], 1)]
    together = collate(rows)
    assert num_scored(trainee, together) == 2 + 1 + 1
    alone = sum(token_loss(trainee, collate([row])).item() for row in rows)
    assert token_loss(trainee, together).item() == pytest.approx(alone, rel=1e-5)
    log_p = trainee.model(torch.tensor([[1, 2, 3, 4, 5]])).logits[0].log_softmax(-1).detach()
    assert token_loss(trainee, collate(rows[:1])).item() == pytest.approx(
        -float(log_p[2, 4] + log_p[3, 5]), rel=1e-5
    )


def test_parts_of_a_large_batch_add_up_to_the_same_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, parted = tuning_of({"name": "full"}), tuning_of({"name": "full"})
    whole._update(whole.task.batch(0, 0, 5))
    monkeypatch.setattr("ucurve.modeling.batches.LOGITS", 2 * len(WORDS) * 32)
    parted._update(parted.task.batch(0, 0, 5))
    assert whole.losses == pytest.approx(parted.losses)
    for a, b in zip(whole.trained.values(), parted.trained.values(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def test_every_epoch_reads_every_example_once_in_its_own_order() -> None:
    task = SupervisedTask([Row([i, i + 1], 1) for i in range(10)], [Row([0, 1], 1)], [])
    epochs = [
        [int(i) for step in range(3 * e, 3 * e + 3) for i in task.batch(0, step, 4).ids[:, 0]]
        for e in range(2)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != [int(i) for step in range(3) for i in task.batch(1, step, 4).ids[:, 0]]
    assert num_steps_of({"epochs": 3.0}, task, 4) == 9
    assert num_steps_of({"steps": 5}, task, 4) == 5


@pytest.mark.parametrize("protocol", ["label_words/1", "linear_head/1"])
def test_sentiment_of_the_built_in_language_is_learned_and_measured_as_a_plain_loop_does(
    protocol: str, tmp_path: Path
) -> None:
    task = language_task(protocol, SENTIMENT)
    recipe = FinetuningConfig(
        **{**RECIPE.__dict__, "num_steps": 60, "batch_rows": 16, "learning_rate": 1e-2}
    )
    tuning = tuning_of({"name": "full"}, task, recipe)
    before = task.validate(tuning.finetuned, "fp32").metrics
    tuning.run(tmp_path, quiet)
    validation = task.validate(tuning.finetuned, "fp32")
    after = validation.metrics
    assert after["id_loss"] < before["id_loss"]
    documents = [
        SyntheticLanguage(0).labelled_documents(64, 32, split="fine-tuning validation", step=i)
        for i in range(8)
    ]
    rows = torch.from_numpy(np.concatenate([d.rows for d in documents]).astype(np.int64))
    labels = torch.from_numpy(np.concatenate([d.polarity for d in documents]).astype(np.int64))
    with torch.no_grad():
        model, head = tuning.finetuned.model, tuning.finetuned.head
        if head is not None:
            scores = head(model.base_model(rows[:, :-1]).last_hidden_state[:, -1])
            loss = torch.nn.functional.cross_entropy(scores, labels)
        else:
            logits = model(rows[:, :-1]).logits[:, -1]
            scores = logits[:, [WORDS.index("bad"), WORDS.index("good")]]
            loss = torch.nn.functional.cross_entropy(logits, rows[:, -1])
    assert after["id_loss"] == pytest.approx(float(loss), rel=1e-5)
    accuracy = float((scores.argmax(1) == labels).double().mean())
    assert after["accuracy"] == pytest.approx(accuracy)
    assert after["accuracy_se"] == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 512))
    of_blocks = (scores.argmax(1) == labels).double().reshape(8, 64).mean(1)
    assert validation.series["block_accuracy"] == pytest.approx(of_blocks.tolist())
    assert np.mean(validation.series["id_block_loss"]) == pytest.approx(after["id_loss"])


def test_a_new_head_is_drawn_from_its_seed_alone() -> None:
    first, again, other = (build_head(model_of(k), 2, seed) for k, seed in ((0, 0), (1, 0), (0, 1)))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert set(all_parameters(FinetunedModel(model_of(), first))) - set(
        all_parameters(FinetunedModel(model_of()))
    ) == {"head.weight"}


def word_tokenizer() -> Tokenizer:
    words = ["good", "bad", "film", "a", "is", "it", ":", "?", "yes", "no", "what", " "]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate([*words, "<unk>"])}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def examples_in(folder: Path, name: str, train: str, validation: str) -> Dataset:
    suffix = "jsonl" if train.startswith("{") else "tsv"
    (folder / f"train.{suffix}").write_text(train)
    (folder / f"dev.{suffix}").write_text(validation)
    names: dict[str, str | int | float] = {
        "train": f"train.{suffix}",
        "validation": f"dev.{suffix}",
    }
    return Dataset(
        name=name,
        kind="examples",
        parameters=names,
        location=Location(scheme="path", path=str(folder)),
    )


def read_task(dataset: Dataset, **asked: Any) -> SupervisedTask:
    words = {"prompt": "{sentence} ?", "label_words": ["no", "yes"]}
    whole = {"protocol": "label_words/1", "context": 64, **words, "max_examples": None}
    found = build_task({**whole, **asked}, dataset, word_tokenizer(), 16, Path())
    assert isinstance(found, SupervisedTask)
    return found


def test_examples_become_prompt_and_label_word_or_prompt_and_completion(tmp_path: Path) -> None:
    labelled = examples_in(
        tmp_path,
        "films",
        "sentence\tlabel\nit is good \t1\na bad film\t0\n",
        "label\tsentence\n1\tgood film\n",
    )
    task = read_task(labelled)
    assert task.train == [Row([5, 4, 0, 7, 8], 4, 1), Row([3, 1, 2, 7, 9], 4, 0)]
    assert task.validation == [Row([0, 2, 7, 8], 3, 1)]
    assert task.words == [9, 8]
    assert read_task(labelled, protocol="linear_head/1").train[0] == Row([5, 4, 0, 7], 4, 1)
    assert read_task(labelled, context=4).train[0] == Row([4, 0, 7, 8], 3, 1), (
        "a long prompt loses its beginning, never its end"
    )
    assert len(read_task(labelled, max_examples=1).train) == 1
    assert read_task(labelled, protocol="language_modelling/1").train[0] == Row([5, 4, 0], 1), (
        "sentences alone, all but the first"
    )
    with pytest.raises(DataError, match="as many"):
        read_task(labelled, label_words=["yes"])
    with pytest.raises(DataError, match="first token"):
        read_task(labelled, label_words=["yes no", "yes"])
    entries = [
        json.dumps({"prompt": "what is it ?", "completion": f"a {kind} film"})
        for kind in ("good", "bad")
    ]
    prompted = examples_in(tmp_path, "answers", entries[0] + "\n", entries[1] + "\n")
    task = read_task(prompted, protocol="language_modelling/1")
    assert task.train == [Row([10, 4, 5, 7, 3, 0, 2], 4)]
    assert task.validation == [Row([10, 4, 5, 7, 3, 1, 2], 4)]


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text("sentence\tlabel\nchanged\t0\n"), Path.unlink]
)
def test_files_that_changed_since_they_were_registered_are_refused(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    dataset = examples_in(
        tmp_path, "films", "sentence\tlabel\ngood\t1\nbad\t0\n", "sentence\tlabel\nbad\t0\n"
    )
    registered = dataset.model_copy(update={"sha256": "0" * 64})
    change(tmp_path / "dev.tsv")
    with pytest.raises(DataError.__mro__[1], match=r"changed|missing"):
        read_task(registered)
