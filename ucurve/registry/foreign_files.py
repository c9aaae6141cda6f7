"""Folders without weights that can be read: what they hold instead, and what to run.

>>> foreign_files(["flax_model.msgpack"]).partition(":")[0]
'weights of Flax (flax_model.msgpack)'
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Kind(NamedTuple):
    """Files that another program wrote."""

    pattern: re.Pattern[str]
    meaning: str
    remedy: str


def _kind(pattern: str, meaning: str, remedy: str) -> Kind:
    return Kind(re.compile(pattern), meaning, remedy)


OLD_TRANSFORMERS = "with transformers 4: AutoModelForCausalLM.from_pretrained(DIR, {}=True)"
SAVE = "load it with the code that wrote it and call model.save_pretrained(DIR)"
ADAPTER = _kind(
    r"adapter_config\.json|adapter_model\.(safetensors|bin)",
    "an adapter without its base model",
    "merge it, AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()"
    ".save_pretrained(NEW_DIR)",
)
KINDS = (
    ADAPTER,
    _kind(
        r"global_step\d+|zero_to_fp32\.py|(bf16_|fp16_)?zero_pp_rank_.*|.*model_states\.pt",
        "a checkpoint of DeepSpeed",
        "run `python zero_to_fp32.py DIR DIR` there and add config.json, or train with "
        "stage3_gather_16bit_weights_on_model_save",
    ),
    _kind(
        r"pytorch_model_fsdp_\d+|.*\.distcp|__\d+_\d+\.distcp",
        "shards of FSDP",
        "run `accelerate merge-weights DIR/pytorch_model_fsdp_0 DIR`, or train with "
        "state_dict_type FULL_STATE_DICT",
    ),
    _kind(
        r"consolidated.*\.(pth|safetensors)",
        "weights as Meta and Mistral publish them",
        "convert them with transformers' convert_llama_weights_to_hf.py or "
        "convert_mistral_weights_to_hf.py",
    ),
    _kind(
        r"mp_rank_\d+.*|model_optim_rng\.pt|layer_\d+-model_\d+.*",
        "a checkpoint of Megatron or GPT-NeoX",
        "convert it with the tool of that library (convert_neox_to_hf.py, tools/checkpoint)",
    ),
    _kind(
        r".*\.gguf",
        "weights of llama.cpp",
        "AutoModelForCausalLM.from_pretrained(DIR, gguf_file=FILE).save_pretrained(NEW_DIR), or "
        "use the model that they were made from: quantised weights are not its weights",
    ),
    _kind(
        r"tf_model.*\.h5|.*\.ckpt\.index",
        "weights of TensorFlow",
        f"{OLD_TRANSFORMERS.format('from_tf')}.save_pretrained(DIR)",
    ),
    _kind(
        r"flax_model.*\.msgpack",
        "weights of Flax",
        f"{OLD_TRANSFORMERS.format('from_flax')}.save_pretrained(DIR)",
    ),
    _kind(r".*\.(ckpt|nemo)", "a checkpoint of Lightning or NeMo", SAVE),
    _kind(r".*\.(onnx|npz|mlmodel|ot)", "an exported model", "use the model it was made from"),
    _kind(
        r"(model|pytorch_model)\.\w+(-\d+-of-\d+)?\.(safetensors|bin)",
        "a variant of the weights",
        "rename it to model.safetensors or pytorch_model.bin",
    ),
    _kind(
        r"(?!(optimizer|scheduler|scaler|rng_state|training_args|random_states|tokenizer)).*"
        r"\.(pt|pth|bin|safetensors)",
        "weights under a name that is not read",
        "rename it to pytorch_model.bin or model.safetensors where it holds the tensors by name "
        f"of a transformers model, else {SAVE}",
    ),
    _kind(
        r"optimizer.*\.(pt|bin)|scheduler\.pt|rng_state.*\.pth|trainer_state\.json"
        r"|training_args\.bin|random_states.*",
        "the state of a trainer without the weights",
        "copy the weights, or save with save_only_model=False",
    ),
)


def foreign_files(names: Iterable[str]) -> str | None:
    """Return what the files are instead of weights, and what to run; None where that is unknown."""
    ordered = sorted(names)
    for kind in KINDS:
        match = next((name for name in ordered if kind.pattern.fullmatch(name)), None)
        if match:
            return f"{kind.meaning} ({match}): {kind.remedy}"
    return None


def is_adapted(names: Iterable[str]) -> bool:
    """Return whether an adapter lies in the folder: the weights beside it are not the model."""
    return any(ADAPTER.pattern.fullmatch(name) for name in names)
