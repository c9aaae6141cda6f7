"""Fine-tuning from spec to number: shared and new points, and one point computed independently."""

import itertools
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fine_tuning_cases import SETS, TOKENS, Catalogue, paper, planned
from in_process import Context
from pydantic import ValidationError
from tiny_model import model_of

from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.checkpoints import save
from ucurve.modeling.synthetic_language import SyntheticLanguage
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.spec import Point, PointInterrupted, SpecError


def identities(points: list[Point]) -> set[str]:
    return {point.identity for point in points}


# ---- the plan


def test_a_sweep_after_a_fixed_rate_measures_only_the_rates_that_are_new() -> None:
    one, sweep = planned(learning_rates=[1e-3]), planned()
    assert len(identities(sweep)) == len(sweep) == 2 * 4 * (1 + 4 * 5)
    assert identities(one) < identities(sweep)
    new = [point for point in sweep if point.identity not in identities(one)]
    assert {point.labels["learning_rate"] for point in new} == {3e-4, 3e-3, 1e-2}
    for smaller in ({"seeds": [3]}, {"checkpoints": {"log_spaced": 2}}):
        assert identities(planned(**smaller)) < identities(sweep)
    wider = planned(
        methods=["full", "lora", "l2_sp", "ewc", "head"],
        alphas=[0.5],
        evaluations=["tiny-held-out", "few"],
    )
    assert identities(sweep) < identities(wider), (
        "methods, interpolations and sets add points and change none"
    )


def test_the_base_is_the_very_measurement_of_gaussian_perturbation() -> None:
    suite = paper()
    noise = GaussianPerturbation(suite="paper", gammas=[0.1], draws=1).plan(Catalogue([suite]))
    theirs = {point.identity for point in noise if point.labels["gamma"] == 0}
    assert {
        point.identity for point in planned(suite) if point.labels["method"] == "base"
    } == theirs
    assert len(theirs) == 8


def test_all_measurements_on_the_same_fine_tuned_weights_share_their_training() -> None:
    points = planned(
        alphas=[0.25, 0.75], evaluations=["tiny-held-out", "few"], learning_rates=[1e-3], seeds=[0]
    )
    changes: dict[str, list[Any]] = {}
    for point in points:
        if point.labels["method"] != "base":
            change = {**point.inputs["perturbation"]}
            changes.setdefault(point.affinity, []).append(
                (change.pop("interpolation"), json.dumps(change, sort_keys=True))
            )
    assert {len(found) for found in changes.values()} == {2 * 3}
    assert {len({training for _, training in found}) for found in changes.values()} == {1}


def test_at_a_tenth_of_the_budget_every_curve_has_both_ends() -> None:
    points = sorted(planned(), key=lambda point: point.priority_stage)
    first = [point for point in points[: len(points) // 5] if point.labels["method"] == "full"]
    ends = {(p.labels["replicate"], p.labels["learning_rate"], p.labels["tokens"]) for p in first}
    assert set(itertools.product((0, 1), (3e-4, 1e-2), (TOKENS[1], TOKENS[-1]))) <= ends
    assert {point.labels["seed"] for point in first} == {0}
    extra = planned(alphas=[0.5])
    latest = max(point.priority_stage for point in extra if point.labels["alpha"] == 1)
    assert all(
        point.priority_stage >= latest - 20 for point in extra if point.labels["alpha"] == 0.5
    ), "after what they share is trained"


def test_defaults_are_those_of_the_task() -> None:
    change = planned(learning_rates=[])[-1].inputs["perturbation"]
    assert change["recipe"]["learning_rate"] == 1e-3
    assert (change["recipe"]["length"], change["recipe"]["batch_rows"]) == ({"steps": 200}, 16)
    assert change["task"]["data"] == SETS["tiny-redrawn"].sha256
    pythia = {
        "task": "label_words",
        "evaluations": ["wikitext-2"],
        "learning_rates": [],
        "seeds": [0],
    }
    change = planned(paper(tokenizer="t"), **pythia)[-1].inputs["perturbation"]
    recipe = {
        "optimiser": "adamw", "learning_rate": 2e-5, "beta1": 0.9, "beta2": 0.999,
        "weight_decay": 0.0, "batch_rows": 32, "length": {"epochs": 3.0}, "schedule": "linear",
        "warmup": 0.06, "grad_clip": 1.0, "precision": "fp32",
    }  # fmt: skip
    assert change["recipe"] == recipe
    assert change["task"]["prompt"] == "Review: {sentence}\nSentiment:"
    assert change["task"]["label_words"] == ["negative", "positive"]


def test_what_cannot_be_planned_is_refused_with_field_and_remedy() -> None:
    def refusal(suite: Suite | None = None, **fields: Any) -> str:
        with pytest.raises(SpecError) as error:
            planned(suite, **fields)
        return error.value.field

    text = {"evaluations": ["wikitext-2"]}
    read = paper(tokenizer="t")
    assert refusal(paper(evaluation=None)) == "evaluations"
    assert refusal(**text) == "evaluations"
    assert refusal(evaluations=["tiny-language"]) == "evaluations"
    assert refusal(evaluations=["sst2"]) == "evaluations"
    assert refusal(data="sst2", task="label_words") == "data"
    assert refusal(read, data="tiny-redrawn", **text) == "data"
    assert refusal(task="label_words", data="tiny-redrawn") == "data"
    assert refusal(data="tiny-sentiment") == "data"
    assert (
        refusal(read, data="sst2", task="label_words", label_words=["a", "b", "c"], **text)
        == "label_words"
    )
    assert refusal(read, data="sst2", methods=["ewc"], **text) == "ewc_data"
    assert refusal(epochs=2) == "epochs"
    assert (
        planned(task="label_words")[-1].inputs["perturbation"]["task"]["data"]
        == SETS["tiny-sentiment"].sha256
    )
    for wrong in (
        {"learning_rates": [-1]}, {"methods": []}, {"epochs": 1, "steps": 1},
        {"prompt": "no place"}, {"alphas": [1.0]}, {"methods": ["lora"], "alphas": [0.5]},
        {"window": 8, "stride": 9}, {"seeds": []}, {"warmup": 1.0},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            FineTuning(**wrong)


# ---- one point


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Path]:
    artefacts = tmp_path_factory.mktemp("artefacts")
    checkpoints = []
    for step in (10, 20):
        location = Location(scheme="artefacts", path=f"suites/real/step{step}")
        saved = save(model_of(step), artefacts / location.path)
        place = {"suite": "real", "revision": f"step{step}", "step": step, "tokens": step * 1000}
        checkpoints.append(Checkpoint(location=location, **place, **asdict(saved)))
    return Suite(name="real", checkpoints=checkpoints, evaluation="few"), artefacts


FAST = {"learning_rates": [1e-3], "seeds": [0], "steps": 10, "batch_rows": 4}


def points_of(
    suite: Suite, revision: str = "step20", **fields: Any
) -> dict[tuple[str, float], Point]:
    points = planned(suite, **{**FAST, **fields})
    return {
        (p.labels["method"], p.labels["alpha"]): p
        for p in points
        if p.labels["revision"] == revision
    }


def plain_loss(model: torch.nn.Module, rows: torch.Tensor) -> float:
    with torch.no_grad():
        logits = model(rows).logits[:, :-1].double()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))


def test_a_point_is_what_a_plain_loop_of_torch_gives(
    real: tuple[Suite, Path], tmp_path: Path
) -> None:
    """Train with torch's AdamW and scheduler and evaluate row by row, without the tested code."""
    suite, artefacts = real
    context = Context(artefacts)
    points = points_of(suite, alphas=[0.5])
    found = {key: FineTuning.run(point, context) for key, point in points.items()}
    model, base = model_of(20), model_of(20)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: 1.0 if step < 1 else (10 - step) / 9
    )
    losses = []
    for step in range(10):
        rows = torch.from_numpy(
            SyntheticLanguage(1)
            .documents(4, 64, split="fine-tuning", seed=0, step=step)
            .rows.astype(np.int64)
        )
        loss = torch.nn.functional.cross_entropy(
            model(rows).logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    held_out = torch.from_numpy(
        SyntheticLanguage(0).documents(20, 64, split="held-out").rows.astype(np.int64)
    )
    new = torch.from_numpy(
        SyntheticLanguage(1)
        .documents(512, 64, split="fine-tuning validation")
        .rows.astype(np.int64)
    )
    after = found["full", 1.0]
    assert found["base", 0.0].metrics["nll_mean"] == pytest.approx(
        plain_loss(base, held_out), rel=1e-5
    )
    assert after.metrics["nll_mean"] == pytest.approx(plain_loss(model, held_out), rel=1e-5)
    assert after.metrics["id_loss"] == pytest.approx(plain_loss(model, new), rel=1e-5)
    assert after.series["training_loss"][0] == pytest.approx(losses[0], rel=1e-5)
    assert (after.metrics["steps_done"], after.metrics["tokens_read"]) == (10, 10 * 4 * 64)
    flat, origin = (
        torch.nn.utils.parameters_to_vector(m.parameters()).detach().double() for m in (model, base)
    )
    assert after.metrics["displacement"] == pytest.approx(
        float((flat - origin).norm() / origin.norm()), rel=1e-4
    )
    with torch.no_grad():
        for a, b in zip(model.parameters(), base.parameters(), strict=True):
            a.copy_((a + b) / 2)
    assert found["full", 0.5].metrics["nll_mean"] == pytest.approx(
        plain_loss(model, held_out), rel=1e-5
    )
    assert found["full", 0.5].metrics["id_loss"] == pytest.approx(plain_loss(model, new), rel=1e-5)
    assert (
        sum(len(list(folder.glob("*.safetensors"))) for folder in (artefacts / "tuned").iterdir())
        == 1
    ), "trained once"


def test_the_same_point_gives_the_same_number_and_leaves_the_base_as_it_was(
    real: tuple[Suite, Path], tmp_path: Path
) -> None:
    suite, artefacts = real
    points = points_of(suite, "step10", methods=["full", "lora", "head"])
    context = Context(artefacts)
    base = FineTuning.run(points["base", 0.0], context)
    first = {key: FineTuning.run(point, context) for key, point in points.items()}
    assert (
        first["base", 0.0]
        == base
        == GaussianPerturbation.run(points["base", 0.0], Context(artefacts))
    )
    for folder in (artefacts / "tuned").iterdir():
        (
            folder / "weights.safetensors"
        ).unlink()  # as if the disk had been wanted for something else
    again = {key: FineTuning.run(point, context) for key, point in points.items()}
    for key, result in first.items():
        timeless = [
            {k: v for k, v in one.metrics.items() if k != "seconds_training"}
            for one in (result, again[key])
        ]
        assert timeless[0] == timeless[1]
        assert result.series == again[key].series


def test_a_point_stopped_anywhere_goes_on_where_it_stopped(
    real: tuple[Suite, Path], tmp_path: Path
) -> None:
    suite, artefacts = real
    point = points_of(suite, seeds=[5])["full", 1.0]
    shutil.copytree(artefacts / "suites", tmp_path / "suites")
    whole = FineTuning.run(point, Context(artefacts))
    for stop_at in (0, 4, 9, 10.2):
        with pytest.raises(PointInterrupted):
            FineTuning.run(point, Context(tmp_path, stop_at))
    context = Context(tmp_path)
    again = FineTuning.run(point, context)
    assert again.metrics["nll_mean"] == whole.metrics["nll_mean"]
    assert again.series == whole.series
    assert context.calls[0][0] > 0, "nothing is trained twice"
    assert all(done <= total for done, total in context.calls)


def test_divergence_is_a_result_with_a_state_and_the_base_stays_usable(
    real: tuple[Suite, Path],
) -> None:
    suite, artefacts = real
    points = points_of(
        suite, learning_rates=[10.0], optimiser="sgd", grad_clip=1e6, warmup=0.0, steps=30
    )
    points["full", 1.0].inputs["perturbation"]["recipe"]["learning_rate"] = 1e25
    context = Context(artefacts)
    before = FineTuning.run(points["base", 0.0], context)
    result = FineTuning.run(points["full", 1.0], context)
    assert math.isnan(result.metrics["nll_mean"])
    assert result.metrics["steps_done"] < 30
    assert FineTuning.run(points["base", 0.0], context) == before


def test_the_training_loss_is_told_while_it_runs(real: tuple[Suite, Path], tmp_path: Path) -> None:
    suite, artefacts = real
    shutil.copytree(artefacts / "suites", tmp_path / "suites")
    context = Context(tmp_path)
    result = FineTuning.run(points_of(suite)["full", 1.0], context)
    assert len(context.losses) == 10
    widths = np.diff([0, *result.series["training_steps"]])
    assert np.mean(context.losses) == pytest.approx(
        np.average(result.series["training_loss"], weights=widths)
    )
