"""Formats of a quantisation library: plans, decoding by hand, bounds, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch
from in_process import Context
from test_kinds import Catalogue
from test_quantisation import measured

from ucurve.experiments import parse
from ucurve.experiments.quantisation import Quantisation
from ucurve.modeling.library_formats import LibraryFormat, UnusableFormatError
from ucurve.registry import library_formats
from ucurve.registry.suites import Suite
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.spec import Point, SpecError

FIRST, LAST = "seed0-step437-tokens894976", "seed0-step7000-tokens14336000"
BOTH = ["torchao_int8", "torchao_int4"]
INT8, INT4 = LibraryFormat("int8", 8, None), LibraryFormat("int4", 4, 32)


def planned(**fields: Any) -> list[Point]:
    spec = {"kind": "quantisation", "bits": [4, 8], "formats": BOTH, **fields}
    return list(parse(spec).plan(Catalogue()))


def decoded_by_hand(weights: np.ndarray, bits: int, size: int) -> np.ndarray:
    """What the documentation says: steps of 2 max / (2^bits - 1), codes -2^(bits-1) and up."""
    blocks = weights.astype(np.float64).reshape(-1, size)
    step = 2 * np.abs(blocks).max(axis=1, keepdims=True) / (2**bits - 1)
    codes = np.round(blocks / np.where(step > 0, step, 1))
    codes = np.clip(codes, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes * step).reshape(weights.shape)


# ---- numbers


@pytest.mark.parametrize("format", [INT8, INT4])
def test_weights_are_those_of_independent_code_to_within_a_step_and_nearly_all_equal(
    format: LibraryFormat,
) -> None:
    weights = torch.randn(48, 96, generator=torch.Generator().manual_seed(0)) * 0.05
    found = format("w", weights).numpy()
    size = format.group_size or 96
    expected = decoded_by_hand(weights.numpy(), format.bits, size)
    step = 2 * np.abs(weights.numpy().reshape(-1, size)).max(axis=1).repeat(size).reshape(48, 96)
    step = step / (2**format.bits - 1)
    assert (np.abs(found - expected) <= step * 1.001).all()  # formats differ by a step at halves
    # Of every block the largest weight is at a half, and may go either way.
    assert (np.abs(found - expected) <= step * 1e-4).mean() > 0.98


def test_four_bits_move_the_largest_weight_by_half_a_step_where_the_reference_keeps_it() -> None:
    weights = torch.linspace(-0.5, 1.0, 32).view(1, 32)
    found = INT4("w", weights)
    assert float(weights.max() - found.max()) == pytest.approx(0.5 * 2 / 15, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "format", "words"),
    [
        (torch.ones(2, 33), INT4, "no groups of 32"),
        (torch.full((2, 32), math.nan), INT8, "not finite"),
        (torch.full((2, 32), 1e-9), INT8, "error of"),  # its scale has a floor of 1.2e-7
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(
    weights: torch.Tensor, format: LibraryFormat, words: str
) -> None:
    with pytest.raises(UnusableFormatError, match=f"lm_head.*{words}"):
        format("lm_head", weights)


def test_zeros_huge_weights_and_three_dimensions_survive() -> None:
    weights = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    weights[0, 0] = 0
    weights[1, 2] *= 1e30
    found = INT4("w", weights)
    assert found.shape == weights.shape
    assert not found[0, 0].any()
    assert found.isfinite().all()


@pytest.mark.parametrize(("broken", "word"), [("decoded", "decodes"), ("codes", "encodes")])
def test_a_library_that_decodes_or_encodes_wrongly_is_caught(
    broken: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = LibraryFormat._coded

    def off(self: LibraryFormat, rows: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
        decoded, codes, scale = coded(self, rows, size)
        if broken == "decoded":
            return decoded.roll(1, 0), codes, scale
        return decoded + 2 * scale, codes.short() + 2, scale

    monkeypatch.setattr(LibraryFormat, "_coded", off)
    weights = torch.randn(4, 32, generator=torch.Generator().manual_seed(2))
    with pytest.raises(UnusableFormatError, match=f"{word} w in int8"):
        INT8("w", weights)


# ---- plans


def test_formats_are_further_changes_with_the_library_in_their_identity() -> None:
    points = planned(checkpoints=[LAST])
    plain = planned(checkpoints=[LAST], formats=[])
    assert {p.identity for p in plain} < {p.identity for p in points}
    formats = [p for p in points if "torchao" in (p.labels["scheme"] or "")]
    assert [(p.labels["bits"], p.labels["scheme"]) for p in formats] == [
        (8.0, "torchao int8, per row"),
        (4.0, "torchao int4, per group of 32"),
    ]
    change = dict(formats[1].inputs["perturbation"])
    assert change.pop("tensors")["which"] == "matrices"
    assert change == {
        "protocol": "library_format/1", "library": "torchao", "version": "0.18.0",
        "format": "int4", "bits": 4, "group_size": 32, "device": "cpu",
    }  # fmt: skip
    assert Quantisation(formats=BOTH).count(Catalogue()) == len(planned(bits=[2, 3, 4, 8]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "words"), [(None, "is not installed: pip install"), ("0.9.0", "0.9.0 is installed")]
)
def test_a_library_that_is_missing_or_another_is_refused_with_the_remedy(
    version: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", installed)
    with pytest.raises(SpecError, match=words) as refused:
        planned()
    assert refused.value.field == "formats"
    change = {"protocol": "library_format/1", "library": "torchao", "version": "0.18.0"}
    with pytest.raises(UnusableFormatError, match=r"pip install 'ucurve\[worker\]'"):
        LibraryFormat.of(
            {**change, "format": "int8", "bits": 8, "group_size": None, "device": "cpu"}
        )


def test_an_api_without_torch_says_what_workers_need(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Quantisation(formats=["torchao_int8"])
    assert not spec.warnings(Catalogue())
    monkeypatch.setattr(library_formats.importlib.util, "find_spec", lambda name: None)
    assert list(spec.plan(Catalogue()))
    (warning,) = spec.warnings(Catalogue())
    assert "workers need torchao 0.18.0" in warning


def test_rows_that_are_no_groups_are_refused_in_the_plan() -> None:
    shapes = {
        "gpt_neox.embed_in.weight": (64, 33),
        "gpt_neox.layers.0.mlp.dense_h_to_4h.bias": (33,),
    }
    layout = Layout(architecture="gpt_neox", tied=False, tensors=shapes)

    class Known(Catalogue):
        def suite(self, name: str, field: str = "suite") -> Suite:
            suite = super().suite(name, field)
            update = {"layout_sha256": layout.sha256}
            known = [c.model_copy(update=update) for c in suite.checkpoints]
            named = suite.model_copy(update={"checkpoints": known})
            return named.with_layouts({layout.sha256: layout})

    spec = Quantisation(formats=["torchao_int4"])
    with pytest.raises(SpecError, match="has rows of 33 weights, which are no groups") as refused:
        list(spec.plan(Known()))
    assert refused.value.field == "exclude"
    assert list(Quantisation(formats=["torchao_int8"]).plan(Known()))


# ---- a measurement


def test_a_result_names_every_matrix_with_the_group_size_really_used(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    spec = Quantisation(bits=[4], formats=BOTH, checkpoints=[FIRST])  # type: ignore[arg-type]
    rows = measured(spec, Context(tmp_path_factory.mktemp("artefacts")))
    by_scheme = {r.labels["scheme"]: r for r in rows}
    plain = by_scheme["per row, symmetric"]
    for scheme, size in (("torchao int8, per row", None), ("torchao int4, per group of 32", 32)):
        row = by_scheme[scheme]
        matrices = {n: v for n, v in row.series.items() if n.startswith("matrix/")}
        assert matrices.keys() == {n for n in plain.series if n.startswith("matrix/")}
        assert len(matrices) == row.metrics["num_matrices"] == 10
        assert all(v[5] == (size or v[4]) for v in matrices.values())
    base, int8 = by_scheme[None].metrics["nll_mean"], by_scheme["torchao int8, per row"]
    assert int8.metrics["nll_mean"] == pytest.approx(base, abs=2e-3)
    assert by_scheme["torchao int4, per group of 32"].metrics["nll_mean"] != base


# ---- the library in a worker's process

WORKER = """
import json, logging, sys
from ucurve.modeling.preload import preload
preload()
import peft, torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.utils import is_torchao_available
from ucurve.modeling.library_formats import LibraryFormat
shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
config = GPTNeoXConfig(num_hidden_layers=1, vocab_size=64, **shape)
def adapted():
    lora = peft.LoraConfig(r=2, target_modules=["query_key_value"])
    return peft.get_peft_model(GPTNeoXForCausalLM(config), lora).merge_and_unload()
def loaded():
    return sum(name.split(".")[0] == "torchao" and bool(sys.modules[name]) for name in sys.modules)
adapted()
before, others = loaded(), is_torchao_available()
LibraryFormat("int4", 4, 32)("w", torch.ones(2, 32))
adapted()
print(json.dumps([before, others, loaded()]))
"""


def test_a_worker_imports_the_library_for_formats_alone_and_silently() -> None:
    assert metadata.version("torchao") == library_formats.VERSION
    process = subprocess.run(
        [sys.executable, "-c", WORKER], capture_output=True, text=True, check=True
    )
    before, others, after = json.loads(process.stdout)
    assert (before, others) == (0, False), "transformers or peft imported torchao"
    assert after > 10
    assert "torchao" not in process.stderr
    assert "_pytree" not in process.stderr
