"""Names that public checkpoints give their tensors: understood, or refused with what to run.

Beside each case stands the public place that shows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from ucurve.modeling.checkpoints import load
from ucurve.modeling.parameter_names import expect_stored_names, parameters_of
from ucurve.modeling.trial import try_checkpoint
from ucurve.registry import hashing
from ucurve.registry.layouts import layout_in
from ucurve.registry.suites import Checkpoint, Location
from ucurve.registry.tensors.tensor_names import named_tensors
from ucurve.registry.tensors.wrapped_names import expect_plain_names

Tensors = dict[str, torch.Tensor]
NEW = json.loads((Path(__file__).parent / "tensor_names/5.24.0.json").read_text())
SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32,
}  # fmt: skip


def neox() -> PreTrainedModel:
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES))


def llama(tied: bool = False) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=96, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    )


@pytest.fixture(autouse=True)
def readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_MODELS", str(tmp_path))


def registered(model: PreTrainedModel, folder: Path, tensors: Tensors) -> Checkpoint:
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    location = Location(scheme="path", path=str(folder))
    return hashing.resolve(Checkpoint(suite="s", revision="r", location=location), folder)


def stored(model: PreTrainedModel) -> Tensors:
    """The tensors as save_pretrained writes them, a tied one under the name of the embedding."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    return tensors


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new, 1): value for name, value in tensors.items()}


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: value for name, value in tensors.items()}


WRAPPED: list[tuple[Callable[[Tensors], Tensors], str]] = [
    # rasbt/LLMs-from-scratch issue 580, DLLXW/baby-llama2-chinese issue 34
    (prefixed("_orig_mod."), "'_orig_mod' of torch.compile"),
    # huggingface/pytorch-image-models pull request 2003
    (prefixed("_orig_mod.module."), "'_orig_mod' of torch.compile"),
    (renamed("layers.0.", "layers.0._orig_mod."), "'_orig_mod' of torch.compile"),
    # facebookresearch/ijepa issue 34
    (prefixed("module."), "'module' of data parallelism"),
    # pytorch/pytorch, names under FSDP and activation checkpointing
    (prefixed("_fsdp_wrapped_module."), "of FSDP"),
    (renamed("layers.0.", "layers.0._checkpoint_wrapped_module."), "activation checkpointing"),
    # huggingface/transformers issue 9209
    (prefixed("model."), "'model' of Lightning"),
    # huggingface/trl, AutoModelForCausalLMWithValueHead
    (prefixed("pretrained_model."), "the value head of TRL"),
    # huggingface/peft, a state_dict before merge_and_unload
    (prefixed("base_model.model."), "an adapter that was not merged: model.merge_and_unload()"),
    (renamed("dense.weight", "dense.base_layer.weight"), "merge_and_unload()"),
]


@pytest.mark.parametrize(("change", "reason"), WRAPPED, ids=range(len(WRAPPED)))
def test_a_wrapper_s_names_are_refused_at_registration_with_the_remedy(
    tmp_path: Path, change: Callable[[Tensors], Tensors], reason: str
) -> None:
    model = neox()
    assert reason in (registered(model, tmp_path / "a", change(stored(model))).unresolved or "")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        # meta-llama/llama, model.py
        ("layers.0.attention.wq.weight", "convert_llama_weights_to_hf.py"),
        # allenai/OLMo, the repositories whose name does not end in -hf
        ("model.transformer.blocks.0.att_proj.weight", "convert_olmo_to_hf_new.py"),
        # huggingface/accelerate, FSDP with LOCAL_STATE_DICT
        ("_flat_param", "FULL_STATE_DICT"),
        # Lightning-AI/litgpt, model.py
        ("transformer.h.0.norm_1.weight", "litgpt convert_from_litgpt"),
    ],
)
def test_another_program_s_names_are_refused_at_registration(
    tmp_path: Path, name: str, remedy: str
) -> None:
    checkpoint = registered(llama(), tmp_path / "a", {name: torch.zeros(96, 16)})
    assert remedy in (checkpoint.unresolved or "")


@pytest.mark.parametrize("architecture", NEW)
def test_no_architecture_of_the_library_is_taken_for_a_wrapper(architecture: str) -> None:
    recorded = NEW[architecture]
    expect_plain_names(list(recorded["file"]))
    expect_plain_names(recorded.get("library", []))


LEFT_OUT: list[tuple[Callable[[], PreTrainedModel], str]] = [
    # huggingface/transformers issues 38870 and 41038: of tied tensors, the first name is kept
    (lambda: llama(tied=True), "model.embed_tokens.weight"),
    (gpt2, "transformer.wte.weight"),
]


@pytest.mark.parametrize(("make", "embedding"), LEFT_OUT, ids=["llama", "gpt2"])
def test_a_tied_embedding_stored_as_the_unembedding_is_the_embedding(
    tmp_path: Path, make: Callable[[], PreTrainedModel], embedding: str
) -> None:
    model = make()
    tensors = renamed(embedding, "lm_head.weight")(stored(model))
    checkpoint = registered(model, tmp_path / "a", tensors)
    assert checkpoint.unresolved is None
    loaded = load(checkpoint, "cpu", tmp_path).model
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in loaded.named_parameters())
    layout = layout_in(tmp_path / "a")
    assert layout
    names = {tensor.canonical for tensor in layout.parameters}
    assert names == {tensor.canonical for tensor in parameters_of(loaded)}
    expect_stored_names(loaded, layout)


def test_the_embedding_of_every_tied_architecture_is_found_behind_its_unembedding() -> None:
    for architecture, recorded in NEW.items():
        whole = {t.canonical for t in named_tensors(recorded["file"], architecture, True)}
        head = {
            "lm_head.weight" if "embed" in name or name.endswith((".wte.weight", ".w.weight"))
            else name: shape
            for name, shape in recorded["file"].items()
            if shape[:1] != [64] and "position" not in name and "wpe" not in name
        }  # fmt: skip
        found = {t.canonical for t in named_tensors(head, architecture, True)}
        assert found <= whole, architecture


EXTRA: list[Tensors] = [
    # huggingface/trl, weights of a value head
    {"v_head.summary.weight": torch.ones(1, 16), "v_head.summary.bias": torch.ones(1)},
    # lucidrains/ema-pytorch, an average beside the model
    {"ema.model.norm.weight": torch.ones(16), "ema.lm_head.weight": torch.ones(96, 16)},
    # huggingface/transformers pull request 24650: tables of rotary embeddings of older releases
    {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
]


@pytest.mark.parametrize("extra", EXTRA, ids=["value-head", "average", "rotary"])
def test_what_is_saved_beside_the_model_is_not_planned(tmp_path: Path, extra: Tensors) -> None:
    model = llama()
    checkpoint = registered(model, tmp_path / "a", {**stored(model), **extra})
    assert checkpoint.unresolved is None
    try_checkpoint(checkpoint)
    layout = layout_in(tmp_path / "a")
    assert layout
    names = {tensor.canonical for tensor in layout.parameters}
    assert names == {tensor.canonical for tensor in parameters_of(model)}
