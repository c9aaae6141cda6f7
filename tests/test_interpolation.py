"""Interpolation: lines against plain torch, plans, refusals, verdicts, and a line through a lab."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser_helpers import chart, marks, until
from conftest import Lab
from in_process import Context
from playwright.sync_api import Page
from pydantic import ValidationError
from safetensors.torch import load_file
from test_kinds import Catalogue
from test_quantisation import measured, neox
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.analysis.interpolation import AVERAGE, BARRIER, Line, barrier, gain, lines
from ucurve.analysis.measurement_table import to_frame
from ucurve.client import RequestRejectedError
from ucurve.experiments import parse
from ucurve.experiments.interpolation import Interpolation
from ucurve.modeling.interpolation import DifferentModelsError, interpolated, position
from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.suites import Dataset, Suite
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, SpecError

SHARED_LAB = True
NUM_WORKERS = 1
SHORT, LONG = "seed0-step437-tokens894976", "seed0-step7000-tokens14336000"
OTHER = "seed1-step437-tokens894976"


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.data.view(torch.int32).clone() for n, p in model.named_parameters()}


def shifted(**config: Any) -> GPTNeoXForCausalLM:
    """A model like `neox()` with other weights."""
    model = neox(**config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += torch.randn(parameter.shape, generator=generator)
    return model


# ---- the arithmetic


@pytest.mark.parametrize("t", [0.125, 0.3, 0.5, 0.9])
def test_every_weight_on_the_line_equals_independent_code_and_every_bit_comes_back(
    t: float,
) -> None:
    first, second = neox(), shifted()
    before = bits(first)
    expected = {
        name: ((1 - t) * a.detach().numpy().astype(np.float64)
               + t * second.get_parameter(name).detach().numpy().astype(np.float64))
        for name, a in first.named_parameters()
    }  # fmt: skip
    with interpolated(first, second, t) as line:
        for name, parameter in first.named_parameters():
            found = parameter.detach().numpy()
            np.testing.assert_array_equal(found, expected[name].astype(np.float32))
    assert line.num_tensors == len(before)
    assert line.num_buffers == 0
    moved = sum(float(((expected[n] - p.detach().numpy()) ** 2).sum()) for n, p in
                first.named_parameters())  # fmt: skip
    size = sum(float(p.detach().double().square().sum()) for p in first.parameters())
    assert line.distance * t == pytest.approx(math.sqrt(moved / size), rel=1e-6)
    assert all(torch.equal(now, before[name]) for name, now in bits(first).items())


def test_at_both_ends_the_weights_have_the_bits_of_a_checkpoint_nan_and_minus_zero_too() -> None:
    first, second = neox(), shifted()
    first.gpt_neox.embed_in.weight.data[0, :2] = torch.tensor([-0.0, math.nan])
    second.gpt_neox.embed_in.weight.data[1, :2] = torch.tensor([math.inf, -0.0])
    for t, model in ((0.0, first), (1.0, second)):
        expected = bits(model)
        with interpolated(first, second, t):
            assert all(torch.equal(now, expected[name]) for name, now in bits(first).items())


def test_tied_weights_stay_tied_and_a_number_alone_is_moved_too() -> None:
    first, second = neox(tie_word_embeddings=True), shifted(tie_word_embeddings=True)
    for model, value in ((first, 1.0), (second, 3.0)):
        model.register_parameter("temperature", nn.Parameter(torch.tensor(value)))
    with interpolated(first, second, 0.5):
        head, embedding = first.get_output_embeddings().weight, first.gpt_neox.embed_in.weight
        assert head.data_ptr() == embedding.data_ptr()
        assert first.get_parameter("temperature").item() == 2.0


def test_buffers_are_those_of_the_first_and_differing_ones_are_counted() -> None:
    first, second = neox(), shifted()
    for model, values in ((first, [1, 2]), (second, [1, 3])):
        model.register_buffer("counts", torch.tensor(values))
    with interpolated(first, second, 0.5) as line:
        assert first.get_buffer("counts").tolist() == [1, 2]
    assert line.num_buffers == 1


def test_models_of_another_shape_or_other_names_are_refused_by_the_tensor() -> None:
    wider = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=41, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=32,
        )
    )  # fmt: skip
    tied = neox(tie_word_embeddings=True)
    for other, words in (
        (wider, r"embed_in.weight has the shapes \(40, 16\) and \(41, 16\)"),
        (tied, r"no tensor .*tied alike"),
    ):
        with pytest.raises(DifferentModelsError, match=words), interpolated(neox(), other, 0.5):
            pass


def test_a_worker_refuses_rules_of_a_later_release() -> None:
    inputs = dict(planned(pairs=["seeds"])[-1].inputs["perturbation"])
    assert position(inputs) == 0.875
    for name in ("protocol", "arithmetic", "buffers"):
        with pytest.raises(ValueError, match=f"does not know .*{name}.*upgrade"):
            position({**inputs, name: "interpolation/2"})


# ---- plans


def planned(**fields: Any) -> list[Point]:
    return list(parse({"kind": "interpolation", **fields}).plan(Catalogue()))


def test_the_identity_of_an_average_is_frozen() -> None:
    point = next(p for p in planned(checkpoints=[SHORT, LONG], steps=2) if p.labels["t"] == 0.5)
    assert point.inputs["perturbation"] == {
        "protocol": "interpolation/1",
        "second": {
            "weights": Catalogue().suite("tiny").checkpoints[5].weights_sha256,
            "config": point.inputs["checkpoint"]["config"],
        },
        "t": 0.5,
        "arithmetic": "fp64",
        "buffers": "first",
    }
    assert point.identity == "18eb539e2a26fba4ce0ef08b3f489b22ddd81fcc1282564385377c5ebb273d15"


def test_the_ends_are_the_unperturbed_measurements_of_all_other_experiment_types() -> None:
    noise = parse({"kind": "gaussian_perturbation", "gammas": [0.1], "draws": 1})
    bases = {p.identity for p in noise.plan(Catalogue()) if p.labels["gamma"] == 0}
    assert {p.identity for p in planned() if p.labels["between"] is None} == bases


def test_lines_join_consecutive_checkpoints_of_a_seed_and_equal_tokens_of_two() -> None:
    points = planned(steps=2)
    middles = [p.labels for p in points if p.labels["t"] == 0.5]
    along = [p for p in middles if p["between"].startswith("checkpoints")]
    across = [p for p in middles if not p["between"].startswith("checkpoints")]
    assert len(along) == 8
    assert all(p["tokens"] < p["to_tokens"] for p in along)
    assert {p["between"] for p in along} == {
        f"checkpoints of pre-training seed {n}" for n in (0, 1)
    }
    assert len(across) == 5
    assert all(p["tokens"] == p["to_tokens"] and "seed1" in p["to_revision"] for p in across)
    assert {p["between"] for p in across} == {"pre-training seeds 0 and 1"}
    assert len({p.identity for p in points}) == len(points) == 10 + 13
    stages = [p.priority_stage for p in planned(steps=4, pairs=["seeds"])][10:13]
    assert stages == [2, 1, 2], "the middle of a line comes first"


def test_a_suite_of_one_seed_has_no_lines_between_seeds_and_says_so() -> None:
    spec = parse({"kind": "interpolation", "suite": "tiny-constant"})
    assert len(list(spec.plan(Catalogue()))) == 15 + 14 * 7
    (warning,) = spec.warnings(Catalogue())
    assert warning.startswith("pairs: no two pre-training seeds")
    with pytest.raises(SpecError, match="are a pair") as refused:
        list(parse({**spec.model_dump(), "pairs": ["seeds"]}).plan(Catalogue()))
    assert refused.value.field == "pairs"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 3}, "steps\n.*must be even.*2 or 4"),
        ({"steps": 0}, "greater"),
        ({"pairs": []}, "at least"),
    ],
)
def test_a_field_out_of_range_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse({"kind": "interpolation", **fields})


def test_checkpoints_whose_tensors_differ_are_refused_with_the_tensor() -> None:
    suite = Catalogue().suite("tiny")
    chosen = [c for c in suite.checkpoints if c.revision in (SHORT, LONG)]

    def refusal(*shapes: dict[str, tuple[int, ...]], tied: bool = False, **fields: Any) -> str:
        layouts = [Layout(architecture="gpt_neox", tied=tied, tensors=shape) for shape in shapes]
        named = [
            c.model_copy(update={"layout_sha256": layout.sha256, **fields})
            for c, layout in zip(chosen, layouts, strict=True)
        ]
        odd = suite.model_copy(update={"checkpoints": named})

        class Odd(Catalogue):
            def suite(self, name: str, field: str = "suite") -> Suite:
                return odd.with_layouts({layout.sha256: layout for layout in layouts})

        with pytest.raises(SpecError) as refused:
            list(parse({"kind": "interpolation", "pairs": ["checkpoints"]}).plan(Odd()))
        assert refused.value.field == "checkpoints"
        return refused.value.message

    embedding = {"gpt_neox.embed_in.weight": (64, 32)}
    assert "of shape 64 × 32 in one and of shape 65 × 32 in the other" in refusal(
        embedding, {"gpt_neox.embed_in.weight": (65, 32)}
    )
    assert "extra.weight is missing in one and of shape 2 in the other" in refusal(
        embedding, {**embedding, "gpt_neox.extra.weight": (2,)}
    )


def test_a_checkpoint_of_another_size_or_of_unknown_tokens_is_refused() -> None:
    suite = Catalogue().suite("tiny")

    def refusal(**fields: Any) -> str:
        changed = [
            c.model_copy(update=fields) if c.revision == LONG else c for c in suite.checkpoints
        ]

        class Odd(Catalogue):
            def suite(self, name: str, field: str = "suite") -> Suite:
                return suite.model_copy(update={"checkpoints": changed})

        with pytest.raises(SpecError) as refused:
            list(parse({"kind": "interpolation", "checkpoints": [SHORT, LONG]}).plan(Odd()))
        assert refused.value.field == "checkpoints"
        return refused.value.message

    assert "they have 46,592 and 1,000 parameters" in refusal(num_parameters=1000)
    assert "The tokens of" in refusal(tokens=None)


# ---- numbers


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[MeasurementRow]:
    spec = Interpolation(checkpoints=[SHORT, LONG, OTHER], steps=4)
    return measured(spec, Context(tmp_path_factory.mktemp("artefacts")))  # type: ignore[arg-type]


def loss_by_torch(weights: dict[str, torch.Tensor], folder: Path) -> float:
    """The loss of these weights on the first 64 rows of the held-out text, in plain torch."""
    from ucurve.modeling.token_data import tokens_of

    model = GPTNeoXForCausalLM(GPTNeoXConfig(**json.loads((folder / "config.json").read_text())))
    missing, _ = model.load_state_dict(weights, strict=False)
    assert not [name for name in missing if "weight" in name]
    entry = json.loads((BUILTIN / "datasets.json").read_text())[0]
    entry["parameters"]["rows"] = 64
    tokens = tokens_of(Dataset.model_validate(entry), None, Path("."), lambda *_: None).view(-1, 64)
    with torch.inference_mode():
        logits = model.eval()(tokens).logits.double().log_softmax(-1)[:, :-1]
    return -logits.gather(-1, tokens[:, 1:, None]).mean().item()


def test_losses_on_a_line_equal_those_of_plain_torch(rows: list[MeasurementRow]) -> None:
    folders = [BUILTIN / "suites" / "tiny" / name for name in (SHORT, LONG)]
    a, b = (load_file(folder / "model.safetensors") for folder in folders)
    for row in rows:
        if row.labels["to_revision"] != LONG:
            continue
        t = row.labels["t"]
        between = {name: ((1 - t) * a[name].double() + t * b[name].double()).float() for name in a}
        assert row.metrics["nll_mean"] == pytest.approx(
            loss_by_torch(between, folders[0]), abs=1e-6
        )
    assert sum(row.labels["to_revision"] == LONG for row in rows) == 3


def test_both_ends_of_a_line_equal_the_plain_evaluation_bit_by_bit(
    rows: list[MeasurementRow], tmp_path: Path
) -> None:
    spec = Interpolation(checkpoints=[SHORT, LONG], steps=2)
    point = list(spec.plan(Catalogue()))[-1]
    dataset = dict(point.artifacts["dataset"])
    dataset["parameters"] = {**dataset["parameters"], "rows": 64}
    context = Context(tmp_path)
    for t, revision in ((0.0, SHORT), (1.0, LONG)):
        inputs = {**point.inputs, "perturbation": {**point.inputs["perturbation"], "t": t}}
        end = replace(point, inputs=inputs, artifacts={**point.artifacts, "dataset": dataset})
        plain = next(
            row for row in rows
            if row.labels["revision"] == revision and row.labels["between"] is None
        )  # fmt: skip
        assert list(spec.run(end, context).series["window_nll"]) == plain.series["window_nll"]


def test_a_result_says_how_far_apart_the_ends_are_and_what_was_not_moved(
    rows: list[MeasurementRow],
) -> None:
    inside = [row.metrics for row in rows if row.labels["between"]]
    assert len({metrics["distance"] for metrics in inside}) == 2
    assert all(0.5 < metrics["distance"] < 10 for metrics in inside)
    assert {metrics["buffers_differing"] for metrics in inside} == {0.0}


# ---- barriers


def line(losses: Any, **fields: Any) -> Line:
    losses = np.asarray(losses, dtype=float)
    t = np.linspace(0, 1, len(losses))
    place = {"between": "pre-training seeds 0 and 1", "first": "a", "second": "b"}
    place |= {"tokens": 1e6, "to_tokens": 1e6, "t": t, "losses": losses}
    return Line(**{**place, "done": np.ones(len(t), dtype=bool), **fields})


def test_the_barrier_is_the_highest_point_over_the_chord_with_its_place(
    rows: list[MeasurementRow],
) -> None:
    for found in lines(to_frame(rows)):
        means = found.losses.mean(axis=1)
        chord = (1 - found.t) * means[0] + found.t * means[-1]
        over = (means - chord)[1:-1]
        height = barrier(found)
        assert height.value == pytest.approx(over.max(), abs=1e-12)
        assert height.t == found.t[1:-1][over.argmax()]
        assert height.interval[0] < height.value < height.interval[1]
        assert gain(found).value == pytest.approx(min(means[0], means[-1]) - means[2], abs=1e-12)


def test_a_flat_line_has_a_barrier_or_a_better_average_no_oftener_than_the_level() -> None:
    rng = np.random.default_rng(0)
    wrong = np.zeros(2)
    covered = 0
    for _ in range(1500):
        text = rng.gamma(2.0, 0.5, 32)  # skewed: what a block has in common
        noise = rng.gamma(1.0, 0.01, (9, 32)) - 0.01
        wiggle = np.cumsum(noise, axis=0) / 3  # neighbours on the line are correlated
        wiggle -= np.linspace(0, 1, 9)[:, None] * wiggle[-1]
        flat = line(text + wiggle)
        height = barrier(flat)
        wrong += [height.p_value < 0.05, gain(flat).p_value < 0.05]
        covered += height.interval[0] <= 0 <= height.interval[1]
    assert (wrong / 1500 < 0.065).all(), wrong / 1500
    assert covered / 1500 > 0.935


def test_a_bump_is_a_barrier_a_bowl_is_none_and_its_average_is_better() -> None:
    rng = np.random.default_rng(1)
    t = np.linspace(0, 1, 9)[:, None]
    for sign, answers in ((1, ("yes", "no")), (-1, ("no", "yes"))):
        losses = 3 + sign * t * (1 - t) + rng.normal(0, 0.01, (9, 32))
        table = to_frame(rows_of(losses))
        found = {v.claim: v.answer for v in Interpolation().verdicts(table) if not v.is_summary}
        assert (found[BARRIER], found[AVERAGE]) == answers


def rows_of(losses: Any) -> list[MeasurementRow]:
    """Rows of one line between two checkpoints."""
    num, rows = len(losses), []
    for i, blocks in enumerate(losses):
        t, inside = i / (num - 1), 0 < i < num - 1
        labels = {
            "suite": "s", "replicate": 0, "phase": None, "step": None,
            "revision": "b" if i == num - 1 else "a", "tokens": 1e6 * (1 + (i == num - 1)),
            "t": t if inside else 0.0, "to_tokens": 2e6 if inside else None,
            "between": "checkpoints of pre-training seed 0" if inside else None,
            "to_revision": "b" if inside else None,
        }  # fmt: skip
        rows.append(
            MeasurementRow(
                id=i, identity=str(i), position=i, state="done", labels=labels,
                metrics={"nll_mean": float(np.mean(blocks))},
                series={"window_nll": [63 * x for x in blocks], "window_tokens": [63.0] * 32},
            )
        )  # fmt: skip
    return rows


@pytest.mark.parametrize("broken", ["open", "nan"])
def test_a_line_with_a_missing_or_broken_loss_is_undetermined_and_says_where(broken: str) -> None:
    rows = rows_of(np.full((5, 32), 3.0) + np.arange(32))
    if broken == "open":
        rows[2] = rows[2].model_copy(update={"state": "open", "metrics": {}, "series": {}})
    else:
        series = {**rows[2].series, "window_nll": [None] * 32}
        rows[2] = rows[2].model_copy(update={"metrics": {"nll_mean": math.nan}, "series": series})
    verdicts = Interpolation().verdicts(to_frame(rows))
    assert {verdict.answer for verdict in verdicts} == {"undetermined"}
    words = {"open": "1 of 5 positions", "nan": "t = 0.5 is not finite"}[broken]
    assert any(words in verdict.sentence for verdict in verdicts)
    figures = Interpolation().figures(to_frame(rows))
    kinds = {row["what"] for row in figures["loss"].datasets["curves"]}
    assert {"open": "waiting", "nan": "edge"}[broken] in kinds
    json.dumps([figure.vega_lite() for figure in figures.values()], allow_nan=False)


def test_p_values_are_corrected_over_all_lines(rows: list[MeasurementRow]) -> None:
    verdicts = Interpolation().verdicts(to_frame(rows))
    single = [v for v in verdicts if not v.is_summary]
    assert len(single) == 4
    assert all("over 2 lines" in verdict.test for verdict in single)
    assert {v.scope for v in verdicts if v.is_summary} == {
        "between consecutive checkpoints",
        "between pre-training seeds 0 and 1",
    }


def test_a_figure_has_a_line_per_pair_with_its_ends_and_bands(rows: list[MeasurementRow]) -> None:
    table = to_frame(rows)
    figures = Interpolation().figures(table)
    means = [r for r in figures["excess"].datasets["curves"] if r["what"] == "mean"]
    assert [r["t"] for r in means if r["to_revision"] == LONG] == [0, 0.25, 0.5, 0.75, 1]
    assert all(r["y"] == 0 for r in means if r["t"] in (0, 1))
    (found,) = [one for one in lines(table) if one.second == LONG]
    half = 2.36462 * found.excess.std(axis=1, ddof=1) / math.sqrt(8)
    inside = [r for r in means if r["to_revision"] == LONG][1:-1]
    for row, width in zip(inside, half, strict=True):
        assert (row["high"] - row["low"]) / 2 == pytest.approx(width, rel=1e-3)
    heights = figures["barrier"].datasets["curves"]
    assert [r["tokens"] for r in heights] == [14336000, 894976]


# ---- a lab


def test_a_line_goes_through_a_lab_to_figures_and_verdicts(lab: Lab) -> None:
    spec = {"kind": "interpolation", "checkpoints": [SHORT, OTHER], "steps": 2}
    id = lab.client.submit(spec).id
    assert lab.client.wait(id, timeout=120).state == "done"
    answers = {v.claim: v.answer for v in lab.client.verdicts(id) if not v.is_summary}
    assert answers == {BARRIER: "yes", AVERAGE: "no"}
    assert lab.client.figures(id).keys() >= {"loss", "excess", "barrier", "average"}


def test_panels_that_were_opened_empty_draw_their_first_results(page: Page, lab: Lab) -> None:
    ahead = lab.client.submit({"kind": "slow_count", "to": [100_000], "step_seconds": 0.05}).id
    until(lambda: lab.client.experiment(ahead).state == "running")
    spec = {"kind": "interpolation", "checkpoints": [SHORT, LONG, OTHER], "steps": 2}
    id = lab.client.submit(spec, remeasure=True).id
    page.goto(f"/experiment?id={id}")
    figure = chart(page)
    assert marks(figure) == 0
    lab.client.cancel(ahead)
    until(lambda: marks(figure) == 6, seconds=90)


def test_a_lab_refuses_what_is_no_line_at_its_field(lab: Lab) -> None:
    spec = {"kind": "interpolation", "checkpoints": [SHORT]}
    with pytest.raises(RequestRejectedError) as refused:
        lab.client.plan(spec)
    assert "pairs" in str(refused.value.problem)
