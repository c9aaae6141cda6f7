"""Pruning: masks against numpy, what a result names, plans, and a golden number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Context
from numpy.typing import NDArray
from pydantic import ValidationError
from test_kinds import Catalogue
from test_quantisation import matrix, measured

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse
from ucurve.experiments.pruning import Pruning as PruningSpec
from ucurve.modeling.changed_matrices import changed
from ucurve.modeling.pruning import Pruning, smallest_of_all
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point

GOLDEN: dict[tuple[str | None, float], float] = {
    (None, 0.0): 2.5415366588627903,
    ("per tensor", 0.5): 3.2157094051640125,
    ("global", 0.5): 3.1816530688924507,
    ("2:4", 0.5): 3.4935094727025855,
}
FIELDS = {"sparsities": [0.5], "scopes": ["tensor", "global"], "patterns": ["2:4"]}
Floats = NDArray[np.float32]


def change(scope: str, **fields: Any) -> dict[str, Any]:
    """The inputs of a pruning, as the plan writes them."""
    values = {"sparsity": None, "kept": None, "of": None, **fields}
    return {
        "protocol": "pruning/1", "criterion": "magnitude", "scope": scope,
        "count": "half_to_even", "ties": "first_removed", **values,
    }  # fmt: skip


def pruned(tensors: dict[str, torch.Tensor], **fields: Any) -> dict[str, Floats]:
    with changed(tensors, Pruning.of(change(**fields), tensors)):
        return {name: tensor.numpy().copy() for name, tensor in tensors.items()}


def without_smallest(values: Floats, num: int) -> Floats:
    """Sort all weights by magnitude, first ones first, and set `num` to zero."""
    flat = values.reshape(-1).copy()
    flat[np.argsort(np.abs(flat), kind="stable")[:num]] = 0
    return flat.reshape(values.shape)


# ---- the masks


@pytest.mark.parametrize("sparsity", [0.0001, 0.1, 0.3, 0.5, 0.77, 0.9999])
def test_masks_per_tensor_and_of_all_equal_independent_code(sparsity: float) -> None:
    tensors = {"b": matrix(7, 31), "a": matrix(4, 5, 6, seed=1) * 3}
    own = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    for name, after in pruned(tensors, scope="tensor", sparsity=sparsity).items():
        expected = without_smallest(own[name], round(sparsity * own[name].size))
        np.testing.assert_array_equal(after, expected)
    together = np.concatenate([own["a"].ravel(), own["b"].ravel()])
    expected = without_smallest(together, round(sparsity * together.size))
    after = pruned(tensors, scope="global", sparsity=sparsity)
    np.testing.assert_array_equal(
        np.concatenate([after["a"].ravel(), after["b"].ravel()]), expected
    )


@pytest.mark.parametrize(("kept", "block"), [(2, 4), (1, 4), (4, 8), (1, 2), (3, 7)])
def test_n_of_m_equals_a_loop_over_blocks(kept: int, block: int) -> None:
    weights = matrix(5, 26)
    own = weights.numpy().copy()
    after = pruned({"w": weights}, scope="blocks", kept=kept, of=block)["w"]
    for row, found in zip(own, after, strict=True):
        for i in range(0, 26, block):
            part = row[i : i + block]
            np.testing.assert_array_equal(
                found[i : i + block], without_smallest(part, max(0, len(part) - kept))
            )


def test_of_equal_magnitudes_the_first_goes_and_a_constant_matrix_loses_its_share() -> None:
    weights = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, 1.0]])
    assert pruned({"w": weights}, scope="tensor", sparsity=0.5)["w"].tolist() == [
        [0.0, 0.0, 0.0, -1.0, 2.0, 1.0]
    ]
    after = pruned({"w": weights}, scope="blocks", kept=1, of=2)["w"]
    assert after.tolist() == [[0.0, -1.0, 0.0, -1.0, 2.0, 0.0]]
    flat = {"b": torch.ones(2, 3), "a": torch.ones(2, 2)}
    masks = smallest_of_all(flat, 0.6)
    assert masks["a"].all(), "the order is that of names"
    assert masks["b"].tolist() == [[True, True, False], [False, False, False]]


@pytest.mark.parametrize("scope", ["tensor", "global", "blocks"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_stays_and_brings_no_nan_to_others(
    scope: str, broken: float
) -> None:
    weights = matrix(3, 8)
    weights[1, 2] = broken
    fields = {"kept": 2, "of": 4} if scope == "blocks" else {"sparsity": 0.5}
    after = pruned({"w": weights}, scope=scope, **fields)["w"]
    assert not np.isfinite(after[1, 2])
    after[1, 2] = 1.0
    assert np.isfinite(after).all()
    assert (after == 0).sum() == 12


@pytest.mark.parametrize("power", [-130, -20, 20, 120])
def test_tiny_and_huge_blocks_lose_the_same_weights(power: int) -> None:
    weights = matrix(4, 16)
    scaled = weights * 2.0**power
    for fields in ({"scope": "tensor", "sparsity": 0.3}, {"scope": "blocks", "kept": 1, "of": 4}):
        ours, theirs = (pruned({"w": w}, **fields)["w"] for w in (weights, scaled))
        np.testing.assert_array_equal(ours == 0, theirs == 0)
        kept = theirs != 0
        np.testing.assert_array_equal(theirs[kept], scaled.numpy()[kept])


def test_a_record_says_how_sparse_each_matrix_became_under_a_global_share() -> None:
    tensors = {"small": matrix(6, 6) * 0.01, "large": matrix(6, 6, seed=1)}
    with changed(tensors, Pruning.of(change("global", sparsity=0.5), tensors)) as records:
        pass
    assert records["small"].zeros > 0.9 > 0.1 > records["large"].zeros
    assert sum(record.zeros for record in records.values()) == pytest.approx(1.0)
    with changed(tensors, Pruning.of(change("blocks", kept=2, of=4), tensors)) as records:
        pass
    small = records["small"]
    assert (small.block_size, small.last_block, small.zeros) == (4, 2, pytest.approx(1 / 3))


# ---- plans


def planned(**fields: Any) -> list[Point]:
    return list(parse({"kind": "pruning", **fields}).plan(Catalogue()))


def test_the_identities_of_prunings_are_frozen() -> None:
    points = planned(**FIELDS)[1:4]
    tensors = {
        "which": "matrices", "include": [], "exclude": [], "group": None, "names": "canonical",
    }  # fmt: skip
    assert [point.inputs["perturbation"] for point in points] == [
        {**change("tensor", sparsity=0.5), "tensors": tensors},
        {**change("global", sparsity=0.5), "tensors": tensors},
        {**change("blocks", kept=2, of=4), "tensors": tensors},
    ]
    assert [point.labels["scheme"] for point in points] == ["per tensor", "global", "2:4"]
    assert [point.identity[:16] for point in points] == IDENTITIES


IDENTITIES = ["b539d2d74d468d65", "0c73026cde303f69", "776768fcc9cec95d"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sparsities": [1.0]}, "less than 1"),
        ({"sparsities": [0.0]}, "greater than 0"),
        ({"patterns": ["4:4"]}, "removes nothing"),
        ({"patterns": ["2-4"]}, "pattern"),
        ({"patterns": ["0:4"]}, "pattern"),
        ({"scopes": []}, "at least one of either"),
        ({"scopes": ["row"]}, "tensor"),
    ],
)
def test_a_field_out_of_range_is_refused_with_the_remedy(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        parse({"kind": "pruning", **fields})


def test_a_worker_refuses_rules_of_a_later_release() -> None:
    for name, value in {"protocol": "pruning/2", "criterion": "gradient", "ties": "random"}.items():
        with pytest.raises(ValueError, match=f"does not know .*{name}.*upgrade"):
            Pruning.of({**change("tensor", sparsity=0.5), name: value}, {})


# ---- numbers


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[MeasurementRow]:
    context = Context(tmp_path_factory.mktemp("artefacts"))
    checkpoints = [c.revision for c in Catalogue().suite("tiny").checkpoints if c.tokens][:5]
    spec = PruningSpec.model_validate({**FIELDS, "checkpoints": [checkpoints[0], checkpoints[4]]})
    return measured(spec, context)


def test_the_golden_numbers_of_half_of_the_weights(rows: list[MeasurementRow]) -> None:
    losses = {
        (r.labels["scheme"], r.labels["sparsity"]): r.metrics["nll_mean"]
        for r in rows
        if r.labels["tokens"] == 14336000
    }
    assert losses == pytest.approx(GOLDEN, abs=1e-6)


def test_a_result_names_the_sparsity_of_every_matrix(rows: list[MeasurementRow]) -> None:
    for row in rows:
        zeros = [series[0] for name, series in row.series.items() if name.startswith("matrix/")]
        if row.labels["scheme"] in ("per tensor", "2:4"):
            assert zeros == pytest.approx([0.5] * len(zeros), abs=1e-3)
        elif row.labels["scheme"] == "global":
            assert max(zeros) > 0.55 > 0.45 > min(zeros)
        else:
            assert not zeros
            continue
        assert row.metrics["zeros"] == pytest.approx(0.5, abs=1e-4)


def test_figures_and_verdicts_name_scheme_and_share(rows: list[MeasurementRow]) -> None:
    spec = PruningSpec.model_validate(FIELDS)
    verdicts = spec.verdicts(to_frame(rows))
    assert {v.scope for v in verdicts if v.is_summary} >= {"per tensor", "global", "2:4"}
    assert any(v.scope == "50% pruned, 2:4, pre-training seed 0" for v in verdicts)
    figures = spec.figures(to_frame(rows), verdicts)
    labels = {cell["label"] for cell in figures["matrices"].datasets["cells"]}
    assert any(label.endswith("50.0% · 4") for label in labels)
