"""Fine-tuning on tensors: bit-exact resuming, regularisers, interpolation to the tuned weights."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import (
    LANGUAGE,
    METHODS,
    MUON,
    RECIPE,
    StopAt,
    equal,
    language_task,
    model_of,
    quiet,
    tuning_of,
)

from ucurve.modeling import finetuned_weights
from ucurve.modeling.batches import FinetunedModel, token_loss
from ucurve.modeling.finetune import FinetuningConfig
from ucurve.modeling.finetuning_data import pretraining_rows
from ucurve.modeling.perturb import checksum
from ucurve.modeling.regularizers import Regularizer, fisher
from ucurve.spec import PointInterrupted

# ---- resuming


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_fine_tuning_stopped_within_a_step_continues_to_the_same_weights(
    method: dict[str, Any], tmp_path: Path
) -> None:
    whole = tuning_of(method).run(tmp_path / "whole", quiet)
    for step in (0, 5, 6):
        stop = StopAt(step)
        with pytest.raises(PointInterrupted):
            tuning_of(method).run(tmp_path / "stopped", stop)
        assert stop.calls[-1] == step, "no step follows the one in which it was stopped"
    again = tuning_of(method).run(tmp_path / "stopped", quiet)
    assert equal(again.weights, whole.weights)
    assert again.summary.losses == whole.summary.losses
    assert (again.summary.steps, again.summary.tokens) == (12, 12 * 4 * 32)
    assert not equal(
        tuning_of(method, seed=1).run(tmp_path / "other", quiet).weights, whole.weights
    )


@pytest.mark.parametrize("optimiser", ["adamw", MUON], ids=["adamw", "muon"])
def test_a_fine_tuning_killed_in_the_middle_continues_to_the_same_weights(
    optimiser: Any, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, num_steps=400, optimiser=optimiser)
    whole = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "whole", quiet)
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from dataclasses import replace; from pathlib import Path; from tiny_model import *\n"
        "from ucurve.modeling import finetune; finetune.SAVE_EVERY_SECONDS = 0.1\n"
        f"recipe = replace(RECIPE, num_steps=400, optimiser={optimiser!r})\n"
        "tuning_of({'name': 'full'}, recipe=recipe).run(Path(sys.argv[1]), quiet)"
    )
    state = tmp_path / "killed" / finetuned_weights.STATE
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "killed"), str(Path(__file__).parent)]
    )
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process was killed in the middle of its work"
    assert 0 < torch.load(state, weights_only=True)["step"] < 400
    again = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "killed", quiet)
    assert equal(again.weights, whole.weights)


def test_divergence_ends_the_training_and_is_kept_as_a_fact(tmp_path: Path) -> None:
    recipe = FinetuningConfig(
        **{
            **RECIPE.__dict__,
            "learning_rate": 1e30,
            "optimiser": "sgd",
            "grad_clip": 1e6,
            "warmup": 0.0,
        }
    )
    found = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path, quiet)
    assert found.summary.diverged
    assert found.summary.steps < 12
    assert found.weights == {}
    finetuned_weights.write(tmp_path, found)
    again = finetuned_weights.read(tmp_path)
    assert again is not None
    assert again.summary.diverged
    assert not math.isfinite(again.summary.losses[-1])


# ---- what is trained, and how


def test_methods_train_what_they_say_and_leave_the_rest(tmp_path: Path) -> None:
    base = dict(model_of().named_parameters())
    changed = {
        method["name"]: {
            name
            for name, tensor in tuning_of(method)
            .run(tmp_path / method["name"], quiet)
            .weights.items()
            if not torch.equal(tensor, base[name])
        }
        for method in METHODS
    }  # fmt: skip
    assert changed["full"] == changed["l2_sp"] == changed["ewc"] == base.keys()
    assert changed["head"] == {"lm_head.weight"}
    linear = {
        "attention.query_key_value.weight",
        "attention.dense.weight",
        "mlp.dense_h_to_4h.weight",
        "mlp.dense_4h_to_h.weight",
    }
    assert changed["lora"] == {f"gpt_neox.layers.0.{name}" for name in linear}


def test_merged_low_rank_updates_have_their_rank_and_give_the_loss_of_the_adapter(
    tmp_path: Path,
) -> None:
    tuning = tuning_of({"name": "lora", "rank": 2})
    found = tuning.run(tmp_path, quiet)
    batch = tuning.task.batch(7, 0, 4)
    with torch.no_grad():
        adapted = float(token_loss(tuning.finetuned, batch))
    model = model_of()
    parameters = dict(model.named_parameters())
    for name, tensor in found.weights.items():
        assert torch.linalg.matrix_rank((tensor - parameters[name]).double(), atol=1e-5) == 2
    with finetuned_weights.interpolated(parameters, found.weights, 1.0):
        assert token_loss(FinetunedModel(model), batch).item() == pytest.approx(adapted, rel=1e-5)


def test_a_step_of_adamw_is_the_one_in_the_paper(tmp_path: Path) -> None:
    """AdamW (Loshchilov & Hutter 2019) by hand, with warm-up, clipping and L2-SP's gradient."""
    recipe = FinetuningConfig(
        **{**RECIPE.__dict__, "num_steps": 2, "warmup": 0.5, "grad_clip": 0.1}
    )
    tuning = tuning_of({"name": "l2_sp", "strength": 0.5}, recipe=recipe)
    base = {name: p.detach().clone() for name, p in tuning.trained.items()}
    theta, m, v = (
        dict(base),
        dict.fromkeys(base, torch.tensor(0.0)),
        dict.fromkeys(base, torch.tensor(0.0)),
    )
    for step, rate in (
        (0, 3e-3),
        (1, 3e-3),
    ):  # one step of warm-up, then the first of a decay over the one that is left
        model = model_of()
        model.load_state_dict(theta)
        batch = tuning.task.batch(0, step, 4)
        logits = model(batch.ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss = loss + 0.25 * sum(
            (p - base[name]).square().sum() for name, p in model.named_parameters()
        )
        gradients = dict(
            zip(base, torch.autograd.grad(loss, list(model.parameters())), strict=True)
        )
        norm = torch.sqrt(sum(g.square().sum() for g in gradients.values()))  # type: ignore[arg-type]
        for name, gradient in gradients.items():
            g = gradient * min(1.0, 0.1 / (float(norm) + 1e-6))
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g.square()
            upwards = (m[name] / (1 - 0.9 ** (step + 1))) / (
                (v[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            )
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
    Regularizer(0.7, anchor, weights).add_gradient_(parameters)
    held = [name for name in parameters if name in anchor]
    value = sum(
        0.35
        * ((weights[name] if weights else 1.0) * (parameters[name] - anchor[name]).square()).sum()
        for name in held
    )
    for name, gradient in zip(
        held, torch.autograd.grad(value, [parameters[n] for n in held]), strict=True
    ):  # type: ignore[arg-type]
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
    assert not torch.equal(rows[0], language_task().batch(0, 0, 1).ids[0]), (
        "no row that is fine-tuned on"
    )


# ---- interpolation


def test_interpolation_starts_at_the_base_and_ends_at_the_tuned_weights_and_leaves_no_trace() -> (
    None
):
    model = model_of(0)
    parameters, weights = (
        dict(model.named_parameters()),
        {n: p.detach() for n, p in model_of(1).named_parameters()},
    )
    base = {name: p.detach().clone() for name, p in parameters.items()}
    before = checksum(parameters)
    with finetuned_weights.interpolated(parameters, weights, 0.0) as displacement:
        assert equal(parameters, base)  # type: ignore[arg-type]
        assert displacement["displacement"] == 0
    with finetuned_weights.interpolated(parameters, weights, 1.0) as displacement:
        assert equal(parameters, weights)  # type: ignore[arg-type]
    moved = torch.cat([(weights[name] - base[name]).flatten().double() for name in base]).norm()
    size = torch.cat([tensor.flatten().double() for tensor in base.values()]).norm()
    assert displacement["displacement"] == pytest.approx(float(moved / size))
    groups = ("embedding", "attention", "mlp", "norm", "unembedding")
    assert set(displacement) == {"displacement", *(f"displacement_{group}" for group in groups)}
    with finetuned_weights.interpolated(parameters, weights, 0.3):
        assert torch.allclose(
            parameters["lm_head.weight"],
            0.7 * base["lm_head.weight"] + 0.3 * weights["lm_head.weight"],
        )
    assert checksum(parameters) == before
    with pytest.raises(ZeroDivisionError), finetuned_weights.interpolated(parameters, weights, 0.3):
        raise ZeroDivisionError
    assert checksum(parameters) == before


def test_tuned_weights_are_kept_until_the_disk_is_wanted_for_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_TUNED_GB", "0.000005")
    facts = finetuned_weights.TrainingSummary(1, 1, 0.0, False, [1.0])
    for name in ("a", "b", "c"):
        finetuned_weights.write(
            tmp_path / name,
            finetuned_weights.FinetunedWeights({"w": torch.full((400,), 1.0)}, facts),
        )
        os.utime(tmp_path / name / finetuned_weights.FACTS, (ord(name), ord(name)))
        if name == "b":
            assert finetuned_weights.read(tmp_path / "a") is not None, "reading makes it recent"
    assert finetuned_weights.read(tmp_path / "b") is None
    assert finetuned_weights.read(tmp_path / "a") is not None
    assert finetuned_weights.read(tmp_path / "c") is not None
    assert finetuned_weights.read(tmp_path / "nothing") is None
