"""Names of tensors: one canonical list for every spelling, which no library release can move."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from ucurve.modeling.parameter_names import (
    UnknownNameError,
    expect_stored_names,
    parameters_of,
)
from ucurve.modeling.perturb import standard_normal
from ucurve.registry.tensors.tensor_layout import Layout
from ucurve.registry.tensors.tensor_names import NamedTensor, named_tensors, prefix_of
from ucurve.registry.tensors.tensor_selection import (
    GROUPS,
    Selection,
    group_of,
    nearest,
    protocol,
)

FOLDER = Path(__file__).parent / "tensor_names"
OLD, NEW = (json.loads((FOLDER / f"{v}.json").read_text()) for v in ("4.57.3", "5.24.0"))
# Releases before 5 hold every expert of a mixture as a tensor of its own.
FUSED_SINCE = {a for a in OLD if any(".experts.0." in name for name in OLD[a]["file"])}


def library(recorded: dict[str, Any]) -> list[str]:
    """The names of the parameters in a release; without a record, those of the file it saves."""
    return list(recorded.get("library", recorded["file"]))


def stored(architecture: str, recorded: dict[str, Any]) -> list[NamedTensor]:
    return named_tensors(recorded["file"], architecture, recorded["tied"])


@pytest.mark.parametrize("architecture", NEW)
def test_files_and_library_come_to_the_same_canonical_names(architecture: str) -> None:
    recorded = NEW[architecture]
    tensors = stored(architecture, recorded)
    names = {tensor.canonical for tensor in tensors}
    assert names == {NamedTensor.of(n, architecture, ()).canonical for n in library(recorded)}
    assert {tensor.library for tensor in tensors} == set(library(recorded)), "of gaussian/1"
    prefix = prefix_of(architecture) + "."
    bare = {name.removeprefix(prefix): shape for name, shape in recorded["file"].items()}
    assert {t.canonical for t in named_tensors(bare, architecture, recorded["tied"])} == names


@pytest.mark.parametrize("architecture", OLD)
def test_two_releases_draw_the_same_noise_for_the_same_file(architecture: str) -> None:
    """The golden test of gaussian/2: a renaming of the library moves no stream."""
    old, new = (stored(architecture, recorded[architecture]) for recorded in (OLD, NEW))
    assert {t.canonical for t in old} == {t.canonical for t in new}
    if architecture in FUSED_SINCE:
        return
    loaded = {
        NamedTensor.of(name, architecture, ()).canonical for name in library(OLD[architecture])
    }
    assert loaded == {t.canonical for t in new}


def test_the_unembedding_of_pythia_is_one_stream_under_both_releases() -> None:
    assert "embed_out.weight" in library(OLD["gpt_neox"])
    assert "lm_head.weight" in library(NEW["gpt_neox"])
    streams = [
        standard_normal(0, NamedTensor.of(name, "gpt_neox", ()).canonical, 3).tolist()
        for name in ("embed_out.weight", "lm_head.weight")
    ]
    assert streams[0] == streams[1] == pytest.approx(UNEMBEDDING, abs=1e-7)


# From SHA-256, Philox in whole numbers, and the normal quantile of scipy.
UNEMBEDDING = [0.6757833957, -1.0166972876, 1.2771826982]
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 48),
    "vocab_size": 96, "num_local_experts": 4, "state_size": 8, "pad_token_id": 0,
    "attention_types": [[["global", "local"], 1]], "num_key_value_heads": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    "architecture",
    ["gpt_neox", "gpt2", "llama", "olmo", "opt", "bloom", "gpt_neo", "mamba", "mixtral"],
)
def test_the_installed_library_is_understood(architecture: str) -> None:
    """Fails when a new release renames a tensor: then the table of spellings gets its name."""
    default = AutoConfig.for_model(architecture)
    sizes = {name: value for name, value in SMALL.items() if hasattr(default, name)}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes))
    found = {tensor.canonical for tensor in parameters_of(model)}
    assert found == {t.canonical for t in stored(architecture, NEW[architecture])}, (
        f"transformers {transformers.__version__}"
    )


def test_tied_twins_and_buffers_in_a_file_are_no_parameters() -> None:
    shapes = {**NEW["gpt2"]["file"], "lm_head.weight": [96, 32], "h.0.attn.bias": [1, 1, 64, 64]}
    bare = {name.removeprefix("transformer."): shape for name, shape in shapes.items()}
    names = [t.canonical for t in named_tensors(bare, "gpt2", None)]
    assert names == [t.canonical for t in stored("gpt2", NEW["gpt2"])]
    assert "transformer.wte.weight" in names
    untied = [t.canonical for t in named_tensors(bare, "gpt2", tied=False)]
    assert set(untied) - set(names) == {"lm_head.weight"}
    old = {**NEW["gpt_neox"]["file"], "gpt_neox.layers.0.attention.masked_bias": []}
    old |= {
        "gpt_neox.layers.0.attention.bias": [1],
        "gpt_neox.layers.0.attention.rotary.inv_freq": [4],
    }
    assert len(named_tensors(old, "gpt_neox", False)) == len(NEW["gpt_neox"]["file"])


# ---- groups


def cases() -> Iterator[tuple[str, NamedTensor]]:
    for architecture, recorded in NEW.items():
        for tensor in stored(architecture, recorded):
            yield architecture, tensor


def test_every_tensor_of_every_architecture_has_a_group_and_none_changed_it() -> None:
    for architecture, tensor in cases():
        group = group_of(tensor)
        assert group != "other", f"{architecture}: {tensor.canonical}"
        assert group_of(tensor, 1) in (group, "other"), f"{architecture}: {tensor.canonical}"


@pytest.mark.parametrize(
    ("architecture", "missing"),
    [
        ("gpt_neox", {"mixer"}),
        ("gpt2", {"mixer", "unembedding"}),
        ("olmo", {"mixer", "norm"}),
        ("opt", {"mixer", "unembedding"}),
        ("mamba", {"attention", "mlp", "unembedding"}),
        ("jamba", {"attention"}),
        ("granitemoehybrid", {"attention"}),
    ],
)
def test_groups_are_those_that_the_model_has(architecture: str, missing: set[str]) -> None:
    found = {group_of(tensor) for tensor in stored(architecture, NEW[architecture])}
    assert found == set(GROUPS) - missing - {"other"}


# ---- versions of the protocol


def neox(spelled: str = "embed_out.weight") -> Layout:
    shapes = {
        spelled if name == "embed_out.weight" else name: tuple(shape)
        for name, shape in NEW["gpt_neox"]["file"].items()
    }
    return Layout(architecture="gpt_neox", tied=False, tensors=shapes)


def planned(layout: Layout, **selection: Any) -> str:
    chosen = Selection(**selection)
    return protocol(chosen, layout.parameters, layout.spelled_by_library)


def test_a_version_is_new_only_where_its_number_is() -> None:
    pythia, own = neox(), neox("lm_head.weight")
    assert planned(pythia) == "gaussian/2", "the unembedding has another stream"
    assert planned(own) == "gaussian/1", "as the files of this lab spell it"
    for layout in (pythia, own):
        assert planned(layout, group="attention") == "gaussian/1"
        assert planned(layout, include=["*.mlp.*"]) == "gaussian/1"
        assert planned(layout, exclude=["*lm_head*"]) == "gaussian/1"
        assert planned(layout, exclude=["*embed_out*"]) == "gaussian/2", "version 1 ignores it"
    for architecture, new in (
        ("llama", "gaussian/1"),
        ("opt", "gaussian/1"),
        ("mixtral", "gaussian/2"),
    ):
        assert protocol(Selection(), stored(architecture, NEW[architecture])) == new
    assert protocol(Selection(group="mlp"), stored("opt", NEW["opt"])) == "gaussian/2", (
        "version 1 knew no fc1"
    )


def test_patterns_match_every_spelling_and_version_1_only_the_librarys() -> None:
    tensors = neox().parameters
    for pattern in ("embed_out.weight", "lm_head.weight", "*embed_out*"):
        assert set(Selection(include=[pattern]).of(tensors, 2)) == {"embed_out.weight"}
    assert set(Selection(include=["*lm_head*"]).of(tensors, 1)) == {"lm_head.weight"}
    assert not Selection(include=["*embed_out*"]).of(tensors, 1)
    bare, full = (
        Selection(include=[pattern]).of(tensors, 2)
        for pattern in ("layers.0.mlp.*", "gpt_neox.layers.0.mlp.*")
    )
    assert bare == full
    assert len(full) == 4


def test_the_nearest_names_are_those_one_meant() -> None:
    assert nearest("*embed_ot*", neox().parameters)[0] == "embed_out.weight"
    assert "attention" in nearest("*atention*", neox().parameters)[0]
    assert "fc1" in nearest("*mlp*", stored("opt", NEW["opt"]))[0], "OPT has no such word"
    assert "self_attn" in nearest("*.attention.*", stored("llama", NEW["llama"]))[0]
    assert "c_fc" in nearest("*c_fx*", stored("gpt2", NEW["gpt2"]))[0]


# ---- a later library


class Renamed:
    """A model of a release to come, which has a new name for its unembedding."""

    def __init__(self, model: Any, old: str, new: str) -> None:
        self._model, self._old, self._new = model, old, new

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        for name, parameter in self._model.named_parameters():
            yield name.replace(self._old, self._new), parameter


def test_a_renaming_back_moves_nothing_and_an_unknown_one_is_refused() -> None:
    default = AutoConfig.for_model("gpt_neox")
    sizes = {name: value for name, value in SMALL.items() if hasattr(default, name)}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", **sizes))
    names = [tensor.canonical for tensor in parameters_of(model)]
    back: Any = Renamed(model, "lm_head", "embed_out")
    assert [tensor.canonical for tensor in parameters_of(back)] == names
    assert [tensor.library for tensor in parameters_of(back)] == [
        tensor.library for tensor in parameters_of(model)
    ]
    for layout in (neox(), neox("lm_head.weight")):
        expect_stored_names(model, layout)
        expect_stored_names(back, layout)
        later: Any = Renamed(model, "lm_head", "vocabulary_projection")
        with pytest.raises(UnknownNameError, match=r"calls a tensor vocabulary_projection\.weight"):
            expect_stored_names(later, layout)
