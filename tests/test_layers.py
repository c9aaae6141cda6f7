"""Noise layer by layer: parts of every architecture, the plan, one number, and the heat map."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vl_convert
from in_process import Context
from safetensors.torch import load_file
from scipy.stats import t as student
from test_gaussian_perturbation import (
    EXAMPLE,
    FEW,
    Catalogue,
    model_of,
    paper,
    planned,
    published,
    real,
)
from test_gaussian_perturbation_figures import table_of

from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.modeling.perturb import standard_normal
from ucurve.modeling.token_data import tokens_of
from ucurve.registry.suites import Suite
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.registry.tensors.tensor_selection import Selection, depth_of, part_of, parts_in
from ucurve.spec import Point, SpecError

__all__ = ["published", "real"]  # fixtures

RECORDED = json.loads((Path(__file__).parent / "tensor_names/5.24.0.json").read_text())
TWO = ["layer 0", "layer 1"]


def layout_of(architecture: str) -> Layout:
    recorded = RECORDED[architecture]
    return Layout(
        architecture=architecture, tied=recorded["tied"] or None, tensors=recorded["file"]
    )


def suite_of(layout: Layout) -> Suite:
    checkpoints = [
        c.model_copy(update={"layout_sha256": layout.sha256}) for c in paper().checkpoints
    ]
    return paper(checkpoints=checkpoints).with_layouts({layout.sha256: layout})


NEOX = suite_of(layout_of("gpt_neox"))


# ---- parts of a model


@pytest.mark.parametrize("architecture", RECORDED)
def test_every_architecture_divides_into_embedding_layers_final_norm_and_unembedding(
    architecture: str,
) -> None:
    tensors = layout_of(architecture).parameters
    parts = parts_in(tensors)
    layers = [part for part in parts if part.startswith("layer ")]
    assert layers == [f"layer {i}" for i in range(len(layers))]
    assert len(layers) >= 2
    assert parts[0] == "embedding"
    assert "outside layers" not in parts
    norms = [] if architecture in ("olmo", "openai-gpt") else ["final norm"]
    assert [part for part in parts if "norm" in part] == (
        ["embedding norm", "final norm"] if architecture == "bloom" else norms
    )
    divided = [name for part in parts for name in Selection(part=part).of(tensors, 2)]
    assert sorted(divided) == sorted(t.canonical for t in tensors), "each tensor in one part"
    for part in ("embedding", "unembedding"):
        assert Selection(part=part).of(tensors, 2) == Selection(group=part).of(tensors, 2)


def test_parts_are_ordered_by_depth_and_not_by_letters() -> None:
    names = ["embed_out.weight", "gpt_neox.final_layer_norm.bias", "gpt_neox.embed_in.weight"]
    names += [f"gpt_neox.layers.{i}.mlp.dense_h_to_4h.bias" for i in (10, 2, 0)]
    tensors = Layout(
        architecture="gpt_neox", tied=False, tensors=dict.fromkeys(names, (4, 4))
    ).parameters
    expected = ["embedding", "layer 0", "layer 2", "layer 10", "final norm", "unembedding"]
    assert parts_in(tensors) == expected
    assert sorted(sorted(expected), key=depth_of) == expected
    assert {part_of(tensor) for tensor in tensors} == set(expected)


# ---- the plan


def test_layers_add_points_and_leave_identities() -> None:
    without = planned(NEOX, by_group=True)
    points = planned(NEOX, by_group=True, by_layer=True)
    known = {p.identity for p in without}
    assert known < {p.identity for p in points}
    added = [p for p in points if p.identity not in known]
    assert {(p.labels["scale"], p.labels["group"]) for p in added} == {
        *itertools.product(("current_std", "init_std"), TWO),
        ("current_std", "final norm"),
    }, "embedding and unembedding are groups too; norms do not vary at initialisation"
    assert {p.labels["gamma"] for p in added} == {0.2}, "the middle one"
    parts = {p.labels["group"]: p.inputs["perturbation"]["tensors"] for p in added}
    assert parts["layer 1"] == {
        "which": "all", "include": [], "exclude": [], "group": None, "part": "layer 1"
    }  # fmt: skip
    assert len({p.identity for p in points}) == len(points)
    spec = GaussianPerturbation(**{**EXAMPLE, "by_group": True, "by_layer": True})
    assert spec.count(Catalogue([NEOX])) == len(points)
    alone = planned(NEOX, by_layer=True, scale="matched_displacement", group_gamma=0.7)
    cells = {(p.labels["group"], p.labels["gamma"]) for p in alone if p.labels["gamma"]}
    assert cells == {
        *itertools.product(["all"], EXAMPLE["gammas"]),
        *itertools.product(["embedding", *TWO, "unembedding"], [0.7]),
    }
    assert {p.labels["group"] for p in planned(NEOX, by_layer=True, include=["*layers.1.*"])} == {
        None, "all", "layer 1"
    }  # fmt: skip


def test_one_layer_is_remarked_and_unknown_layers_are_refused() -> None:
    recorded = RECORDED["gpt_neox"]["file"]
    one = suite_of(
        Layout(
            architecture="gpt_neox",
            tied=False,
            tensors={name: shape for name, shape in recorded.items() if ".1." not in name},
        )
    )
    spec = GaussianPerturbation(suite="paper", by_layer=True)
    assert spec.warnings(Catalogue([NEOX])) == []
    (warning,) = spec.warnings(Catalogue([one]))
    assert warning.startswith("by_layer: paper has one layer among its selected tensors")
    (warning,) = spec.model_copy(update={"include": ["*embed*"]}).warnings(Catalogue([NEOX]))
    assert warning.startswith("by_layer: paper has no numbered layer among its selected tensors")
    for plan in (lambda: planned(by_layer=True), lambda: spec.count(Catalogue([paper()]))):
        with pytest.raises(SpecError, match="are not known yet, and with them its layers") as error:
            plan()
        assert error.value.field == "by_layer"


# ---- one number


def test_the_loss_with_noise_on_one_layer_is_what_numpy_and_a_plain_loop_give(
    published: tuple[Suite, Context],
) -> None:
    suite, context = published
    fields = {"gammas": [0.5], "draws": 2, "by_layer": True, "scale": "all"}

    def point_of(**labels: Any) -> Point:
        return next(p for p in planned(suite, **fields) if labels.items() <= p.labels.items())

    folder = context.artefacts / "suites/published"
    initial = load_file(folder / "step0/model.safetensors")
    state = load_file(folder / "step20/model.safetensors")
    layer = {name: w.double().numpy() for name, w in state.items() if ".layers.0." in name}
    eps = {
        name: standard_normal(1, name, w.size).double().numpy().reshape(w.shape)
        for name, w in layer.items()
    }
    matrices = [name for name, w in layer.items() if w.ndim > 1]
    assert 0 < len(matrices) < len(layer)
    length, noise = (
        math.sqrt(sum(float(np.square(values[name]).sum()) for name in matrices))
        for values in (layer, eps)
    )
    sigmas = {
        "current_std": {name: float(np.std(w)) for name, w in layer.items()},
        "init_std": {name: float(np.std(initial[name].double().numpy())) for name in layer},
        "matched_displacement": dict.fromkeys(matrices, length / noise),
    }
    rows = tokens_of(FEW, None, context.artefacts).view(40, 64)
    for scale, sigma in sigmas.items():
        changed = {
            n: torch.from_numpy(layer[n] + 0.5 * s * eps[n]).float() for n, s in sigma.items()
        }
        weights = {**state, **changed}
        weights["lm_head.weight"] = weights.pop("embed_out.weight")
        model = model_of(0)
        model.load_state_dict(weights)
        model.eval()
        with torch.no_grad():
            log_p = model(rows).logits[:, :-1].double().log_softmax(-1)
        expected = -float(log_p.gather(-1, rows[:, 1:, None]).mean())
        point = point_of(revision="step20", scale=scale, draw=1, group="layer 0")
        found = GaussianPerturbation.run(point, context).metrics
        assert found["nll_mean"] == pytest.approx(expected, rel=1e-5), scale
        if scale == "matched_displacement":
            assert found["relative_change"] == pytest.approx(0.5, rel=1e-6), "of its layer"


# ---- the figures


def increase(labels: dict[str, Any]) -> float:
    """The loss increase in nats that the table below has."""
    size = {"layer 0": 0.0, "layer 1": 0.1}.get(labels["group"], 0.02)
    return size * labels["tokens"] / 1e6 + 0.01 * (labels["draw"] - 2)


def loss(labels: dict[str, Any]) -> float | None:
    where = labels["group"], labels["tokens"]
    if not labels["gamma"] or labels["group"] == "all":
        return 3.0
    if where == ("embedding", 2_000_000):
        return None
    if where == ("layer 1", 8_000_000) and labels["draw"] == 4:
        return math.inf
    if where == ("layer 1", 1_000_000) and labels["draw"]:
        return None
    return 3.0 + increase(labels)


def drawn(**fields: Any) -> tuple[GaussianPerturbation, list[Point]]:
    fields = {"by_layer": True, "scale": "all", **fields}
    return GaussianPerturbation(**{**EXAMPLE, **fields}), planned(NEOX, **fields)


def test_cells_have_the_mean_with_its_interval_or_say_why_not() -> None:
    spec, points = drawn()
    figures = spec.figures(table_of(points, loss))
    cells = figures["by_layer"].datasets["cells"]
    assert len(cells) == 3 * 2 * 4 * 5, "scales, pre-training seeds, checkpoints, parts"

    def cell(part: str, tokens: int, scale: str = "init_std") -> dict[str, Any]:
        where = {"part": part, "tokens": tokens, "scale": scale, "replicate": 1}
        [found] = [c for c in cells if where.items() <= c.items()]
        return found

    labels = {"group": "layer 1", "tokens": 4_000_000}
    values = [increase({**labels, "draw": draw}) for draw in range(5)]
    settled = cell("layer 1", 4_000_000)
    assert settled["y"] == pytest.approx(np.mean(values))
    half = student.ppf(0.975, 4) * np.std(values, ddof=1) / math.sqrt(5)
    with_text = (settled["high"] - settled["low"]) / 2
    assert with_text > half, "the evaluation text has an error too"
    assert (settled["mark"], settled["label"]) == ("0.4", f"0.4 ±{with_text:.2g}")
    assert settled["num_draws"] == 5
    unsettled = cell("layer 0", 4_000_000)
    assert (unsettled["low"], unsettled["high"]) == pytest.approx((-half, half)), "none on zero"
    assert unsettled["mark"] == "±"
    assert unsettled["label"].endswith(f"±{half:.2g}, includes 0")
    single = cell("layer 1", 1_000_000)
    assert (single["low"], single["high"], single["mark"]) == (None, None, "(0.08)")
    assert single["label"] == "0.08 (one noise seed: no interval)"
    marks = {
        ("embedding", 2_000_000, "init_std"): "…",
        ("layer 1", 8_000_000, "init_std"): "∞",
        ("final norm", 1_000_000, "init_std"): "–",
        ("final norm", 1_000_000, "matched_displacement"): "–",
    }
    for place, mark in marks.items():
        assert (cell(*place)["y"], cell(*place)["mark"]) == (None, mark)
    assert cell("final norm", 1_000_000, "current_std")["y"] is not None
    table = figures["by_layer_table"].datasets["cells"]
    texts = {c["label"] for c in table if c["part"] == "layer 1" and c["scale"] == "init_std"}
    assert texts == {"(0.08)", "0.2 ±0.065", f"0.4 ±{with_text:.2g}", "∞"}


def test_the_heat_map_is_readable_without_colour_from_nothing_to_everything() -> None:
    spec, points = drawn()
    for table in (table_of(points, loss)[:0], table_of(points, lambda labels: None)):
        for name in ("by_layer", "by_layer_table"):
            figure = spec.figures(table)[name]
            json.dumps(figure.datasets, allow_nan=False)
            vl_convert.vegalite_to_svg(figure.vega_lite())
    figures = spec.figures(table_of(points, loss))
    for name in ("by_layer", "by_layer_table"):
        svg = vl_convert.vegalite_to_svg(figures[name].vega_lite())
        texts = re.findall(r">([^<>]+)</text>", svg)
        first = texts.index("embedding")
        assert texts[first : first + 5] == ["embedding", *TWO, "final norm", "unembedding"]
        assert {"(0.08)", "∞", "…", "–"} <= set(texts)
    svg = vl_convert.vegalite_to_svg(figures["by_layer"].vega_lite())
    texts = re.findall(r">([^<>]+)</text>", svg)
    cells = figures["by_layer"].datasets["cells"]
    for mark in ("±", "0.16", "∞"):
        assert texts.count(mark) == sum(c["mark"] == mark for c in cells), mark
    assert "loss increase / nats" in texts, "the colour bar"
    bar = [float(text) for text in texts[texts.index("loss increase / nats") - 20 :]
           if re.fullmatch(r"0\.\d+", text)]  # fmt: skip
    assert len(set(bar)) > 3


def test_groups_and_layers_do_not_mix() -> None:
    spec, points = drawn(by_group=True)
    figures = spec.figures(table_of(points, loss))
    lines = {row.get("group") for row in figures["by_group"].datasets["curves"]}
    assert not {*TWO, "final norm"} & lines
    parts = {cell["part"] for cell in figures["by_layer"].datasets["cells"]}
    assert parts == {"embedding", *TWO, "final norm", "unembedding"}
    assert "by_layer" not in GaussianPerturbation(**EXAMPLE).figures(table_of(planned(), loss))


def test_a_cell_of_one_noise_seed_is_not_marked_as_unsettled_over_gammas() -> None:
    spec = GaussianPerturbation(**{**EXAMPLE, "draws": 1})
    figures = spec.figures(table_of(planned(draws=1), lambda labels: 3.0 + labels["gamma"]))
    svg = vl_convert.vegalite_to_svg(figures["heat_map"].vega_lite())
    assert svg.count(">±<") == 0
