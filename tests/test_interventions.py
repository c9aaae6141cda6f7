"""Interventions: branches against independent code, bit-equality, resuming, noise, verdicts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import Context as Runtime
from pydantic import ValidationError
from safetensors.torch import load_file
from scipy.special import stdtr
from test_pretraining import Catalogue, weights
from torch.nn import functional

from ucurve.analysis import interventions
from ucurve.analysis.conditions import alpha
from ucurve.analysis.intervention_verdicts import BENDS, BOTH, KEEPS, LOWERS, verdicts
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.experiments.interventions import Interventions
from ucurve.experiments.pretraining import Pretraining
from ucurve.modeling import pretrain
from ucurve.modeling.token_data import language_batches
from ucurve.registry.suites import Suite
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, PointInterrupted, Result, SpecError

if TYPE_CHECKING:
    from conftest import Lab

SHARED_LAB = True
NUM_WORKERS = 1
SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 32,
    "batch_rows": 4, "warmup_steps": 5, "steps": [20, 30], "seeds": [3], "gammas": [0.2],
    "draws": 1, "scale": "init_std", "suite": "mine",
}  # fmt: skip
ALL = [
    "weight_decay", "constant", "anneal", "sharpness_aware", "weight_average", "replay",
    "early_stop",
]  # fmt: skip


@dataclass
class Context(Runtime):
    """A runtime whose points have a folder each, as a worker's do."""

    identity: str = ""

    @property
    def state_dir(self) -> Path:
        return self.artefacts / "state" / self.identity


def planned(**fields: Any) -> list[Point]:
    spec = Interventions.model_validate({**SMALL, "interventions": ["constant"], **fields})
    return list(spec.plan(Catalogue()))


def branch(intervention: str, steps: int = 20, **fields: Any) -> Point:
    fields = {"steps": [20, steps] if steps > 20 else [20], **fields}
    names = [intervention] if intervention != "none" else ["constant"]
    [point] = [
        p
        for p in planned(interventions=names, **fields)
        if p.inputs["branch"]["intervention"] == intervention
        and p.inputs["recipe"]["num_steps"] == steps
    ]
    return point


def run(point: Point, folder: Path, stop_at: float = math.inf) -> Result:
    return Interventions.run(point, Context(folder, stop_at, identity=point.identity))


def saved(point: Point, folder: Path) -> dict[str, torch.Tensor]:
    """The last checkpoint of a finished point."""
    suite = folder / "suites" / point.inputs["suite"]
    return load_file(next(suite.glob(f"seed*-step{point.labels['step']}-*")) / "model.safetensors")


# ---- the control


def test_a_branch_without_an_intervention_is_the_uninterrupted_run_to_the_bit(
    tmp_path: Path,
) -> None:
    recipe = {k: v for k, v in SMALL.items() if k not in ("gammas", "draws", "scale")}
    whole = [
        Pretraining.run(point, Runtime(tmp_path / str(i)))
        for i, point in enumerate(Pretraining(**recipe).plan(Catalogue()))
    ]
    points = [point for point in planned() if point.labels["intervention"] == "none"]
    branches = [run(point, tmp_path / "branches") for point in points]
    for one, other in zip(whole, branches, strict=True):
        assert weights(one) == weights(other)
        assert one.metrics["nll_mean"] == pytest.approx(other.metrics["nll_mean"], rel=1e-12)
        assert one.metrics["training_loss"] == other.metrics["training_loss"]
        assert one.series["training_loss"] == other.series["training_loss"]
    assert branches[0].suite
    assert [c.phase for c in branches[0].suite.checkpoints] == ["warm-up", "annealed"]
    assert branches[0].suite.name == "mine-none"


# ---- independent code


def rates(num_steps: int) -> list[float]:
    """Learning rates of the uninterrupted run: 5 steps of warm-up, then a cosine to zero."""
    return [
        5e-3 * (i + 1) / 5
        if i < 5
        else 5e-3 * 0.5 * (1 + math.cos(math.pi * (i - 5) / (num_steps - 5)))
        for i in range(num_steps)
    ]


def trained_by_hand(intervention: str, num_steps: int, at: int) -> dict[str, torch.Tensor]:
    """AdamW, SAM and the average written out, on the product's model and batches only."""
    point = branch("none")
    recipe = pretrain.PretrainingConfig(
        vocab_size=330, **{**point.inputs["recipe"], "num_steps": num_steps}
    )
    model = pretrain.build(recipe, 3)
    batches = language_batches(Catalogue().dataset("tiny-language"), 64)
    weights_ = dict(model.named_parameters())
    first = {name: torch.zeros_like(p) for name, p in weights_.items()}
    second = {name: torch.zeros_like(p) for name, p in weights_.items()}
    average: dict[str, torch.Tensor] = {}
    lr = rates(num_steps)

    def gradients(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = model(input_ids=rows).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
        found = torch.autograd.grad(loss, list(weights_.values()))
        return dict(zip(weights_, found, strict=True))

    for i in range(num_steps):
        after, decay, rate = i >= at, 0.15, lr[i]
        if i == at:
            average = {name: p.detach().clone() for name, p in weights_.items()}
        rows = batches(3, i, 4)
        if after and intervention == "replay":
            rows = torch.cat([batches(3, (i - at) % at, 4)[:2], rows[2:]])
        grads = gradients(rows)
        if after and intervention == "sharpness_aware":
            norm = math.sqrt(sum(float(g.double().square().sum()) for g in grads.values()))
            moves = {name: 0.05 / norm * g for name, g in grads.items()}
            for name, p in weights_.items():
                p.data += moves[name]
            grads = gradients(rows)
            for name, p in weights_.items():
                p.data -= moves[name]
        if after and intervention == "constant":
            rate = lr[at]
        if after and intervention == "anneal":
            rate = lr[at] * (num_steps - i) / (num_steps - at)
        if after and intervention == "weight_decay":
            decay = 0.15 * 4
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in grads.values()))
        for name, p in weights_.items():
            g = grads[name] * min(1.0, 1.0 / (norm + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.95 * second[name] + 0.05 * g * g
            m, v = first[name] / (1 - 0.9 ** (i + 1)), second[name] / (1 - 0.95 ** (i + 1))
            p.data *= 1 - rate * (decay if p.dim() == 2 else 0.0)
            p.data -= rate * m / (v.sqrt() + 1e-8)
        if after:
            for name, p in weights_.items():
                average[name] = 0.99 * average[name] + 0.01 * p.detach()
    return average if intervention == "weight_average" else {n: p.data for n, p in weights_.items()}


@pytest.mark.parametrize("intervention", ["none", *ALL[:-1]])
def test_every_branch_has_the_weights_of_independent_code(
    intervention: str, tmp_path: Path
) -> None:
    point = branch(intervention, replay_share=0.5)
    run(point, tmp_path)
    ours, theirs = saved(point, tmp_path), trained_by_hand(intervention, 20, 10)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        # The bias of keys has no gradient but rounding errors, whose sign decides where it goes.
        close = 0.1 if name.endswith("query_key_value.bias") else 1e-6
        assert torch.allclose(ours[name], tensor, rtol=0, atol=close), name
    if intervention != "none":
        control = trained_by_hand("none", 20, 10)
        assert max(float((control[n] - t).abs().max()) for n, t in ours.items()) > 1e-4


def test_an_early_stop_is_the_trunk_and_says_how_many_tokens_it_read(tmp_path: Path) -> None:
    point = branch("early_stop", 30)
    result = run(point, tmp_path)
    assert (point.labels["step"], point.labels["tokens"]) == (15, 15 * 4 * 64)
    assert point.labels["budget"] == 30 * 4 * 64
    assert result.suite
    assert [c.tokens for c in result.suite.checkpoints] == [point.labels["tokens"]]
    assert result.metrics["steps_done"] == 15
    config = Pretraining(
        **{k: v for k, v in SMALL.items() if k not in ("gammas", "draws", "scale")}
    )
    whole = next(p for p in config.plan(Catalogue()) if p.labels["step"] == 30)
    stopped = Runtime(tmp_path / "whole", 15)
    with pytest.raises(PointInterrupted):
        Pretraining.run(whole, stopped)
    trunk = torch.load(stopped.state_dir / "state.pt", weights_only=True)["weights"]
    assert all(torch.equal(trunk[name], tensor) for name, tensor in saved(point, tmp_path).items())


# ---- stopping, killing, sharing


@pytest.mark.parametrize("intervention", ["sharpness_aware", "weight_average"])
def test_a_branch_stopped_anywhere_continues_to_the_same_numbers(
    intervention: str, tmp_path: Path
) -> None:
    point = branch(intervention, draws=2)
    whole = run(point, tmp_path / "whole")
    total = Context(tmp_path / "counted", identity=point.identity)
    Interventions.run(point, total)
    end = total.calls[-1][1]
    for stop_at in (0, 4, 10, 15, 20, 22, end - 1):
        with pytest.raises(PointInterrupted):
            run(point, tmp_path / "stopped", stop_at)
    resumed = Context(tmp_path / "stopped", identity=point.identity)
    again = Interventions.run(point, resumed)
    assert resumed.calls[0][0] >= 20, "training is not repeated"
    assert weights(again) == weights(whole)
    assert again.series == whole.series
    shown = [done for done, _ in total.calls]
    assert shown == sorted(shown), "progress never goes back"
    assert {total for _, total in total.calls[1:]} == {end}


def test_a_branch_killed_in_the_middle_continues_to_the_same_weights(tmp_path: Path) -> None:
    point = branch("weight_average", 300)
    whole = run(point, tmp_path / "whole")
    program = (
        "import sys; sys.path[:0] = [sys.argv[2], sys.argv[2] + '/../benchmarks']\n"
        "from pathlib import Path; from test_interventions import *\n"
        "pretrain.SAVE_EVERY_SECONDS = 0.0\n"
        "run(branch('weight_average', 300), Path(sys.argv[1]))"
    )
    state = tmp_path / "killed/state" / point.identity / "branch.pt"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "killed"), str(Path(__file__).parent)]
    )

    def step() -> int:
        return torch.load(state, weights_only=True)["step"] if state.exists() else 0

    while process.poll() is None and step() <= 150:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process was killed in the middle of its work"
    assert 150 < step() < 300
    assert weights(run(point, tmp_path / "killed")) == weights(whole)


def test_the_trunk_is_trained_once_and_more_noise_trains_nothing(tmp_path: Path) -> None:
    points = [p for p in planned(interventions=ALL) if p.labels["budget"] == 20 * 256]
    starts = []
    for point in points:
        context = Context(tmp_path, identity=point.identity)
        Interventions.run(point, context)
        starts.append(min(done for done, _ in context.calls))
    assert starts == [0] + [10] * 7
    more = branch("sharpness_aware", draws=2)
    context = Context(tmp_path, identity=more.identity)
    result = Interventions.run(more, context)
    assert min(done for done, _ in context.calls) == 20
    before = next(p for p in points if p.labels["intervention"] == "sharpness_aware")
    assert (
        result.series["noise_loss_init_std"][0]
        == run(before, tmp_path).series["noise_loss_init_std"][0]
    )


# ---- noise


def test_a_noise_experiment_on_the_created_suite_measures_the_same_numbers(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"scale": "both", "gammas": [0.3, 0.1], "draws": 2}
    point = branch("constant", **fields)
    result = run(point, tmp_path)
    assert result.suite
    catalogue = Catalogue()
    suite = Suite.model_validate(result.suite.model_dump())
    catalogue.suites["mine-constant"] = suite
    noise = GaussianPerturbation(
        suite="mine-constant", gammas=[0.1, 0.3], draws=2, noise_seeds="per_replicate"
    )
    catalogue.suite = lambda name, field="suite": suite  # type: ignore[method-assign]
    others = {
        (p.labels["scale"], p.labels["gamma"], p.labels["draw"]): GaussianPerturbation.run(
            p, Runtime(tmp_path)
        ).metrics["nll_mean"]
        for p in noise.plan(catalogue)
    }
    assert result.metrics["nll_mean"] == others.pop((None, 0.0, None))
    assert list(result.series["noise_gamma"]) == [0.1, 0.3]
    assert list(result.series["noise_seed"]) == [3000, 3001]
    for scale in ("current_std", "init_std"):
        expected = [others[scale, gamma, draw] for gamma in (0.1, 0.3) for draw in (0, 1)]
        assert list(result.series[f"noise_loss_{scale}"]) == expected
    assert len({round(loss, 9) for loss in others.values()}) == 8


# ---- plans


def test_branches_of_a_seed_share_their_noise_and_seeds_do_not() -> None:
    points = planned(interventions=ALL, seeds=[0, 2], draws=3)
    assert len(points) == 2 * 8 * 2
    noise = {(p.labels["replicate"], tuple(p.inputs["noise"]["seeds"])) for p in points}
    assert noise == {(0, (0, 1, 2)), (2, (2000, 2001, 2002))}


def test_the_strength_of_one_intervention_is_no_part_of_another() -> None:
    points = planned(interventions=ALL)
    changed = planned(
        interventions=ALL[::-1], rho=0.1, decay_factor=2, average_decay=0.9, replay_share=0.3
    )
    same = {p.identity for p in points} & {p.identity for p in changed}
    names = {p.labels["intervention"] for p in points if p.identity in same}
    assert names == {"none", "constant", "anneal", "early_stop"}


def test_further_seeds_extend_the_suites_and_another_recipe_needs_another_prefix() -> None:
    spec = Interventions.model_validate({**SMALL, "interventions": ["constant"]})
    recipes = {p.inputs["suite"]: p.artifacts["recipe"] for p in spec.plan(Catalogue())}
    catalogue = Catalogue(suites={n: Suite(name=n, recipe=r) for n, r in recipes.items()})
    more = spec.with_more_draws(2)
    assert isinstance(more, Interventions)
    assert more.seeds == [3, 0, 1]
    assert len(list(more.plan(catalogue))) == 12
    for fields in ({"branch_at": 0.7}, {"learning_rate": 1e-3}):
        other = Interventions.model_validate({**SMALL, "interventions": ["constant"], **fields})
        with pytest.raises(SpecError, match="another recipe") as error:
            list(other.plan(catalogue))
        assert error.value.field == "suite"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branch_at": 0.2}, "after the 5 warm-up steps"),
        ({"branch_at": 0.99}, "before its end"),
        ({"steps": [30, 20]}, "ascend"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"interventions": ["replay", "replay"]}, "interventions must differ"),
        ({"gammas": [0.1, 0.1]}, "gammas must differ"),
        ({"interventions": ["none"]}, "weight_decay"),
    ],
)
def test_specs_that_cannot_be_branched_name_the_reason(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Interventions.model_validate({**SMALL, "interventions": ["constant"], **fields})


def test_a_text_needs_a_registered_held_out_text() -> None:
    catalogue = Catalogue()
    language = catalogue.dataset("tiny-language")
    catalogue.datasets["words"] = language.model_copy(update={"name": "words", "kind": "text"})
    spec = Interventions.model_validate({**SMALL, "interventions": ["constant"], "data": "words"})
    with pytest.raises(SpecError, match="held-out") as error:
        list(spec.plan(catalogue))
    assert error.value.field == "evaluation"


def test_the_identity_of_a_branch_is_frozen() -> None:
    point = branch("sharpness_aware", 30)
    assert point.inputs["branch"] == {"at": 15, "intervention": "sharpness_aware", "strength": 0.05}
    assert point.inputs["keep"] == [30]
    assert json.loads(json.dumps(point.inputs)) == point.inputs
    assert point.identity == ("dcc93a9029f1bb10587874b4c2d724ea0982f961ae790670398751190d7810c4")


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    point = branch("constant", learning_rate=1.0, grad_clip=1e6, init_std=1.0)
    result = run(point, tmp_path)
    assert np.isnan(result.metrics["training_loss"]) or np.isfinite(result.metrics["nll_mean"])


# ---- numbers and verdicts


def loss_table(
    base: dict[str, Any], after: dict[str, Any], gammas: tuple[float, ...] = (0.3,)
) -> pd.DataFrame:
    """A table of losses by intervention, [num_budgets, num_seeds]; after: the same per gamma."""
    rows = []
    for name, losses in base.items():
        for (i, seed), loss in np.ndenumerate(np.array(losses, float)):
            noisy = [float(np.array(after[name])[i, seed]) + g - gammas[0] for g in gammas]
            series = {
                "noise_gamma": list(gammas),
                "noise_seed": [0.0, 1.0],
                # The mean over noise seeds is what counts.
                "noise_loss_init_std": [x for mean in noisy for x in (mean - 0.5, mean + 0.5)],
            }
            labels = {"intervention": name, "replicate": seed, "tokens": (i + 1) * 1000}
            rows.append(
                MeasurementRow(
                    id=len(rows), identity=str(len(rows)), position=len(rows), state="done",
                    labels={**labels, "budget": (i + 1) * 1000, "step": i + 1},
                    metrics={"nll_mean": float(loss)}, series=series,
                )
            )  # fmt: skip
    return to_frame(rows)


# Four seeds, three budgets. The control rises by 0.3 after the second budget.
BASE = np.array([[3.0, 3.1, 2.9, 3.0], [2.8, 2.9, 2.7, 2.8], [2.7, 2.8, 2.6, 2.7]])
WOBBLE = np.array([[0.0, 0.01, -0.01, 0.0]])
U = BASE + np.array([[0.4], [0.3], [0.7]]) + WOBBLE


def answers(table: pd.DataFrame, *names: str) -> dict[tuple[str, str], str]:
    found = verdicts(table, ["none", *names])
    return {(v.claim, v.scope): v.answer for v in found if v.claim != LOWERS}


def test_an_intervention_that_bends_the_u_at_the_same_base_is_a_yes() -> None:
    bent = U - np.array([[0.0], [0.0], [0.2]])
    bent[2] += 2 * WOBBLE[0]
    table = loss_table({"none": BASE, "sharpness_aware": BASE + 0.002 + WOBBLE / 10},
                       {"none": U, "sharpness_aware": bent})  # fmt: skip
    given = answers(table, "sharpness_aware")
    assert given[KEEPS, "sharpness aware"] == "yes"
    assert given[BENDS, "gamma 0.3 under init_std, sharpness aware"] == "yes"
    # With one noise scale the summary over both is open, as everywhere.
    assert given[BOTH, "sharpness aware"] == "undetermined"
    single = next(
        v for v in verdicts(table, ["none", "sharpness_aware"])
        if v.claim == BENDS and v.labels
    )  # fmt: skip
    by_hand = (bent[2] - bent[1]) - (U[2] - U[1])
    assert single.effect == pytest.approx(by_hand.mean())
    half = 3.182446 * by_hand.std(ddof=1) / 2
    assert single.interval == pytest.approx((by_hand.mean() - half, by_hand.mean() + half))
    t = -by_hand.mean() / (by_hand.std(ddof=1) / 2)
    assert single.p_value == pytest.approx(float(stdtr(3, -t)), rel=1e-6)
    assert (single.num_draws, single.draw_name) == (4, "pre-training seeds")


def test_an_intervention_that_costs_the_base_does_not_keep_it() -> None:
    table = loss_table({"none": BASE, "constant": BASE + 0.05 + WOBBLE / 10},
                       {"none": U, "constant": U - 0.1})  # fmt: skip
    given = answers(table, "constant")
    assert given[KEEPS, "constant"] == "no"
    assert given[BOTH, "constant"] == "no"
    # The whole curve is lower, and rises as before: that bends nothing.
    assert given[BENDS, "gamma 0.3 under init_std, constant"] == "no"


def test_two_seeds_that_differ_are_not_enough_and_one_is_the_least_said() -> None:
    table = loss_table({"none": BASE[:, :2], "replay": BASE[:, :2] + [[0.0, 0.03]]},
                       {"none": U[:, :2], "replay": U[:, :2] - [[0.0, 0.1]]})  # fmt: skip
    found = verdicts(table, ["none", "replay"])
    keeps = next(v for v in found if v.claim == KEEPS)
    assert keeps.answer == "undetermined"
    assert keeps.sentence.startswith("Needs more seeds")
    assert keeps.more_draws
    alone = loss_table({"none": BASE[:, :1], "replay": BASE[:, :1]},
                       {"none": U[:, :1], "replay": U[:, :1]})  # fmt: skip
    assert {v.answer for v in verdicts(alone, ["none", "replay"])} == {"undetermined"}


def test_where_the_control_does_not_rise_there_is_no_u_to_bend() -> None:
    falling = BASE + 0.3 + WOBBLE
    table = loss_table({"none": BASE, "anneal": BASE}, {"none": falling, "anneal": falling - 0.1})
    found = verdicts(table, ["none", "anneal"])
    bends = next(v for v in found if v.claim == BENDS and v.labels)
    assert bends.answer == "undetermined"
    assert bends.sentence.startswith("There is no U to bend")
    lowers = next(v for v in found if v.claim == LOWERS and v.labels)
    assert (lowers.answer, lowers.effect) == ("yes", pytest.approx(-0.1))


def test_the_minimum_of_a_seed_is_chosen_by_the_other_seeds() -> None:
    # Seed 0 alone is lowest at the first budget; the others are lowest at the second.
    control = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])
    found = interventions.rises({"none": control}, "none")
    assert found[0] == control[2, 0] - control[1, 0]
    # The mean of seeds 0 and 2 is the same at both: the first counts.
    assert found[1] == control[2, 1] - control[0, 1]


def test_p_values_are_corrected_over_all_interventions() -> None:
    one = loss_table({"none": BASE, "anneal": BASE + 0.005 + WOBBLE},
                     {"none": U, "anneal": U})  # fmt: skip
    worse = BASE + 0.005 + WOBBLE
    two = loss_table({"none": BASE, "anneal": worse, "replay": worse},
                     {"none": U, "anneal": U, "replay": U})  # fmt: skip
    p = [
        next(v.p_value for v in verdicts(t, names) if v.claim == KEEPS)
        for t, names in ((one, ["none", "anneal"]), (two, ["none", "anneal", "replay"]))
    ]
    assert p[1] == pytest.approx(2 * p[0])


def test_every_look_at_more_seeds_has_a_smaller_level_and_adding_seeds_counts_one() -> None:
    table = loss_table({"none": BASE, "anneal": BASE + WOBBLE / 10},
                       {"none": U, "anneal": U - 0.1 + 5 * WOBBLE})  # fmt: skip
    by_look = [verdicts(table, ["none", "anneal"], look) for look in (1, 2, 3)]
    lowers = [next(v for v in found if v.claim == LOWERS and v.labels) for found in by_look]
    assert [v.p_value for v in lowers] == [lowers[0].p_value] * 3
    assert lowers[0].p_value is not None
    assert 0.0048 < lowers[0].p_value < 0.012
    assert [v.answer for v in lowers] == ["yes", "yes", "undetermined"]
    assert [v.alpha for v in lowers] == pytest.approx([0.03, 0.012, 0.0048])
    assert "interim analysis 3, alpha = 0.0048" in lowers[2].test
    spec = Interventions.model_validate({**SMALL, "interventions": ["anneal"]})
    more = spec.with_more_draws(2)
    assert isinstance(more, Interventions)
    assert (spec.looks, more.looks) == (1, 2)
    again = Interventions.model_validate({**spec.model_dump(), "looks": 3})
    same = [[p.identity for p in s.plan(Catalogue())] for s in (spec, again)]
    assert same[0] == same[1], "a look is no part of a measurement"
    levels = {v.alpha for v in again.verdicts(table) if v.labels}
    assert levels == {alpha(3)}, "the field reaches the tests"


def test_the_rise_of_the_control_and_the_base_are_tested_at_the_level_of_the_look() -> None:
    rising = BASE + np.array([[0.4], [0.3], [0.5]]) + np.array([[0.0], [0.0], [1.0]]) * [
        [0.0, 0.05, -0.05, 0.0]
    ]  # fmt: skip
    base = BASE + 0.005 + WOBBLE / 3
    table = loss_table({"none": BASE, "anneal": base}, {"none": rising, "anneal": rising - 0.1})
    found = [verdicts(table, ["none", "anneal"], look) for look in (1, 4)]
    keeps = [next(v for v in look if v.claim == KEEPS) for look in found]
    assert [v.answer for v in keeps] == ["yes", "undetermined"]
    assert keeps[1].more_draws
    bends = [next(v for v in look if v.claim == BENDS and v.labels) for look in found]
    assert ["There is no U" in v.sentence for v in bends] == [False, True]


def test_effects_are_named_as_those_on_this_text() -> None:
    table = loss_table({"none": BASE, "anneal": BASE + WOBBLE}, {"none": U, "anneal": U - 0.1})
    single = [v for v in verdicts(table, ["none", "anneal"]) if v.labels]
    assert {v.claim for v in single} == {KEEPS, BENDS, LOWERS}
    assert all(v.effect_name.endswith("(on this text)") for v in single)


def test_losses_not_measured_are_left_out_and_a_broken_one_leaves_no_verdict() -> None:
    changed = U - 0.1 + WOBBLE
    table = loss_table({"none": BASE, "anneal": BASE + 0.001}, {"none": U, "anneal": changed})
    table.loc[len(table) - 1, "state"] = "open"
    curves = interventions.Branches.of(table).after["init_std", 0.3]
    assert np.isnan(curves["anneal"][2]).tolist() == [False, False, False, True]
    [lowers] = [v for v in verdicts(table, ["none", "anneal"]) if v.claim == LOWERS and v.labels]
    assert (lowers.answer, lowers.num_draws) == ("yes", 3)
    changed[2, 0] = np.inf
    table = loss_table({"none": BASE, "anneal": BASE + 0.001}, {"none": U, "anneal": changed})
    for verdict in verdicts(table, ["none", "anneal"]):
        if verdict.labels and verdict.claim != KEEPS:
            assert (verdict.answer, verdict.effect, verdict.p_value) == ("undetermined", None, None)
            assert "1 of 4 pre-training seeds" in verdict.sentence


def test_over_several_interventions_one_that_does_it_is_enough_and_is_named() -> None:
    bent = U - np.array([[0.0], [0.0], [0.2]])
    bent[2] += WOBBLE[0]
    keeps = BASE + WOBBLE / 10
    table = loss_table({"none": BASE, "anneal": keeps, "sharpness_aware": keeps},
                       {"none": U, "anneal": U + 0.1, "sharpness_aware": bent})  # fmt: skip
    for row in table["series"]:
        row["noise_loss_current_std"] = row["noise_loss_init_std"]
    over_all = next(v for v in verdicts(table, ["none", "anneal", "sharpness_aware"]))
    assert (over_all.claim, over_all.scope, over_all.answer) == (BOTH, "any intervention", "yes")
    assert over_all.holds_for == ["sharpness aware"]


# ---- figures


def test_the_figures_show_every_branch_and_the_plane_both_changes() -> None:
    table = loss_table({"none": BASE, "anneal": BASE + 0.01 + WOBBLE / 10},
                       {"none": U, "anneal": U - 0.1 + WOBBLE}, (0.3, 0.5))  # fmt: skip
    spec = Interventions(interventions=["anneal"], gammas=[0.3, 0.5], scale="init_std")
    drawn = spec.figures(table)
    base = [r for r in drawn["base"].datasets["curves"] if r["what"] == "mean"]
    assert {(r["intervention"], r["tokens"]) for r in base} == {
        (name, 1000 * i) for name in ("none", "anneal") for i in (1, 2, 3)
    }
    last = next(r for r in base if r["intervention"] == "anneal" and r["tokens"] == 3000)
    assert last["y"] == pytest.approx(2.71)
    increase = [r for r in drawn["increase"].datasets["curves"] if r["what"] == "mean"]
    assert {r["gamma"] for r in increase} == {0.3, 0.5}
    [point] = [r for r in drawn["plane"].datasets["curves"] if r["gamma"] == 0.5]
    assert (point["x"], point["y"]) == (pytest.approx(0.01), pytest.approx(-0.11))
    assert point["x_low"] < point["x"] < point["x_high"] < 0.02
    colours = drawn["base"].chart["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert len(colours) == 2
    every = Interventions(interventions=ALL).figures(table.iloc[:0])
    colours = every["base"].chart["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert len(set(colours)) == 8, "no two lines have one colour"


# ---- a lab


def test_branches_go_through_a_lab_and_every_suite_can_be_measured(lab: Lab) -> None:
    fields = {**SMALL, "suite": "lab-branches", "seeds": [0, 1], "interventions": ["constant"]}
    id = lab.client.submit({"kind": "interventions", **fields}).id
    assert lab.client.wait(id, timeout=180).state == "done"
    claims = {verdict.claim for verdict in lab.client.verdicts(id)}
    assert claims == {KEEPS, BENDS, BOTH, LOWERS}
    assert lab.client.figures(id).keys() == {"base", "loss", "increase", "plane"}
    rows = lab.client.rows(id)
    noise = {
        "kind": "gaussian_perturbation", "suite": "lab-branches-constant", "gammas": [0.2],
        "draws": 1, "scale": "init_std", "noise_seeds": "per_replicate",
    }  # fmt: skip
    other = lab.client.submit(noise).id
    assert lab.client.wait(other, timeout=120).state == "done"
    after = {
        (row.labels["replicate"], row.labels["tokens"]): row.metrics["nll_mean"]
        for row in lab.client.rows(other)
        if row.labels["gamma"]
    }
    branches = [row for row in rows if row.labels["intervention"] == "constant"]
    assert len(branches) == len(after) == 4
    for row in branches:
        [loss] = row.series["noise_loss_init_std"]
        assert loss == after[row.labels["replicate"], row.labels["tokens"]]
