"""Quantisation: rounding against numpy, what a result names, plans, and a golden number."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Context
from numpy.typing import NDArray
from pydantic import ValidationError
from test_kinds import Catalogue
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.weight_changes import conditions, matrix_rows, prepared, with_intervals
from ucurve.experiments import parse
from ucurve.experiments.quantisation import Quantisation
from ucurve.modeling import perturb
from ucurve.modeling.changed_matrices import changed
from ucurve.modeling.quantisation import Rounding
from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.layouts import layout_in
from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, SpecError

GOLDEN = {
    32.0: 2.5415366588627903,
    2.0: 6.2928435098017665,
    3.0: 2.854462464125679,
    8.0: 2.541896810911278,
}
FORMS = [
    *(Rounding(bits, "row", None, True) for bits in range(2, 9)),
    *(Rounding(bits, "row", None, False) for bits in (2, 3, 8)),
    Rounding(4, "tensor"),
    Rounding(3, "tensor", None, False),
    Rounding(4, "group", 16),
    Rounding(4, "group", 7, False),
    Rounding(2, "group", 1000),
]


def rounded_by_numpy(matrix: NDArray[np.float32], form: Rounding) -> NDArray[np.float64]:
    """Round block by block in a loop, with numpy's own rounding to even halves."""
    columns = matrix.shape[-1]
    flat = matrix.astype(np.float64).reshape(-1, columns)
    if form.granularity == "tensor":
        blocks = [flat.reshape(-1)]
    else:
        size = columns if form.granularity == "row" else min(form.group_size or columns, columns)
        blocks = [row[i : i + size] for row in flat for i in range(0, columns, size)]
    done = []
    for block in blocks:
        if not np.any(block):
            done.append(block)
        elif form.symmetric:
            step = np.abs(block).max() / (2 ** (form.bits - 1) - 1)
            done.append(np.rint(block / step) * step)
        else:
            low, high = min(block.min(), 0.0), max(block.max(), 0.0)
            step = (high - low) / (2**form.bits - 1)
            zero = np.rint(-low / step)
            codes = np.clip(np.rint(block / step) + zero, 0, 2**form.bits - 1)
            done.append((codes - zero) * step)
    rounded: NDArray[np.float64] = np.concatenate(done).reshape(matrix.shape)
    return rounded


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# ---- the arithmetic


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("shape", [(12, 48), (5, 33), (1, 9), (3, 4, 10)])
def test_rounding_equals_independent_code(form: Rounding, shape: tuple[int, ...]) -> None:
    weights = matrix(*shape)
    rounded = form("w", weights).numpy()
    expected = rounded_by_numpy(weights.numpy(), form)
    np.testing.assert_allclose(rounded, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_weight_moves_by_more_than_a_step_and_a_block_has_as_many_levels_as_bits(
    form: Rounding,
) -> None:
    weights = matrix(6, 4096)
    rounded = form("w", weights)
    spread = (weights.amax(1) - weights.amin(1)).max().item()
    assert (rounded - weights).abs().max().item() <= spread / (2**form.bits - 2) + 1e-6
    for row in rounded[:, : form.block_size(weights)]:
        assert len(row.unique()) <= 2**form.bits


def test_halves_go_to_the_even_level_the_largest_stays_and_zero_stays_zero() -> None:
    row = torch.tensor([[0.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.0]])
    symmetric = Rounding(3)("w", row)  # 7 levels, a step of 1
    assert symmetric.tolist() == [[0.0, 0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 3.0]]
    positive = torch.tensor([[0.0, 0.5, 1.5, 2.5, 6.5, 7.0]])
    assert Rounding(3, symmetric=False)("w", positive).tolist() == [[0.0, 0.0, 2.0, 2.0, 6.0, 7.0]]


def test_a_one_sided_block_uses_all_levels_of_an_asymmetric_range() -> None:
    row = torch.linspace(0, 15, 16)[None]
    assert torch.equal(Rounding(4, symmetric=False)("w", row), row)
    assert len(Rounding(4)("w", row).unique()) == 8, "half of the symmetric levels are negative"


@pytest.mark.parametrize("power", [-120, -20, 20, 120])
@pytest.mark.parametrize("symmetric", [True, False])
def test_tiny_and_huge_blocks_are_rounded_like_any_other(power: int, symmetric: bool) -> None:
    weights, form = matrix(4, 32), Rounding(3, symmetric=symmetric)
    scaled = weights * 2.0**power
    assert torch.equal(form("w", scaled), form("w", weights) * 2.0**power)


def test_the_smallest_and_the_largest_numbers_of_fp32_stay_finite() -> None:
    most, least = torch.finfo(torch.float32).max, 2.0**-149
    for row in ([most, -most, most / 3], [least, 0.0, 3 * least], [most, least, -least]):
        for symmetric in (True, False):
            for bits in (2, 3, 8):
                rounded = Rounding(bits, symmetric=symmetric)("w", torch.tensor([row]))
                assert torch.isfinite(rounded).all(), (row, symmetric, bits)
                assert rounded.abs().max() > 0


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_block_that_is_not_finite_becomes_nan_and_its_neighbours_are_rounded(
    broken: float, symmetric: bool
) -> None:
    weights = matrix(3, 16)
    weights[1, 3] = broken
    form = Rounding(4, "group", 8, symmetric)
    rounded = form("w", weights)
    assert rounded[1, :8].isnan().all()
    rest = torch.ones(3, 16, dtype=torch.bool)
    rest[1, :8] = False
    clean = form("w", torch.nan_to_num(weights, 0.0, 0.0, 0.0))
    assert torch.equal(rounded[rest], clean[rest])


def test_a_block_of_zeros_is_left_as_it_is() -> None:
    weights = matrix(2, 8)
    weights[0] = 0.0
    for symmetric in (True, False):
        assert not Rounding(2, symmetric=symmetric)("w", weights)[0].any()


def test_a_whole_tensor_in_pieces_is_rounded_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = matrix(9, 31)
    whole = [form("w", weights) for form in FORMS]
    monkeypatch.setattr("ucurve.modeling.quantisation.PART", 40)
    assert all(torch.equal(a, form("w", weights)) for a, form in zip(whole, FORMS, strict=True))


# ---- models


def neox(**config: Any) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=32, **config,
        )
    )  # fmt: skip


def test_tied_weights_are_changed_once_and_stay_tied_and_every_bit_comes_back() -> None:
    model = neox(tie_word_embeddings=True)
    model.gpt_neox.embed_in.weight.data[3, 2] = math.nan
    before = {n: p.data.view(torch.int32).clone() for n, p in model.named_parameters()}
    tensors = perturb.select(model, which="matrices", names="canonical")
    with changed(tensors, Rounding(3, "group", 5)) as records:
        head, embedding = model.get_output_embeddings().weight, model.gpt_neox.embed_in.weight
        assert head.data_ptr() == embedding.data_ptr()
        assert len(records) == 1 + 4 * 2
        assert not any("norm" in name or "bias" in name for name in records)
        for name, parameter in model.named_parameters():
            same = torch.equal(parameter.data.view(torch.int32), before[name])
            assert same == (parameter.dim() < 2), name
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.data.view(torch.int32), before[name]), name


def test_a_record_says_what_was_changed_and_which_groups_were_really_used() -> None:
    wide = torch.tensor([[4.0, 1.0, 0.2, 4.0, 0.1], [0.0, 0.0, 0.0, 0.0, 3.0]])
    with changed({"w": wide}, Rounding(2, "group", 3)) as records:
        after = wide.clone()
    record = records["w"]
    assert after.tolist() == [[4.0, 0.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0, 3.0]]
    assert record.numbers == [0.7, 0.3, record.relative_change, 2.0, 5.0, 3.0, 2.0]
    assert record.relative_change == pytest.approx(math.sqrt(1.05 / 42.05))
    with changed({"w": wide}, Rounding(8, "group", 64)) as records:
        assert records["w"].block_size == 5, "a row has no more"


def test_an_error_while_changed_restores_the_weights() -> None:
    weights = matrix(3, 5)
    before = weights.clone()
    with pytest.raises(KeyError), changed({"w": weights}, Rounding(2)):
        raise KeyError
    assert torch.equal(weights, before)


# ---- plans


def planned(**fields: Any) -> list[Point]:
    return list(parse({"kind": "quantisation", **fields}).plan(Catalogue()))


def test_the_identity_of_a_rounding_is_frozen() -> None:
    point = planned(bits=[3])[1]
    assert point.inputs["perturbation"] == {
        "protocol": "quantisation/1",
        "bits": 3,
        "granularity": "row",
        "group_size": None,
        "symmetric": True,
        "range": "largest_magnitude",
        "halves": "even",
        "arithmetic": "fp64",
        "tensors": {
            "which": "matrices",
            "include": [],
            "exclude": [],
            "group": None,
            "names": "canonical",
        },
    }
    assert point.identity == "8b66378f15140b924826837c08d324904c631c357d74593b35fb7a542f76d79b"


def test_the_unperturbed_loss_is_that_of_all_other_experiment_types() -> None:
    noise = parse({"kind": "gaussian_perturbation", "gammas": [0.1], "draws": 1})
    bases = {p.identity for p in noise.plan(Catalogue()) if p.labels["gamma"] == 0}
    own = {p.identity for p in planned() if p.labels["scheme"] is None}
    assert own == bases


def test_a_group_size_counts_for_groups_only() -> None:
    rows = [{p.identity for p in planned(group_size=size)} for size in (32, 64)]
    assert rows[0] == rows[1]
    groups = [
        {p.identity for p in planned(granularities=["group"], group_size=size)} for size in (32, 64)
    ]
    assert len(groups[0] & groups[1]) == 10, "only the unperturbed ones are the same"


def test_every_granularity_and_range_is_a_panel_of_its_own() -> None:
    points = planned(granularities=["group", "tensor", "row"], ranges="both", bits=[4, 2, 4])
    schemes = list(dict.fromkeys(p.labels["scheme"] for p in points))
    assert schemes == [
        None,
        *(
            f"per {unit}, {words}"
            for unit, words in itertools.product(
                ("tensor", "row", "group of 32"), ("symmetric", "asymmetric")
            )
        ),
    ]
    assert len(points) == 10 * (1 + 6 * 2)
    assert len({point.identity for point in points}) == len(points)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"bits": [1]}, "bits"),
        ({"bits": [9]}, "bits"),
        ({"bits": []}, "bits"),
        ({"granularities": ["column"]}, "granularities"),
        ({"group_size": 1}, "group_size"),
        ({"ranges": "signed"}, "ranges"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse({"kind": "quantisation", **fields})
    assert refused.value.errors()[0]["loc"][0] == name


def test_a_pattern_that_matches_no_matrix_is_refused_with_the_nearest_names(
    tmp_path: Path,
) -> None:
    suite = Catalogue().suite("tiny")
    layout = layout_in(BUILTIN / "suites" / "tiny" / suite.checkpoints[0].revision, tmp_path)
    assert layout
    named = [c.model_copy(update={"layout_sha256": layout.sha256}) for c in suite.checkpoints]
    suite = suite.model_copy(update={"checkpoints": named}).with_layouts({layout.sha256: layout})

    class Named(Catalogue):
        def suite(self, name: str, field: str = "suite") -> Suite:
            return suite

    def points(pattern: str) -> list[Point]:
        return list(parse({"kind": "quantisation", "include": [pattern]}).plan(Named()))

    assert points("*.attention.*")
    with pytest.raises(SpecError, match="matches none") as refused:
        points("*attn*")
    assert refused.value.field == "include/0"
    with pytest.raises(SpecError, match="No tensor"):
        points("*norm*")


def test_a_worker_refuses_rules_of_a_later_release() -> None:
    inputs = dict(planned(bits=[3])[1].inputs["perturbation"])
    for name, value in {"protocol": "quantisation/2", "halves": "up", "range": "mse"}.items():
        with pytest.raises(ValueError, match=f"does not know .*{name}.*upgrade"):
            Rounding.of({**inputs, name: value})


# ---- numbers


def measured(spec: Quantisation, context: Context, rows: int = 64) -> list[MeasurementRow]:
    """Measure a plan in this process, on the first rows of the built-in text."""
    found = []
    for i, point in enumerate(spec.plan(Catalogue())):
        dataset = dict(point.artifacts["dataset"])
        dataset["parameters"] = {**dataset["parameters"], "rows": rows}
        few = Point(point.inputs, point.labels, {**point.artifacts, "dataset": dataset})
        result = spec.run(few, context)
        found.append(
            MeasurementRow(
                id=i, identity=point.identity, position=i, state="done", labels=dict(point.labels),
                metrics=dict(result.metrics), series={k: list(v) for k, v in result.series.items()},
            )
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[MeasurementRow]:
    context = Context(tmp_path_factory.mktemp("artefacts"))
    checkpoints = [c.revision for c in Catalogue().suite("tiny").checkpoints if c.tokens][:5]
    spec = Quantisation(bits=[2, 3, 8], checkpoints=checkpoints)
    return measured(spec, context)


def test_the_golden_numbers_of_three_bits_per_row(rows: list[MeasurementRow]) -> None:
    last = [r for r in rows if r.labels["tokens"] == 14336000]
    losses = {r.labels["bits"]: r.metrics["nll_mean"] for r in last}
    assert losses == pytest.approx(GOLDEN, abs=1e-6)


def test_a_loss_after_rounding_equals_that_of_a_model_rounded_by_numpy(
    rows: list[MeasurementRow],
) -> None:
    from safetensors.torch import load_file

    from ucurve.modeling.token_data import tokens_of

    found = next(r for r in rows if r.labels["bits"] == 3 and r.labels["tokens"] == 894976)
    folder = BUILTIN / "suites" / "tiny" / found.labels["revision"]
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**json.loads((folder / "config.json").read_text())))
    state = {
        name: torch.from_numpy(rounded_by_numpy(w.float().numpy(), Rounding(3)).astype(np.float32))
        if w.dim() == 2
        else w.float()
        for name, w in load_file(next(folder.glob("*.safetensors"))).items()
    }
    missing, _ = model.load_state_dict(state, strict=False)
    assert not [name for name in missing if "weight" in name]
    entry = json.loads((BUILTIN / "datasets.json").read_text())[0]
    entry["parameters"]["rows"] = 64
    tokens = tokens_of(Dataset.model_validate(entry), None, Path("."), lambda *_: None).view(-1, 64)
    with torch.inference_mode():
        logits = model.eval()(tokens).logits.double().log_softmax(-1)[:, :-1]
    loss = -logits.gather(-1, tokens[:, 1:, None]).mean().item()
    assert found.metrics["nll_mean"] == pytest.approx(loss, abs=1e-6)


def test_a_result_names_every_matrix_with_its_numbers(rows: list[MeasurementRow]) -> None:
    row = next(r for r in rows if r.labels["bits"] == 2)
    names = sorted(name for name in row.series if name.startswith("matrix/"))
    assert len(names) == row.metrics["num_matrices"] > 2
    assert any("embed_in" in name for name in names)
    assert not any("norm" in name or "bias" in name for name in names)
    for name in names:
        zeros, share, change, num_rows, columns, block, last = row.series[name]
        assert 0 < zeros < 1
        assert 0 < share <= 1
        assert 0 < change < 1
        assert block == last == columns > 1
        assert num_rows > 1
    assert 0 < row.metrics["zeros"] < 1
    cells = matrix_rows(prepared(to_frame(rows), "bits"), "bits")
    assert {cell["bits"] for cell in cells} == {2.0, 3.0, 8.0}


# ---- verdicts over blocks


def test_blocks_of_windows_are_the_replicates_and_the_increase_is_paired(
    rows: list[MeasurementRow],
) -> None:
    spec = Quantisation(bits=[2, 3, 8])
    table = to_frame(rows)
    families = conditions(table, "bits", spec.level_text)
    ((scheme, replicate), levels), *others = families.items()
    assert not others
    assert (scheme, replicate, len(levels)) == ("per row, symmetric", 0, 3)
    for condition in levels:
        assert condition.losses.shape == condition.base.shape == (5, 8)
        measured_loss = [
            r.metrics["nll_mean"] for r in rows if r.labels["bits"] == condition.labels["bits"]
        ]
        np.testing.assert_allclose(np.sort(condition.losses.mean(1)), np.sort(measured_loss))
        np.testing.assert_array_equal(condition.loss_increase, condition.losses - condition.base)
    verdicts = spec.verdicts(table)
    grown = next(
        v for v in verdicts
        if v.claim == "progressive sensitivity" and v.scope.startswith("2 bits")
    )  # fmt: skip
    assert grown.answer == "yes"
    assert grown.num_draws == 8
    assert grown.draw_name == "blocks of evaluation windows"
    assert all(verdict.more_draws is None for verdict in verdicts), "there is nothing to draw"
    assert not any("more blocks" in verdict.sentence for verdict in verdicts)


def test_a_line_has_the_band_of_its_paired_blocks(rows: list[MeasurementRow]) -> None:
    spec = Quantisation(bits=[2, 3, 8])
    table = to_frame(rows)
    figure = spec.figures(table, spec.verdicts(table))["loss_change"]
    condition = conditions(table, "bits", spec.level_text)["per row, symmetric", 0][0]
    half = 2.36462 * condition.loss_increase.std(axis=1, ddof=1) / math.sqrt(8)
    means = [r for r in figure.datasets["curves"] if r["what"] == "mean" and r["bits"] == 2]
    for row, mean, width in zip(means, condition.loss_increase.mean(1), half, strict=True):
        assert row["y"] == pytest.approx(mean)
        assert (row["high"] - row["low"]) / 2 == pytest.approx(width, rel=1e-3)
    assert "There are no draws" in figure.caption
    bands = with_intervals([], prepared(table, "bits"), "bits", np.asarray)
    assert bands == []


def test_a_loss_that_is_not_finite_is_worst_and_never_dropped(rows: list[MeasurementRow]) -> None:
    broken = []
    for row in rows:
        if row.labels["bits"] == 2 and row.labels["tokens"] == 14336000:
            series = {**row.series, "window_nll": [None] * len(row.series["window_nll"])}
            row = row.model_copy(update={"metrics": {"nll_mean": math.nan}, "series": series})
        broken.append(row)
    verdicts = Quantisation(bits=[2, 3, 8]).verdicts(to_frame(broken))
    found = [v for v in verdicts if v.scope.startswith("2 bits")]
    assert found
    assert {v.num_nonfinite for v in found} == {8}
    assert Quantisation(bits=[2, 3, 8]).figures(to_frame(broken))


def test_a_point_without_losses_by_window_counts_as_not_measured(
    rows: list[MeasurementRow],
) -> None:
    bare = [
        row.model_copy(update={"series": {}}) if row.labels["bits"] == 3 else row for row in rows
    ]
    verdicts = Quantisation(bits=[2, 3, 8]).verdicts(to_frame(bare))
    answers = {v.answer for v in verdicts if v.scope.startswith("3 bits")}
    assert answers == {"undetermined"}
