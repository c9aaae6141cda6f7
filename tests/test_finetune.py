"""Fine-tuning on tensors: resumable to the bit, penalties by their definition, interpolation from the base to the tuned weights."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve import tuned
from ucurve.data import DataError
from ucurve.finetune import Recipe, Tuning, head_of, num_steps_of, parameters_of
from ucurve.language import WORDS, Lang
from ucurve.penalties import Penalty, fisher
from ucurve.perturb import checksum, standard_normal
from ucurve.spec import Stopped
from ucurve.suites import Dataset, Location
from ucurve.tasks import Rows, Task, pretraining_rows, task_of
from ucurve.trainee import Row, Trainee, batch_of, num_scored, token_loss

RECIPE = Recipe(
    optimiser="adamw", learning_rate=3e-3, num_steps=12, batch_rows=4, schedule="linear", warmup=0.1, weight_decay=0.01,
    grad_clip=1.0, beta1=0.9, beta2=0.999, precision="fp32",
)  # fmt: skip
LANGUAGE = Dataset(name="redrawn", kind="language", parameters={"language": 1, "split": "train", "version": 1}, sha256="a")
SENTIMENT = Dataset(name="s", kind="language", parameters={"language": 0, "task": "sentiment", "version": 1}, sha256="b")
METHODS: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "head"},
    {"name": "lora", "rank": 2},
    {"name": "l2_sp", "strength": 0.1},
    {"name": "ewc", "strength": 10.0},
]


def model_of(seed: int = 0) -> GPTNeoXForCausalLM:
    """A small model of the built-in language, the same for every version of torch."""
    config = GPTNeoXConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.1, use_cache=False,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.data = 0.2 * standard_normal(seed, f"test/{name}", parameter.numel()).view_as(parameter)
    return model


def language_task(protocol: str = "language_modelling/1", dataset: Dataset = LANGUAGE) -> Task:
    return task_of({"protocol": protocol, "context": 32}, dataset, None, 64, Path())


def tuning_of(method: dict[str, Any], task: Task | None = None, recipe: Recipe = RECIPE, seed: int = 0) -> Tuning:
    base = model_of()
    rows = pretraining_rows(LANGUAGE, None, 3, 32, Path())
    return Tuning(base, task or language_task(), recipe, method, seed, fisher(base, rows) if method["name"] == "ewc" else None)


def quiet(done: float, total: float, **metrics: float) -> None: ...


class StopAt:
    """Progress that stops the run after so many steps."""

    def __init__(self, step: int) -> None:
        self.step, self.calls = step, []  # type: ignore[var-annotated]

    def __call__(self, done: float, total: float, **metrics: float) -> None:
        self.calls.append(done)
        if done >= self.step:
            raise Stopped


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- resuming


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_fine_tuning_stopped_within_a_step_continues_to_the_same_weights(method: dict[str, Any], tmp_path: Path) -> None:
    whole = tuning_of(method).run(tmp_path / "whole", quiet)
    for step in (0, 5, 6):
        stop = StopAt(step)
        with pytest.raises(Stopped):
            tuning_of(method).run(tmp_path / "stopped", stop)
        assert stop.calls[-1] == step, "no step follows the one in which it was stopped"
    again = tuning_of(method).run(tmp_path / "stopped", quiet)
    assert equal(again.weights, whole.weights)
    assert again.facts.losses == whole.facts.losses
    assert (again.facts.steps, again.facts.tokens) == (12, 12 * 4 * 32)
    assert not equal(tuning_of(method, seed=1).run(tmp_path / "other", quiet).weights, whole.weights)


def test_a_fine_tuning_killed_in_the_middle_continues_to_the_same_weights(tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.__dict__, "num_steps": 400})
    whole = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "whole", quiet)
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_finetune import *\n"
        "from ucurve import finetune; finetune.SAVE_EVERY_SECONDS = 0.1\n"
        "tuning_of({'name': 'full'}, recipe=Recipe(**{**RECIPE.__dict__, 'num_steps': 400})).run(Path(sys.argv[1]), quiet)"
    )
    state = tmp_path / "killed" / tuned.STATE
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "killed"), str(Path(__file__).parent)])
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process was killed in the middle of its work"
    assert 0 < torch.load(state, weights_only=True)["step"] < 400
    again = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "killed", quiet)
    assert equal(again.weights, whole.weights)


def test_divergence_ends_the_training_and_is_kept_as_a_fact(tmp_path: Path) -> None:
    recipe = Recipe(**{**RECIPE.__dict__, "learning_rate": 1e30, "optimiser": "sgd", "grad_clip": 1e6, "warmup": 0.0})
    found = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path, quiet)
    assert found.facts.diverged
    assert found.facts.steps < 12
    assert found.weights == {}
    tuned.write(tmp_path, found)
    again = tuned.read(tmp_path)
    assert again is not None
    assert again.facts.diverged
    assert not math.isfinite(again.facts.losses[-1])


# ---- what is trained, and how


def test_methods_train_what_they_say_and_leave_the_rest(tmp_path: Path) -> None:
    base = dict(model_of().named_parameters())
    changed = {
        method["name"]: {
            name for name, tensor in tuning_of(method).run(tmp_path / method["name"], quiet).weights.items()
            if not torch.equal(tensor, base[name])
        }
        for method in METHODS
    }  # fmt: skip
    assert changed["full"] == changed["l2_sp"] == changed["ewc"] == base.keys()
    assert changed["head"] == {"lm_head.weight"}
    linear = {"attention.query_key_value.weight", "attention.dense.weight", "mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"}
    assert changed["lora"] == {f"gpt_neox.layers.0.{name}" for name in linear}


def test_merged_low_rank_updates_have_their_rank_and_give_the_loss_of_the_adapter(tmp_path: Path) -> None:
    tuning = tuning_of({"name": "lora", "rank": 2})
    found = tuning.run(tmp_path, quiet)
    batch = tuning.task.batch(7, 0, 4)
    with torch.no_grad():
        adapted = float(token_loss(tuning.trainee, batch))
    model = model_of()
    parameters = dict(model.named_parameters())
    for name, tensor in found.weights.items():
        assert torch.linalg.matrix_rank((tensor - parameters[name]).double(), atol=1e-5) == 2
    with tuned.interpolated(parameters, found.weights, 1.0):
        assert token_loss(Trainee(model), batch).item() == pytest.approx(adapted, rel=1e-5)


def test_a_step_of_adamw_is_the_one_in_the_paper(tmp_path: Path) -> None:
    """Loshchilov & Hutter 2019 by hand, with warm-up, clipping, and the gradient of L2-SP inside the clipped one."""
    recipe = Recipe(**{**RECIPE.__dict__, "num_steps": 2, "warmup": 0.5, "grad_clip": 0.1})
    tuning = tuning_of({"name": "l2_sp", "strength": 0.5}, recipe=recipe)
    base = {name: p.detach().clone() for name, p in tuning.trained.items()}
    theta, m, v = dict(base), dict.fromkeys(base, torch.tensor(0.0)), dict.fromkeys(base, torch.tensor(0.0))
    for step, rate in ((0, 3e-3), (1, 3e-3)):  # one step of warm-up, then the first of a decay over the one that is left
        model = model_of()
        model.load_state_dict(theta)
        batch = tuning.task.batch(0, step, 4)
        logits = model(batch.ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss = loss + 0.25 * sum((p - base[name]).square().sum() for name, p in model.named_parameters())
        gradients = dict(zip(base, torch.autograd.grad(loss, list(model.parameters())), strict=True))
        norm = torch.sqrt(sum(g.square().sum() for g in gradients.values()))  # type: ignore[arg-type]
        for name, gradient in gradients.items():
            g = gradient * min(1.0, 0.1 / (float(norm) + 1e-6))
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g.square()
            upwards = (m[name] / (1 - 0.9 ** (step + 1))) / ((v[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            theta[name] = theta[name] * (1 - rate * 0.01) - rate * upwards
    found = tuning.run(tmp_path, quiet).weights
    for name, tensor in found.items():
        assert torch.allclose(tensor, theta[name], rtol=1e-4, atol=2e-5), name


@pytest.mark.parametrize("weighted", [False, True])
def test_penalty_gradients_are_those_of_the_penalty(weighted: bool) -> None:
    model, other = model_of(0), model_of(1)
    parameters = dict(model.named_parameters())
    anchor = {name: p.detach() for name, p in other.named_parameters() if "mlp" in name}
    weights = {name: torch.rand_like(p) for name, p in anchor.items()} if weighted else None
    for p in parameters.values():
        p.grad = torch.full_like(p, 2.0)
    Penalty(0.7, anchor, weights).add_gradient_(parameters)
    held = [name for name in parameters if name in anchor]
    value = sum(0.35 * ((weights[name] if weights else 1.0) * (parameters[name] - anchor[name]).square()).sum() for name in held)
    for name, gradient in zip(held, torch.autograd.grad(value, [parameters[n] for n in held]), strict=True):  # type: ignore[arg-type]
        assert torch.allclose(parameters[name].grad, gradient + 2.0, atol=1e-6)  # type: ignore[arg-type]
    assert all(bool((p.grad == 2.0).all()) for name, p in parameters.items() if name not in anchor)


def test_the_fisher_information_is_the_mean_squared_gradient_of_each_row() -> None:
    model = model_of()
    rows = pretraining_rows(LANGUAGE, None, 4, 32, Path())
    found = fisher(model, rows)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in rows:
        model.zero_grad()
        model(row[None], labels=row[None]).loss.backward()
        for name, p in model.named_parameters():
            expected[name] += p.grad.square() / 4  # type: ignore[union-attr]
    assert all(torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-9) for name in found)
    assert not torch.equal(rows[0], language_task().batch(0, 0, 1).ids[0]), "no row that is fine-tuned on"


# ---- interpolation


def test_interpolation_starts_at_the_base_and_ends_at_the_tuned_weights_and_leaves_no_trace() -> None:
    model = model_of(0)
    parameters, weights = dict(model.named_parameters()), {n: p.detach() for n, p in model_of(1).named_parameters()}
    base = {name: p.detach().clone() for name, p in parameters.items()}
    before = checksum(parameters)
    with tuned.interpolated(parameters, weights, 0.0) as displacement:
        assert equal(parameters, base)  # type: ignore[arg-type]
        assert displacement["displacement"] == 0
    with tuned.interpolated(parameters, weights, 1.0) as displacement:
        assert equal(parameters, weights)  # type: ignore[arg-type]
    moved = torch.cat([(weights[name] - base[name]).flatten().double() for name in base]).norm()
    size = torch.cat([tensor.flatten().double() for tensor in base.values()]).norm()
    assert displacement["displacement"] == pytest.approx(float(moved / size))
    groups = ("embedding", "attention", "mlp", "norm", "unembedding")
    assert set(displacement) == {"displacement", *(f"displacement_{group}" for group in groups)}
    with tuned.interpolated(parameters, weights, 0.3):
        assert torch.allclose(parameters["lm_head.weight"], 0.7 * base["lm_head.weight"] + 0.3 * weights["lm_head.weight"])
    assert checksum(parameters) == before
    with pytest.raises(ZeroDivisionError), tuned.interpolated(parameters, weights, 0.3):
        raise ZeroDivisionError
    assert checksum(parameters) == before


def test_tuned_weights_are_kept_until_the_disk_is_wanted_for_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_TUNED_GB", "0.000005")
    facts = tuned.Facts(1, 1, 0.0, False, [1.0])
    for name in ("a", "b", "c"):
        tuned.write(tmp_path / name, tuned.Tuned({"w": torch.full((400,), 1.0)}, facts))
        os.utime(tmp_path / name / tuned.FACTS, (ord(name), ord(name)))
        if name == "b":
            assert tuned.read(tmp_path / "a") is not None, "reading makes it recent"
    assert tuned.read(tmp_path / "b") is None
    assert tuned.read(tmp_path / "a") is not None
    assert tuned.read(tmp_path / "c") is not None
    assert tuned.read(tmp_path / "nothing") is None


# ---- tasks


def test_only_scored_tokens_count_and_padding_changes_nothing() -> None:
    trainee = Trainee(model_of())
    rows = [Row([1, 2, 3, 4, 5], 3), Row([6, 7, 8, 9, 10, 11, 12], 6), Row([13, 14], 1)]
    together = batch_of(rows)
    assert num_scored(trainee, together) == 2 + 1 + 1
    alone = sum(token_loss(trainee, batch_of([row])).item() for row in rows)
    assert token_loss(trainee, together).item() == pytest.approx(alone, rel=1e-5)
    log_p = trainee.model(torch.tensor([[1, 2, 3, 4, 5]])).logits[0].log_softmax(-1).detach()
    assert token_loss(trainee, batch_of(rows[:1])).item() == pytest.approx(-float(log_p[2, 4] + log_p[3, 5]), rel=1e-5)


def test_parts_of_a_large_batch_add_up_to_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parted = tuning_of({"name": "full"}), tuning_of({"name": "full"})
    whole._update(whole.task.batch(0, 0, 5))
    monkeypatch.setattr("ucurve.trainee.LOGITS", 2 * len(WORDS) * 32)
    parted._update(parted.task.batch(0, 0, 5))
    assert whole.losses == pytest.approx(parted.losses)
    for a, b in zip(whole.trained.values(), parted.trained.values(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)  # type: ignore[arg-type]


def test_every_epoch_reads_every_example_once_in_its_own_order() -> None:
    task = Rows([Row([i, i + 1], 1) for i in range(10)], [Row([0, 1], 1)], [])
    epochs = [[int(i) for step in range(3 * e, 3 * e + 3) for i in task.batch(0, step, 4).ids[:, 0]] for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != [int(i) for step in range(3) for i in task.batch(1, step, 4).ids[:, 0]]
    assert num_steps_of({"epochs": 3.0}, task, 4) == 9
    assert num_steps_of({"steps": 5}, task, 4) == 5


@pytest.mark.parametrize("protocol", ["label_words/1", "linear_head/1"])
def test_sentiment_of_the_built_in_language_is_learned_and_measured_as_a_plain_loop_does(protocol: str, tmp_path: Path) -> None:
    task = language_task(protocol, SENTIMENT)
    recipe = Recipe(**{**RECIPE.__dict__, "num_steps": 60, "batch_rows": 16, "learning_rate": 1e-2})
    tuning = tuning_of({"name": "full"}, task, recipe)
    before = task.validate(tuning.trainee, "fp32")
    tuning.run(tmp_path, quiet)
    after = task.validate(tuning.trainee, "fp32")
    assert after["id_loss"] < before["id_loss"]
    documents = [Lang(0).judged(64, 32, split="fine-tuning validation", step=i) for i in range(8)]
    rows = torch.from_numpy(np.concatenate([d.rows for d in documents]).astype(np.int64))
    labels = torch.from_numpy(np.concatenate([d.polarity for d in documents]).astype(np.int64))
    with torch.no_grad():
        model, head = tuning.trainee.model, tuning.trainee.head
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


def test_a_new_head_is_drawn_from_its_seed_alone() -> None:
    first, again, other = (head_of(model_of(k), 2, seed) for k, seed in ((0, 0), (1, 0), (0, 1)))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert set(parameters_of(Trainee(model_of(), first))) - set(parameters_of(Trainee(model_of()))) == {"head.weight"}


def word_tokenizer() -> Tokenizer:
    words = ["good", "bad", "film", "a", "is", "it", ":", "?", "yes", "no", "what", " "]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*words, "<unk>"])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def examples_in(folder: Path, name: str, train: str, validation: str) -> Dataset:
    suffix = "jsonl" if train.startswith("{") else "tsv"
    (folder / f"train.{suffix}").write_text(train)
    (folder / f"dev.{suffix}").write_text(validation)
    names: dict[str, str | int | float] = {"train": f"train.{suffix}", "validation": f"dev.{suffix}"}
    return Dataset(name=name, kind="examples", parameters=names, location=Location(scheme="path", path=str(folder)))


def read_task(dataset: Dataset, **asked: Any) -> Rows:
    words = {"prompt": "{sentence} ?", "label_words": ["no", "yes"]}
    whole = {"protocol": "label_words/1", "context": 64, **words, "max_examples": None}
    found = task_of({**whole, **asked}, dataset, word_tokenizer(), 16, Path())
    assert isinstance(found, Rows)
    return found


def test_examples_become_prompt_and_label_word_or_prompt_and_completion(tmp_path: Path) -> None:
    labelled = examples_in(tmp_path, "films", "sentence\tlabel\nit is good \t1\na bad film\t0\n", "label\tsentence\n1\tgood film\n")
    task = read_task(labelled)
    assert task.train == [Row([5, 4, 0, 7, 8], 4, 1), Row([3, 1, 2, 7, 9], 4, 0)]
    assert task.validation == [Row([0, 2, 7, 8], 3, 1)]
    assert task.words == [9, 8]
    assert read_task(labelled, protocol="linear_head/1").train[0] == Row([5, 4, 0, 7], 4, 1)
    assert read_task(labelled, context=4).train[0] == Row([4, 0, 7, 8], 3, 1), "a long prompt loses its beginning, never its end"
    assert len(read_task(labelled, max_examples=1).train) == 1
    assert read_task(labelled, protocol="language_modelling/1").train[0] == Row([5, 4, 0], 1), "sentences alone, all but the first"
    with pytest.raises(DataError, match="as many"):
        read_task(labelled, label_words=["yes"])
    with pytest.raises(DataError, match="first token"):
        read_task(labelled, label_words=["yes no", "yes"])
    entries = [json.dumps({"prompt": "what is it ?", "completion": f"a {kind} film"}) for kind in ("good", "bad")]
    prompted = examples_in(tmp_path, "answers", entries[0] + "\n", entries[1] + "\n")
    task = read_task(prompted, protocol="language_modelling/1")
    assert task.train == [Row([10, 4, 5, 7, 3, 0, 2], 4)]
    assert task.validation == [Row([10, 4, 5, 7, 3, 1, 2], 4)]


@pytest.mark.parametrize("change", [lambda path: path.write_text("sentence\tlabel\nchanged\t0\n"), Path.unlink])
def test_files_that_changed_since_they_were_registered_are_refused(change: Callable[[Path], object], tmp_path: Path) -> None:
    dataset = examples_in(tmp_path, "films", "sentence\tlabel\ngood\t1\nbad\t0\n", "sentence\tlabel\nbad\t0\n")
    registered = dataset.model_copy(update={"sha256": "0" * 64})
    change(tmp_path / "dev.tsv")
    with pytest.raises(DataError.__mro__[1], match=r"changed|missing"):
        read_task(registered)
