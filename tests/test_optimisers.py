"""Optimisers of fine-tuning: their updates by plain formulas, resuming, identities and plans."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from doc_pages import DOCS
from fine_tuning_cases import Catalogue, paper, planned, sensitive, table_of
from pydantic import ValidationError
from tiny_model import METHODS, MUON, RECIPE, StopAt, equal, model_of, quiet, tuning_of
from transformers import GPT2Config, GPT2LMHeadModel

from dashboard.forms.fields import fields
from ucurve.analysis.comparison import ComparedExperiment, missing, setting_differences
from ucurve.experiments import parse
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.interpolation import Interpolation
from ucurve.modeling.finetune import FinetuningConfig, FinetuningRun
from ucurve.modeling.optimisers import MuonWithAdamW, build_optimiser
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, PointInterrupted, SpecError

SGD: dict[str, Any] = {"protocol": "sgd_momentum/1", "momentum": 0.9}
LION: dict[str, Any] = {"protocol": "lion/1", "beta1": 0.9, "beta2": 0.99}
NEW = [SGD, LION, MUON]
RATES, DECAY = (3e-3, 1e-3, 2e-3, 5e-4), 0.1
SHAPES = {"wide": (16, 32), "tall": (48, 16), "bias": (16,)}


def recipe_of(optimiser: Any, **changes: Any) -> FinetuningConfig:
    return replace(RECIPE, optimiser=optimiser, **changes)


def name_of(optimiser: dict[str, Any]) -> str:
    return str(optimiser["protocol"])


# ---- updates


def drawn(seed: int) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=source) for name, shape in SHAPES.items()}


def stepped(optimiser: Any) -> dict[str, torch.Tensor]:
    """The parameters after four steps on given gradients, at a rate that changes."""
    trained = {name: torch.nn.Parameter(tensor) for name, tensor in drawn(0).items()}
    matrices = [id(p) for p in trained.values() if p.dim() == 2]
    tested = build_optimiser(
        optimiser, trained, matrices, rate=1.0, weight_decay=DECAY, betas=(0.5, 0.5)
    )
    for step, rate in enumerate(RATES):
        for name, gradient in drawn(step + 1).items():
            trained[name].grad = gradient
        for group in tested.param_groups:
            group["lr"] = rate
        tested.step()
    return {name: p.detach() for name, p in trained.items()}


def by_formula(update: Any) -> dict[str, torch.Tensor]:
    """The same in float64: update(theta, gradient, rate, step, state) returns the new theta."""
    theta = {name: tensor.double() for name, tensor in drawn(0).items()}
    state: dict[str, dict[str, torch.Tensor]] = {name: {} for name in theta}
    for step, rate in enumerate(RATES):
        for name, gradient in drawn(step + 1).items():
            theta[name] = update(theta[name], gradient.double(), rate, step, state[name])
    return theta


def expect_close(tested: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    start = drawn(0)
    for name, tensor in tested.items():
        assert float((tensor - start[name]).abs().max()) > 1e-3, "it moved"
        assert float((tensor.double() - expected[name]).abs().max()) < 1e-6, name


def test_sgd_with_momentum_adds_the_weight_decay_to_the_gradient() -> None:
    def update(theta: Any, gradient: Any, rate: float, step: int, state: Any) -> Any:
        force = gradient + DECAY * theta
        state["m"] = 0.9 * state["m"] + force if step else force
        return theta - rate * state["m"]

    expect_close(stepped(SGD), by_formula(update))


def test_lion_steps_by_the_sign_between_momentum_and_gradient() -> None:
    def update(theta: Any, gradient: Any, rate: float, step: int, state: Any) -> Any:
        m = state.get("m", torch.zeros_like(theta))
        state["m"] = 0.99 * m + 0.01 * gradient
        return theta * (1 - rate * DECAY) - rate * torch.sign(0.9 * m + 0.1 * gradient)

    expect_close(stepped(LION), by_formula(update))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz steps; every product is rounded to bfloat16, its sums are not."""
    rounded = lambda exact: exact.bfloat16().double()  # noqa: E731
    x = rounded(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T)
    x = rounded(x / rounded(x.norm()))
    for _ in range(5):
        gram = rounded(x @ x.T)
        x = rounded(3.4445 * x + rounded(-4.775 * gram + 2.0315 * gram @ gram) @ x)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def test_muon_steps_matrices_orthogonally_and_adamw_the_rest_at_one_rate() -> None:
    def muon(theta: Any, gradient: Any, rate: float, step: int, state: Any) -> Any:
        m = 0.95 * state.get("m", torch.zeros_like(theta)) + 0.05 * gradient
        state["m"] = m
        size = 0.2 * math.sqrt(max(theta.shape))
        direction = orthogonal(0.05 * gradient + 0.95 * m)
        return theta * (1 - rate * DECAY) - rate * size * direction

    def adamw(theta: Any, gradient: Any, rate: float, step: int, state: Any) -> Any:
        m = 0.9 * state.get("m", torch.zeros_like(theta)) + 0.1 * gradient
        v = 0.999 * state.get("v", torch.zeros_like(theta)) + 0.001 * gradient.square()
        state |= {"m": m, "v": v}
        upwards = (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        return theta * (1 - rate * DECAY) - rate * upwards

    def update(theta: Any, *rest: Any) -> Any:
        return (muon if theta.dim() == 2 else adamw)(theta, *rest)

    expect_close(stepped(MUON), by_formula(update))


def test_an_update_of_muon_has_the_size_of_one_of_adamw() -> None:
    """Why one learning rate serves both: Liu et al. 2025 measured 0.2 to 0.4 for AdamW."""
    start, after = drawn(0), stepped(MUON)
    for name in ("wide", "tall"):
        moved = after[name] - start[name] * math.prod(1 - rate * DECAY for rate in RATES)
        assert 0.1 < float(moved.square().mean().sqrt()) / sum(RATES) < 0.3, name


def test_an_unknown_protocol_says_that_the_worker_is_older() -> None:
    with pytest.raises(ValueError, match=r"no optimiser 'lion/9': update the worker"):
        tuning_of({"name": "full"}, recipe=recipe_of({"protocol": "lion/9"}))


# ---- which tensors


def muon_names(run: FinetuningRun) -> set[str]:
    assert isinstance(run.optimiser, MuonWithAdamW)
    stepped = {
        part: {id(p) for group in optimiser.param_groups for p in group["params"]}
        for part, optimiser in run.optimiser.parts.items()
    }
    assert stepped["muon"].isdisjoint(stepped["adamw"])
    assert stepped["muon"] | stepped["adamw"] == {id(p) for p in run.trained.values()}
    return {name for name, p in run.trained.items() if id(p) in stepped["muon"]}


@pytest.mark.parametrize("method", ["full", "l2_sp", "ewc"])
def test_muon_steps_hidden_matrices_and_no_embedding_norm_or_bias(method: str) -> None:
    (fields_of_method,) = (m for m in METHODS if m["name"] == method)
    run = tuning_of(fields_of_method, recipe=recipe_of(MUON))
    inside = (
        "attention.query_key_value",
        "attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    )
    assert muon_names(run) == {f"gpt_neox.layers.0.{name}.weight" for name in inside}


def test_muon_steps_the_transposed_matrices_of_gpt2_and_no_tied_unembedding() -> None:
    config = GPT2Config(
        vocab_size=512, n_embd=16, n_layer=1, n_head=2, n_positions=64, use_cache=False
    )
    task = tuning_of({"name": "full"}).task
    run = FinetuningRun(GPT2LMHeadModel(config), task, recipe_of(MUON), {"name": "full"}, 0)
    inside = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert muon_names(run) == {f"transformer.h.0.{name}.weight" for name in inside}


# ---- training


@pytest.mark.parametrize("optimiser", NEW, ids=name_of)
def test_every_tensor_has_the_rate_of_the_schedule_and_a_stopped_training_resumes_bit_for_bit(
    optimiser: dict[str, Any], tmp_path: Path
) -> None:
    recipe = recipe_of(optimiser)
    whole = tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "whole", quiet)
    for step in (5, 6):
        with pytest.raises(PointInterrupted):
            tuning_of({"name": "full"}, recipe=recipe).run(tmp_path / "stopped", StopAt(step))
    last = tuning_of({"name": "full"}, recipe=recipe)
    again = last.run(tmp_path / "stopped", quiet)
    assert equal(again.weights, whole.weights)
    assert again.summary.losses == whole.summary.losses
    (rate,) = {group["lr"] for group in last.optimiser.param_groups}
    assert rate == pytest.approx(3e-3 / 11), "of the last update, for all tensors"
    base = dict(model_of().named_parameters())
    assert not any(torch.equal(tensor, base[name]) for name, tensor in whole.weights.items())


@pytest.mark.parametrize("optimiser", NEW, ids=name_of)
def test_a_state_of_another_optimiser_is_refused(optimiser: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PointInterrupted):
        tuning_of({"name": "full"}).run(tmp_path, StopAt(2))
    with pytest.raises(ValueError, match="state of another run"):
        tuning_of({"name": "full"}, recipe=recipe_of(optimiser)).run(tmp_path, quiet)


# ---- identities


def digest(points: list[Point]) -> str:
    return hashlib.sha256("".join(sorted(p.identity for p in points)).encode()).hexdigest()[:16]


def test_identities_from_before_there_was_a_choice_are_what_they_were() -> None:
    """Golden: written down with the release that had adamw and plain sgd only."""
    methods = ["full", "head", "lora", "l2_sp", "ewc"]
    text: dict[str, Any] = {"task": "label_words", "evaluations": ["wikitext-2"]}
    assert digest(planned(methods=methods, alphas=[0.5])) == "7b8a80f643e28305"
    assert digest(planned(optimiser="sgd")) == "bdd3c530656413ac"
    changed = planned(weight_decay=0.1, beta2=0.95, schedule="cosine")
    assert digest(changed) == "4a1262f040c94730"
    read = planned(paper(tokenizer="t"), learning_rates=[], **text)
    assert digest(read) == "8ddef47a0c8793be"


def optimiser_of(**fields: Any) -> Any:
    recipe = planned(**fields)[-1].inputs["perturbation"]["recipe"]
    optimiser = recipe["optimiser"]
    assert ("beta1" in recipe) == isinstance(optimiser, str), "each setting is in one place"
    return optimiser


def test_a_new_optimiser_is_a_protocol_with_the_settings_that_it_reads() -> None:
    assert optimiser_of(optimiser="sgd_momentum") == SGD
    assert optimiser_of(optimiser="sgd_momentum", momentum=0.5) == {**SGD, "momentum": 0.5}
    assert optimiser_of(optimiser="lion", momentum=0.5, beta2=0.5) == LION
    assert optimiser_of(optimiser="muon") == MUON
    assert optimiser_of(optimiser="muon", momentum=0.9, beta2=0.95) == {
        **MUON, "momentum": 0.9, "beta2": 0.95,
    }  # fmt: skip
    assert optimiser_of(momentum=0.5) == "adamw"
    assert digest(planned(momentum=0.5)) == digest(planned()), "what is not read changes nothing"


@pytest.mark.parametrize("optimiser", NEW, ids=name_of)
def test_the_page_of_the_protocol_describes_its_settings(optimiser: dict[str, Any]) -> None:
    page = (DOCS / "protocols" / "optimisers.md").read_text()
    assert json.dumps(optimiser) in page
    section = page.split(f"## `{name_of(optimiser)}`")[1].split("## ")[0]
    for name in optimiser.keys() - {"protocol"}:
        assert f"`{name}`" in section


def test_interpolation_measures_the_points_of_fine_tuning_with_the_same_optimiser() -> None:
    catalogue = Catalogue([paper()])
    common: dict[str, Any] = {"suite": "paper", "optimiser": "muon"}
    spec = Interpolation(
        pairs=["fine_tuning"], steps=2, learning_rate=1e-3, tuning_seeds=[0], momentum=0.9, **common
    )
    theirs = FineTuning(learning_rates=[1e-3], seeds=[0], alphas=[0.5], momentum=0.9, **common)
    lines = list(spec.plan(catalogue))
    assert digest(lines) == digest(list(theirs.plan(catalogue)))
    assert {p.labels["optimiser"] for p in lines} == {None, "muon"}


# ---- plans


@pytest.mark.parametrize("method", ["head", "lora"])
def test_muon_without_whole_hidden_matrices_is_refused_with_field_and_remedy(method: str) -> None:
    with pytest.raises(SpecError, match="Choose full, l2_sp or ewc, or another optimiser") as error:
        planned(methods=["full", method], optimiser="muon")
    assert error.value.field == "methods"
    line = Interpolation(suite="paper", pairs=["fine_tuning"], method=method, optimiser="muon")
    with pytest.raises(SpecError) as error:
        list(line.plan(Catalogue([paper()])))
    assert error.value.field == "method"
    assert planned(methods=["full", method], optimiser="lion")


def test_values_that_no_optimiser_has_are_refused() -> None:
    for wrong in ({"optimiser": "adam"}, {"momentum": 1.0}, {"momentum": 0.0}):
        with pytest.raises(ValidationError):
            FineTuning(**wrong)  # type: ignore[arg-type]


def warnings_of(**values: Any) -> list[str]:
    return FineTuning(suite="paper", **values).warnings(Catalogue([paper()]))


def test_default_rates_are_usual_ones_and_others_are_warned_of_with_their_field() -> None:
    for name in ("adamw", "sgd_momentum", "lion", "muon"):
        for task in ("language_modelling", "label_words"):
            assert warnings_of(optimiser=name, task=task) == []
    (slow,) = warnings_of(optimiser="sgd_momentum", learning_rates=[1e-4, 1e-3])
    assert slow.startswith("learning_rates: none is above 0.001. sgd_momentum usually needs")
    assert warnings_of(optimiser="sgd_momentum", learning_rates=[1e-3, 0.3]) == []
    (slow,) = warnings_of(optimiser="sgd")
    assert "sgd usually needs about 1000 times AdamW's, 1 here" in slow, "its default is no new one"
    (fast,) = warnings_of(optimiser="lion", learning_rates=[3e-3])
    assert fast.startswith("learning_rates: none is below 0.003. lion usually needs")
    (unread,) = warnings_of(optimiser="lion", beta2=0.95)
    assert unread == "beta2: not used: it is AdamW's, not lion's. Lion's are 0.9 and 0.99."
    (unread,) = warnings_of(momentum=0.5)
    assert unread == "momentum: not used: adamw has none that can be set."
    line = Interpolation(
        suite="paper", pairs=["fine_tuning"], optimiser="lion", learning_rate=3e-3, momentum=0.5
    )
    assert [message.split(":")[0] for message in line.warnings(Catalogue([paper()]))] == [
        "momentum", "learning_rate",
    ]  # fmt: skip


def test_memory_counts_the_state_of_the_optimiser() -> None:
    suite = paper()
    for checkpoint in suite.checkpoints:
        object.__setattr__(checkpoint, "num_parameters", 10**9)
    memory = {
        name: planned(suite, optimiser=name)[-1].resources.memory_gb
        for name in ("adamw", "sgd", "sgd_momentum", "lion", "muon")
    }
    assert memory == {"adamw": 25.5, "sgd": 17.5, "sgd_momentum": 21.5, "lion": 21.5, "muon": 25.5}


# ---- tables, names, figures, comparisons, the form


def test_table_name_and_captions_say_which_optimiser() -> None:
    fields = {"suite": "paper", "optimiser": "lion", "learning_rates": [3e-4, 1e-3]}
    spec = FineTuning(**fields)  # type: ignore[arg-type]
    points = list(spec.plan(Catalogue([paper()])))
    assert {p.labels["optimiser"] for p in points if p.labels["method"] != "base"} == {"lion"}
    name = "Fine-tuning of paper, learning rate 0.0003 to 0.001, full, lion"
    assert spec.default_name() == name
    table = table_of(points, sensitive)
    captions = [figure.caption for figure in spec.figures(table).values()]
    assert captions
    assert all(caption.endswith("Optimiser: lion.") for caption in captions)
    default = spec.model_copy(update={"optimiser": "adamw"})
    assert not any("Optimiser" in f.caption for f in default.figures(table).values())


def test_a_comparison_of_two_optimisers_names_the_difference_and_asks_for_no_points() -> None:
    def side(id: int, optimiser: str) -> ComparedExperiment:
        spec = parse({"kind": "fine_tuning", "suite": "paper", "optimiser": optimiser,
                      "learning_rates": [1e-3]})  # fmt: skip
        rows = [
            MeasurementRow(id=i, identity=point.identity, position=i, state="done",
                           labels=dict(point.labels), metrics={"nll_mean": 1.0})
            for i, point in enumerate(spec.plan(Catalogue([paper()])))
        ]  # fmt: skip
        return ComparedExperiment(id, optimiser, spec, rows, paper())

    adamw, lion = side(1, "adamw"), side(2, "lion")
    assert setting_differences([adamw, lion]) == {"optimiser": ["adamw", "lion"]}
    assert missing(adamw, lion).points == [], "the same grid, measured with another optimiser"


@pytest.mark.parametrize("kind", [FineTuning, Interpolation])
def test_the_form_offers_all_optimisers_and_says_whose_momentum_it_is(kind: Any) -> None:
    form = {field.key: field for field in fields(kind)}
    optimiser, momentum = form["optimiser"], form["momentum"]
    assert optimiser.widget == "select"
    assert optimiser.options == ("adamw", "sgd", "sgd_momentum", "lion", "muon")
    assert optimiser.default == "adamw"
    assert "3 to 10 times smaller" in optimiser.help
    assert (momentum.widget, momentum.optional, momentum.advanced) == ("number", True, True)
    assert momentum.help == "Of sgd_momentum (default 0.9) and muon (default 0.95)."
