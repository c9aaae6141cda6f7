"""Sharpness: the Hessian against torch's own, noise along the probes, verdicts, and a worker."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Lab
from in_process import Context
from judge_every_kind import sharpness_rows
from pydantic import ValidationError
from test_kinds import Catalogue
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.sharpness import LIMIT, Departure, curves, departures, regimes
from ucurve.experiments import parse
from ucurve.experiments.sharpness import Sharpness
from ucurve.modeling import perturb
from ucurve.modeling.curvature import Directions, flat, signs
from ucurve.modeling.landscape import Landscape
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, SpecError

SHARED_LAB = True

WINDOW = 8
TOKENS = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(1))
LAST = "seed0-step7000-tokens14336000"
FEW = ["seed0-step437-tokens894976", "seed0-step1750-tokens3584000", LAST]
GOLDEN = {"trace": 1296.76584, "top_eigenvalue": 44.326732, "rise": 0.068773074}


def neox(**config: Any) -> PreTrainedModel:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=7, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=6, max_position_embeddings=16, initializer_range=0.5, **config,
        )
    )  # fmt: skip


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=7, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, intermediate_size=6, max_position_embeddings=16,
            initializer_range=0.5,
        )
    )  # fmt: skip


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=7, n_embd=4, n_layer=1, n_head=2, n_positions=16, initializer_range=0.5,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


MODELS = {
    "untied": neox,
    "tied": lambda: neox(tie_word_embeddings=True),
    "eager": lambda: neox(attn_implementation="eager"),
    "llama": llama,
    "gpt2": gpt2,
}


def landscape(name: str, dtype: torch.dtype = torch.float64) -> Landscape:
    torch.manual_seed(0)
    return Landscape.of(MODELS[name]().eval().to(dtype), TOKENS, WINDOW)


def exact_hessian(model: PreTrainedModel) -> torch.Tensor:
    """The Hessian of the mean loss of TOKENS by torch.autograd.functional, window by window."""
    names = [name for name, _ in model.named_parameters()]
    like = [parameter.detach() for parameter in model.parameters()]

    def loss(point: torch.Tensor) -> torch.Tensor:
        parts = torch.split(point, [tensor.numel() for tensor in like])
        state = {n: p.view_as(t) for n, p, t in zip(names, parts, like, strict=True)}
        total, num = torch.zeros((), dtype=point.dtype), 0
        for start in range(0, len(TOKENS), WINDOW):
            ids = TOKENS[start : start + WINDOW]
            if len(ids) > 1:
                out = torch.func.functional_call(model, state, (ids[None],), {"use_cache": False})
                logs = out.logits[0, :-1].log_softmax(-1)
                total = total - logs[torch.arange(len(ids) - 1), ids[1:]].sum()
                num += len(ids) - 1
        return total / num

    with sdpa_kernel(SDPBackend.MATH):
        whole = torch.cat([tensor.flatten() for tensor in like])
        hessian: torch.Tensor = torch.autograd.functional.hessian(loss, whole)
    return hessian


# ---- the Hessian


@pytest.mark.parametrize("name", MODELS)
def test_probes_traces_and_eigenvalues_are_those_of_the_exact_hessian(name: str) -> None:
    scene = landscape(name)
    exact = exact_hessian(scene.model)
    vector = flat(signs(Directions(3), scene.parameters))
    found = scene.quadratic_form(Directions(3))
    assert found["trace"] == pytest.approx(float(vector @ exact @ vector), rel=1e-6)
    assert found["num_tokens"] == 43, "seven windows, each without its first token"
    found = scene.top_eigenvalue(Directions(0), None, 1e-4, 300)
    eigenvalues = torch.linalg.eigvalsh(exact)
    assert found["top_eigenvalue"] == pytest.approx(float(eigenvalues[-1]), rel=1e-6)
    assert found["residual"] <= 1e-4 * found["top_eigenvalue"]


@pytest.mark.parametrize("name", ["untied", "tied"])
def test_a_group_has_the_diagonal_block_of_the_hessian(name: str) -> None:
    scene = landscape(name)
    exact = exact_hessian(scene.model)
    vector = flat(signs(Directions(0), scene.parameters))
    owner = np.repeat(
        [scene.groups[n] for n in scene.parameters], [p.numel() for p in scene.parameters.values()]
    )
    form = scene.quadratic_form(Directions(0))
    groups = list(dict.fromkeys(scene.groups.values()))
    assert ("unembedding" in groups) == (name == "untied")
    for group in groups:
        mine = torch.from_numpy(owner == group)
        assert form[f"trace_{group}"] == pytest.approx(
            float(vector[mine] @ (exact @ vector)[mine]), rel=1e-6
        )
        assert form[f"weights_{group}"] == mine.sum()
        found = scene.top_eigenvalue(Directions(0), group, 1e-4, 300)
        block = torch.linalg.eigvalsh(exact[mine][:, mine])
        assert found["top_eigenvalue"] == pytest.approx(float(block[-1]), rel=1e-6, abs=1e-9)
    assert sum(form[f"trace_{group}"] for group in groups) == pytest.approx(form["trace"])
    assert sum(form[f"weights_{group}"] for group in groups) == len(vector)


def test_the_mean_over_probes_is_the_trace_within_its_standard_error() -> None:
    scene = landscape("untied")
    forms = np.array([scene.quadratic_form(Directions(i))["trace"] for i in range(40)])
    exact = exact_hessian(scene.model)
    off = exact - torch.diag(exact.diagonal())
    spread = math.sqrt(2 * float(off.square().sum()))  # of one probe (Hutchinson 1990)
    assert forms.std(ddof=1) == pytest.approx(spread, rel=0.4)
    assert abs(forms.mean() - float(exact.trace())) < 3.5 * spread / math.sqrt(40)


def test_weights_and_gradients_are_left_alone_in_fp32() -> None:
    scene = landscape("tied", torch.float32)
    before = {name: p.detach().clone() for name, p in scene.parameters.items()}
    scene.quadratic_form(Directions(0))
    scene.top_eigenvalue(Directions(0), "attention", 1e-3, 5)
    scene.antithetic_rise(Directions(0), 0.01, scene.losses())
    for name, parameter in scene.parameters.items():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_small_noise_costs_what_the_hessian_says_along_the_same_direction() -> None:
    scene = landscape("untied", torch.float32)
    base = scene.losses()
    for seed in range(3):
        form = scene.quadratic_form(Directions(seed))["trace"]
        measured, series = scene.antithetic_rise(Directions(seed), 0.003, base)
        assert measured["curvature"] == pytest.approx(form, rel=0.002, abs=0.05)
        assert measured["rise"] == measured["nll_mean"] - base.nll_mean
        blocks = series["block_rise"]
        assert 1 < len(blocks) <= 32
        assert sum(blocks) / len(blocks) == pytest.approx(measured["rise"], abs=1e-12)
        assert max(blocks) > min(blocks)


def test_directions_are_the_signs_of_the_noise_of_their_seed() -> None:
    like = torch.zeros(3, 50)
    found = Directions(5).like("a.weight", like)
    noise = perturb.standard_normal(5, "a.weight", 150).view(3, 50)
    assert torch.equal(found, torch.where(noise > 0, 1.0, -1.0))
    assert 40 < int((found > 0).sum()) < 110


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_model_that_is_not_finite_has_no_curvature_and_keeps_its_weights(broken: float) -> None:
    scene = landscape("untied", torch.float32)
    weight = next(p for n, p in scene.parameters.items() if "query_key_value.weight" in n)
    weight.data[0, 0] = broken
    assert math.isnan(scene.quadratic_form(Directions(0))["trace"])
    found = scene.top_eigenvalue(Directions(0), None, 1e-3, 50)
    assert math.isnan(found["top_eigenvalue"])
    assert found["num_products"] == 1, "it stops at once"
    assert math.isnan(scene.antithetic_rise(Directions(0), 0.01, scene.losses())[0]["rise"])


def test_a_run_that_is_stopped_early_reports_the_bound_it_reached() -> None:
    scene = landscape("untied")
    found = scene.top_eigenvalue(Directions(0), None, 1e-6, 3)
    exact = torch.linalg.eigvalsh(exact_hessian(scene.model))
    assert found["num_products"] == 3
    assert found["residual"] > 1e-6 * abs(found["top_eigenvalue"])
    assert (exact - found["top_eigenvalue"]).abs().min() <= found["residual"]


def test_a_group_that_the_model_has_not_is_named() -> None:
    with pytest.raises(ValueError, match="no tensors of the group 'mixer'"):
        landscape("untied").top_eigenvalue(Directions(0), "mixer", 1e-3, 5)


# ---- plans


def planned(**fields: Any) -> list[Point]:
    return list(parse({"kind": "sharpness", **fields}).plan(Catalogue()))


def test_the_identities_of_the_three_protocols_are_frozen() -> None:
    points = planned(checkpoints=[LAST], draws=1, sigmas=[0.01], by_group=False)
    assert [p.labels["part"] for p in points] == ["trace", "noise", "eigenvalue"]
    common = {
        "directions": "signs of gaussian/1",
        "names": "canonical",
        "attention": "plain",
        "seed": 0,
    }
    assert [p.inputs["curvature"] for p in points] == [
        {"protocol": "hessian_trace/1", **common},
        {"protocol": "antithetic_rise/1", **common, "sigma": 0.01},
        {
            "protocol": "hessian_top_eigenvalue/1",
            **common,
            "group": None,
            "method": "lanczos",
            "tolerance": 1e-3,
            "most_steps": 100,
        },
    ]
    assert points[0].inputs["evaluation"]["first_windows"] == 64
    assert [p.identity[:12] for p in points] == [
        "878fd897b430",
        "c08c620c3a6e",
        "46fa2fa03630",
    ]


def test_more_directions_keep_what_is_measured() -> None:
    spec = parse({"kind": "sharpness", "draws": 2})
    more = spec.with_more_draws(3)
    assert more is not None
    before = {p.identity for p in spec.plan(Catalogue())}
    after = {p.identity for p in more.plan(Catalogue())}
    assert before < after
    assert len(after) == more.count(Catalogue())
    assert more.looks == 2


def test_a_plan_states_the_cost_of_products_and_of_the_vectors_that_lanczos_keeps() -> None:
    few, many = (planned(checkpoints=[LAST], draws=1, windows=windows) for windows in (64, 640))
    assert many[0].estimated_seconds > 5 * few[0].estimated_seconds
    eigenvalue = next(p for p in few if p.labels["part"] == "eigenvalue")
    assert eigenvalue.estimated_seconds > 10 * few[0].estimated_seconds

    class Large(Catalogue):
        def suite(self, name: str, field: str = "suite") -> Any:
            suite = super().suite(name, field)
            grown = [c.model_copy(update={"num_parameters": 10**9}) for c in suite.checkpoints]
            return suite.model_copy(update={"checkpoints": grown})

    points = list(parse({"kind": "sharpness"}).plan(Large()))
    trace = next(p for p in points if p.labels["part"] == "trace")
    eigenvalue = next(p for p in points if p.labels["part"] == "eigenvalue")
    assert trace.resources.memory_gb > 30
    assert eigenvalue.resources.memory_gb > trace.resources.memory_gb + 100


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"draws": 0}, "draws"),
        ({"sigmas": [0]}, "sigmas"),
        ({"sigmas": [-0.01]}, "sigmas"),
        ({"sigmas": [math.inf]}, "sigmas"),
        ({"windows": 0}, "windows"),
        ({"tolerance": 0}, "tolerance"),
        ({"most_steps": 0}, "most_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse({"kind": "sharpness", **fields})
    assert refused.value.errors()[0]["loc"][0] == name


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"suite": "no-such"}, "suite"),
        ({"evaluation": "no-such"}, "evaluation"),
        ({"evaluation": "tiny-language"}, "evaluation"),
        ({"window": 4096}, "window"),
        ({"checkpoints": ["no-such"]}, "checkpoints"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_the_plan(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(SpecError) as refused:
        planned(**fields)
    assert refused.value.field == name


def test_a_worker_refuses_a_protocol_of_a_later_release(tmp_path: Path) -> None:
    point = planned(draws=1)[0]
    later = {**point.inputs, "curvature": {"protocol": "hessian_trace/3"}}
    with pytest.raises(ValueError, match=r"hessian_trace/3.*upgrade"):
        Sharpness.run(dataclasses.replace(point, inputs=later), Context(tmp_path))


# ---- numbers of the built-in suites


def test_the_golden_numbers_of_the_last_checkpoint_and_those_of_step_0(tmp_path: Path) -> None:
    context, found = Context(tmp_path), {}
    for point in planned(
        checkpoints=[LAST, "seed0-step0-tokens0"],
        draws=1,
        sigmas=[0.01],
        windows=8,
        by_group=False,
    ):
        metrics = Sharpness.run(point, context).metrics
        assert all(math.isfinite(value) for value in metrics.values())
        if point.labels["revision"] == LAST:
            found |= {name: metrics[name] for name in GOLDEN if name in metrics}
    assert found == pytest.approx(GOLDEN, rel=1e-4)


# ---- analysis


def test_the_trace_grows_and_explains_the_noise_on_a_made_up_table() -> None:
    table = to_frame(sharpness_rows())
    grows, explains, *details = Sharpness(sigmas=[0.01, 0.1]).verdicts(table)
    assert (grows.claim, grows.answer) == ("sharpness grows", "yes")
    assert (explains.claim, explains.answer) == ("curvature explains the smallest noise", "yes")
    assert {verdict.scope for verdict in details} == {"pre-training seed 0"}
    (curve,) = curves(table).values()
    assert details[0].effect == pytest.approx(float((curve.forms[-1] - curve.forms[0]).mean()))


def test_a_trace_that_is_lower_at_the_end_does_not_grow_even_if_it_rose_on_the_way() -> None:
    last = max(row.labels["tokens"] for row in sharpness_rows())
    rows = [
        row.model_copy(update={"metrics": {**row.metrics, "trace": row.metrics["trace"] / 5}})
        if row.labels["part"] == "trace" and row.labels["tokens"] == last
        else row
        for row in sharpness_rows()
    ]
    grows = Sharpness(sigmas=[0.01, 0.1]).verdicts(to_frame(rows))[0]
    assert grows.answer == "no"


def test_a_departure_is_that_of_the_same_directions_and_not_of_two_means() -> None:
    table = to_frame(sharpness_rows())
    (curve,) = curves(table).values()
    found = departures(curve)
    assert [one.value for one in found if one.sigma == 0.01] == pytest.approx([0.01] * 4)
    assert [one.value for one in found if one.sigma == 0.1] == pytest.approx([1.0] * 4)
    assert all(one.high - one.low < 1e-9 for one in found), "exactly proportional: no error"
    spread = curve.forms.std(axis=1, ddof=1) / curve.forms.mean(axis=1)
    assert spread.min() > 0.01, "although the directions differ"


def departure(sigma: float, value: float, half: float = 0.0) -> Departure:
    return Departure(1e6, sigma, value, value - half, value + half, 8)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(0.01, 0.001), (0.1, 0.1)], None),
        ([(0.01, 0.01), (0.1, 1.0)], 0.01 * 10**0.5),
        ([(0.01, -0.01), (0.1, -1.0)], 0.01 * 10**0.5),
        ([(0.01, 0.2), (0.1, 1.0)], 0.01),
        ([(0.01, 0.2), (0.1, 0.01), (1.0, 1.0)], 0.1 * 10**0.5),
    ],
)
def test_the_quadratic_regime_ends_where_the_departure_reaches_a_tenth_for_good(
    sizes: list[tuple[float, float]], expected: float | None
) -> None:
    (found,) = regimes([departure(sigma, value) for sigma, value in sizes])
    assert LIMIT == 0.1
    assert found.value == (expected and pytest.approx(expected))
    assert found.below == (len(sizes) == 2 and sizes[0][1] == 0.2)


def test_the_interval_of_the_end_is_where_the_ends_of_the_departure_reach_a_tenth() -> None:
    (found,) = regimes([departure(0.01, 0.01, 0.005), departure(0.1, 1.0, 0.5)])
    assert found.low is not None
    assert found.value is not None
    assert found.high is not None
    assert 0.01 < found.low < found.value < found.high < 0.1
    (wide,) = regimes([departure(0.01, 0.0, 0.05), departure(0.1, 0.2, 0.15)])
    assert wide.high is None, "the smaller end is not reached within the sigmas measured"


def changed(rows: list[MeasurementRow], **metrics: float) -> list[MeasurementRow]:
    last = max(row.labels["tokens"] for row in rows)
    return [
        row.model_copy(
            update={"metrics": {k: v for k, v in row.metrics.items() if k not in metrics},
                    "nonfinite": {k: "nan" for k in metrics if k in row.metrics}}
        )
        if row.labels["tokens"] == last
        else row
        for row in rows
    ]  # fmt: skip


def test_a_hessian_that_is_not_finite_leaves_the_question_open() -> None:
    table = to_frame(changed(sharpness_rows(), trace=math.nan, rise=math.nan, curvature=math.nan))
    spec = Sharpness(sigmas=[0.01, 0.1])
    grows, explains, *_ = spec.verdicts(table)
    assert {grows.answer, explains.answer} == {"undetermined"}
    figure = spec.figures(table)["curvature"]
    assert any(row["what"] == "edge" for row in figure.datasets["curves"])


def test_figures_hold_the_estimates_with_their_intervals() -> None:
    table = to_frame(sharpness_rows())
    figures = Sharpness(sigmas=[0.01, 0.1]).figures(table)
    means = [r for r in figures["curvature"].datasets["curves"] if r["what"] == "mean"]
    assert {row["estimate"] for row in means} == {"Hessian", "σ 0.01", "σ 0.1"}
    assert all(row["low"] < row["y"] < row["high"] for row in means)
    bounds = [r for r in figures["top_eigenvalue"].datasets["curves"] if r["what"] == "mean"]
    assert all(row["high"] - row["low"] == pytest.approx(2 * row["residual"]) for row in bounds)
    texts = {(c["group"], c["number"]): c["label"] for c in figures["groups"].datasets["cells"]}
    assert texts["embedding", "share of the trace"] == "25% → 25%"
    assert texts["all", "weights"] == "400"


# ---- the text's own error


def with_text(rows: list[MeasurementRow], sigma: float = 0.01) -> list[MeasurementRow]:
    """The rows with rises in 32 blocks, which differ by a fifth of the rise and grow with it."""
    shape = np.linspace(-1, 1, 32)
    return [
        row.model_copy(
            update={"series": {"block_rise": (row.metrics["rise"] * (1 + 0.2 * shape)).tolist()}}
        )
        if row.labels["part"] == "noise" and row.labels["sigma"] == sigma
        else row
        for row in rows
    ]


def test_the_growth_of_the_trace_has_the_error_of_the_text_where_rises_are_stored_by_block() -> (
    None
):
    spec = Sharpness(sigmas=[0.01, 0.1])
    rows = sharpness_rows()
    plain, full = (
        next(v for v in spec.verdicts(to_frame(r)) if not v.is_summary)
        for r in (rows, with_text(rows))
    )
    assert plain.effect_name.endswith("(on this text)")
    assert not full.effect_name.endswith("(on this text)")
    assert full.effect == plain.effect
    (curve,) = curves(to_frame(with_text(rows))).values()
    growth = (curve.rises[0.01][-1] - curve.rises[0.01][0]).mean() * 2 / 0.01**2
    # Every draw has the same shape over blocks, but for its size: a two-way table of rank one.
    long = np.linspace(-1, 1, 32).reshape(8, 4).mean(axis=1)
    expected = 2.36462 * growth * 0.2 * long.std(ddof=1) / math.sqrt(8)
    own = plain.effect - plain.interval[0]
    assert full.interval[1] - full.effect == pytest.approx(math.hypot(own, expected), rel=0.02)


def test_bands_have_the_error_of_the_text_and_a_missing_block_leaves_them_on_this_text() -> None:
    rows = sharpness_rows()
    spec = Sharpness(sigmas=[0.01, 0.1])

    def widths(table: Any) -> dict[str, float]:
        means = spec.figures(table)["curvature"].datasets["curves"]
        last = [r for r in means if r["what"] == "mean" and r["tokens"] == 8e6]
        return {r["estimate"]: r["high"] - r["low"] for r in last}

    plain, full = widths(to_frame(rows)), widths(to_frame(with_text(rows)))
    assert full["Hessian"] > 1.05 * plain["Hessian"]
    assert full["σ 0.01"] > 1.05 * plain["σ 0.01"]
    assert full["σ 0.1"] == plain["σ 0.1"], "its rises are not stored by block"
    broken = with_text(rows)
    first = next(i for i, row in enumerate(broken) if row.series)
    broken[first] = broken[first].model_copy(update={"series": {}})
    (curve,) = curves(to_frame(broken)).values()
    assert curve.blocks is None


# ---- a worker


def test_sharpness_runs_on_a_worker_from_plan_to_figures(lab: Lab) -> None:
    spec = {
        "kind": "sharpness",
        "checkpoints": FEW,
        "draws": 2,
        "sigmas": [0.003],
        "windows": 2,
        "by_group": False,
    }
    plan = lab.client.plan(spec)
    assert plan.num_points == 3 * (2 * 2 + 1)
    experiment = lab.client.submit(spec)
    assert lab.client.wait(experiment.id, timeout=300).state == "done"
    figures = lab.client.figures(experiment.id)
    assert {"curvature", "top_eigenvalue", "departure", "regime", "groups"} <= figures.keys()
    verdicts = lab.client.verdicts(experiment.id)
    assert {"sharpness grows", "curvature explains the smallest noise"} == {
        verdict.claim for verdict in verdicts
    }
