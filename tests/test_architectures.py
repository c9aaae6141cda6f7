"""Architectures: random models of many families measure what independent code measures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import architectures
import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from ucurve.modeling.checkpoints import load
from ucurve.modeling.perplexity import window_losses
from ucurve.modeling.regularizers import fisher
from ucurve.modeling.trial import try_checkpoint
from ucurve.registry.tensors.config_words import context_length, initializer_std

# One of each kind; `python benchmarks/architectures.py` compares all of them.
FAMILIES = (
    "bloom", "cohere", "falcon", "falcon_h1", "falcon_mamba", "gemma2", "gpt2", "gpt_neo",
    "gpt_neox", "gptj", "granite", "jamba", "llama", "mamba", "mamba2", "mistral", "mixtral",
    "mpt", "olmo2", "opt",
    "phi", "qwen3", "recurrent_gemma", "rwkv", "stablelm", "xglm", "zamba2",
)  # fmt: skip
EAGER = ("bloom", "falcon_mamba", "gemma2", "gpt_neo", "mamba", "mamba2", "mpt", "rwkv", "xglm")
NO_INITIALIZER = ("recurrent_gemma", "rwkv")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_each_family_measures_what_independent_code_measures(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    result = architectures.compare(family, tmp_path)
    assert max(abs(result.unperturbed), abs(result.noise)) < 1e-6, result
    assert max(abs(result.fine_tuning), abs(result.lora)) < 1e-5, "three steps of AdamW"
    assert (result.attention == "eager") == (family in EAGER), "sdpa wherever it is supported"
    assert (result.initializer is None) == (family in NO_INITIALIZER)
    assert "falling back" not in caplog.text, "the slow path of state-space layers is no news"


@pytest.mark.parametrize("family", ["gemma2", "mamba", "opt"])
def test_an_attention_named_in_the_config_is_never_followed(family: str, tmp_path: Path) -> None:
    folder = tmp_path / family / "step1000"
    architectures.save(family, folder)
    path = folder / "config.json"
    for word in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        path.write_text(json.dumps({**json.loads(path.read_text()), word: "owner/kernels"}))
    model = load(architectures.registered(folder), "cpu", tmp_path).model
    assert model.config._attn_implementation == ("sdpa" if family == "opt" else "eager")


@pytest.mark.parametrize(
    ("family", "code"),
    [("falcon", "modeling_falcon.FalconForCausalLM"), ("mpt", "modeling_mpt.MPTForCausalLM")],
)
def test_code_of_a_repository_is_not_needed_where_the_library_has_the_same_class(
    family: str, code: str, tmp_path: Path
) -> None:
    folder = tmp_path / family / "step1000"
    architectures.save(family, folder)
    (folder / f"{code.split('.')[0]}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    path = folder / "config.json"
    named = {"AutoModelForCausalLM": code, "AutoConfig": f"configuration_{family}.Config"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": named}))
    checkpoint = architectures.registered(folder)
    model = load(checkpoint, "cpu", tmp_path).model
    assert type(model).__module__.startswith("transformers.models.")
    assert try_checkpoint(checkpoint).architecture == type(model).__name__
    assert not (tmp_path / "ran").exists()


def test_rwkv_has_the_same_weights_after_a_forward_pass(tmp_path: Path) -> None:
    """The library would divide those of later layers by powers of two, in place."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 7, "vocab_size": 64, "context_length": 32}
    RwkvForCausalLM(RwkvConfig(**shape)).save_pretrained(tmp_path / "rwkv" / "step1")
    model = load(architectures.registered(tmp_path / "rwkv" / "step1"), "cpu", tmp_path).model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    tokens = torch.randint(64, (48,), generator=torch.Generator().manual_seed(0))
    window_losses(model, tokens, window=16, stride=16)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("family", ["recurrent_gemma", "rwkv"])
def test_a_model_with_a_recurrent_state_is_fine_tuned_after_its_fisher_information(
    family: str, tmp_path: Path
) -> None:
    folder = tmp_path / family / "step1000"
    architectures.save(family, folder)
    model = load(architectures.registered(folder), "cpu", tmp_path).model
    importance = fisher(model, torch.arange(32).view(2, 16))
    assert all(tensor.isfinite().all() for tensor in importance.values())
    run = architectures.FinetuningRun(
        model,
        architectures.build_task(
            {"protocol": "language_modelling/1", "context": 16},
            architectures.LANGUAGE,
            None,
            512,
            tmp_path,
        ),
        architectures.RECIPE,
        {"name": "ewc", "strength": 1.0},
        0,
        importance,
    )
    assert run.run(tmp_path / "state", lambda *args, **metrics: None).summary.steps == 3


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024, "n_ctx": 2048}, 1024),
        ({"n_ctx": 512}, 512),
        ({"seq_length": 2048}, 2048),
        ({"max_seq_len": 4096}, 4096),
        ({"context_length": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
        ({"max_position_embeddings": None, "n_positions": 64}, 64),
        # allenai/OLMo, hf_olmo; databricks/dbrx; THUDM/ChatGLM; QwenLM/Qwen has both words
        ({"max_sequence_length": 2048, "init_std": 0.02}, 2048),
        ({"max_seq_len": 32768, "attn_config": {}}, 32768),
        ({"seq_length": 2048, "max_position_embeddings": 8192}, 8192),
        # baichuan-inc/Baichuan-13B and MoonshotAI/Kimi-Linear (lmstudio-bug-tracker issue 1256)
        ({"model_max_length": 4096}, 4096),
        # turboderp-org/exllamav2 issue 404: of two words, that of the position table
        ({"model_max_length": 131072, "max_position_embeddings": 8192}, 8192),
        # apple/corenet, OpenELM; togethercomputer/stripedhyena
        ({"max_context_length": 2048}, 2048),
        ({"max_seqlen": 8192}, 8192),
        # OpenGVLab/InternVL and deepseek-ai/DeepSeek-VL
        ({"llm_config": {"max_position_embeddings": 32768}}, 32768),
        ({"language_config": {"max_position_embeddings": 4096}}, 4096),
        ({"model_max_length": 10**30}, None),  # rapidsai/crossfit issue 54: no limit, as written
        ({"seq_length": "2048"}, None),
        ({"state_size": 16}, None),
    ],
)
def test_the_context_is_read_under_every_name_that_architectures_give_it(
    config: dict[str, Any], context: int | None
) -> None:
    assert context_length(config) == context


@pytest.mark.parametrize(
    ("config", "std"),
    [
        ({"initializer_range": 0.02}, 0.02),
        ({"init_std": 0.006}, 0.006),
        ({"initializer_std": 1}, 1.0),
        ({"text_config": {"init_std": 0.02}}, 0.02),
        ({"init_method_std": 0.006}, 0.006),  # NVIDIA/Megatron-LM
        ({"init_config": {"init_std": 0.02}}, 0.02),  # mosaicml/llm-foundry, MPT
        ({"init_config": {"init_std": None}}, None),
        ({"initializer_range": 0.0731}, 0.0731),  # Cerebras, BTLM
        ({"initializer_range": 0.0}, None),
        ({"initializer_range": True}, None),
        ({"init_std": float("inf")}, None),
        ({"initializer_range": "0.02"}, None),
        ({"init_xavier_std": 1.0}, None),
    ],
)
def test_the_initialiser_is_read_under_every_name_that_architectures_give_it(
    config: dict[str, Any], std: float | None
) -> None:
    assert initializer_std(config) == std
