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
    beside: str = ""  # another file without which it is something else
    own_names: bool = False  # of tensors, even where the file is called model.safetensors


def _kind(
    pattern: str, meaning: str, remedy: str, beside: str = "", own_names: bool = False
) -> Kind:
    return Kind(re.compile(pattern), meaning, remedy, beside, own_names)


OLD_TRANSFORMERS = "with transformers 4: AutoModelForCausalLM.from_pretrained(DIR, {}=True)"
SAVE = "load it with the code that wrote it and call model.save_pretrained(DIR)"
STATE = (
    "optim|scheduler|scaler|rng|training_args|random_states|tokenizer|extra_state|recipe_state"
    "|train\\.|common\\.|dataloader"
)  # first letters of what trainers save beside the weights
ADAPTER = _kind(
    r"adapter_config\.json|adapter_model\.(safetensors|bin)",
    "an adapter without its base model",
    "merge it, AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()"
    ".save_pretrained(NEW_DIR)",
)
KINDS = (
    ADAPTER,
    _kind(
        r".*\.(incomplete|crdownload|aria2|part)",
        "a download that has not ended",
        "download it again, and register the suite when it is complete",
    ),
    _kind(
        r"layer_\d+-model_\d+.*|mp_rank_\d+(_\d+)*|model_optim_rng\.pt"
        r"|latest_checkpointed_iteration\.txt",
        "a checkpoint of Megatron or GPT-NeoX",
        "convert it with the tool of that library (convert_neox_to_hf.py, tools/checkpoint)",
    ),
    _kind(
        r"global_step\d+|zero_to_fp32\.py|(bf16_|fp16_)?zero_pp_rank_.*|.*model_states\.pt",
        "a checkpoint of DeepSpeed",
        "run `python zero_to_fp32.py DIR DIR` there and add config.json, or train with "
        "stage3_gather_16bit_weights_on_model_save",
    ),
    _kind(
        r"pytorch_model_fsdp_\d+",
        "shards of FSDP",
        "run `accelerate merge-weights DIR/pytorch_model_fsdp_0 DIR`, or train with "
        "state_dict_type FULL_STATE_DICT",
    ),
    _kind(
        r"model_and_optim",
        "a checkpoint of OLMo-core",
        "run its src/examples/huggingface/convert_checkpoint_to_hf.py",
        own_names=True,
    ),
    _kind(
        r"optim(\.pt|\.safetensors)?",
        "a checkpoint of OLMo",
        "run its scripts/convert_olmo_to_hf_new.py (unshard it first where it is sharded)",
        beside="config.yaml",
        own_names=True,
    ),
    _kind(
        r"checkpoint_metadata\.json",
        "a checkpoint of nanotron",
        "run its examples/llama/convert_nanotron_to_hf.py",
    ),
    _kind(
        r"weights",
        "a checkpoint of NeMo",
        "export it with `llm.export_ckpt(path=DIR, target='hf', output_path=NEW_DIR)` or with "
        "Megatron Bridge",
        beside="context",
    ),
    _kind(
        r".*\.distcp",
        "shards of torch.distributed (FSDP, torchtitan, Megatron)",
        "use the trainer's own export (torchtitan: convert_to_hf.py, Megatron: its Bridge), or "
        "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE`; of a run "
        "with accelerate: `accelerate merge-weights`",
    ),
    _kind(
        r"model_world_size_\d+_rank_\d+\.pt",
        "shards of verl",
        "run `python -m verl.model_merger merge --backend fsdp --local_dir DIR --target_dir "
        "NEW_DIR`",
    ),
    _kind(
        r"lit_model\.pth",
        "weights of LitGPT",
        "run `litgpt convert_from_litgpt DIR NEW_DIR`, rename model.pth to pytorch_model.bin, and "
        "add the config.json and tokenizer of that model",
    ),
    _kind(
        r"(hf|meta)_model_\d+_\d+\.pt|ft-model-\d+-of-\d+\.(safetensors|bin)",
        "weights of torchtune",
        "rename them to model-00001-of-0000N.safetensors or pytorch_model-00001-of-0000N.bin, "
        "where the checkpointer for Hugging Face saved them",
    ),
    _kind(
        r"ep\d+-ba\d+.*rank\d+.*",
        "a checkpoint of Composer",
        "run LLM Foundry's scripts/inference/convert_composer_to_hf.py, or train with its "
        "hf_checkpointer",
    ),
    _kind(
        r"_CHECKPOINT_METADATA|commit_success\.txt|target\..*",
        "a checkpoint of Orbax or T5X",
        "convert it with the trainer's tool (MaxText: its checkpoint conversion to Hugging Face)",
    ),
    _kind(
        r"consolidated.*\.(pth|safetensors)",
        "weights as Meta and Mistral publish them",
        "convert them with transformers' convert_llama_weights_to_hf.py or "
        "convert_mistral_weights_to_hf.py",
    ),
    _kind(
        r".*\.gguf",
        "weights of llama.cpp",
        "AutoModelForCausalLM.from_pretrained(DIR, gguf_file=FILE).save_pretrained(NEW_DIR), or "
        "use the model that they were made from: quantised weights are not its weights",
    ),
    _kind(
        r"gptq_model.*|quantize_config\.json",
        "quantised weights, which are not those of the model",
        "use the model that they were made from",
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
    _kind(r".*\.(onnx|npz|mlmodel|ot|h5)", "an exported model", "use the model it was made from"),
    _kind(
        r"(model|pytorch_model)\.\w+(-\d+-of-\d+)?\.(safetensors|bin)"
        r"|(model|pytorch_model)-\d+-of-\d+\.\w+\.(safetensors|bin)",
        "a variant of the weights",
        "rename it to model.safetensors or pytorch_model.bin; in shards, save it again: "
        "AutoModelForCausalLM.from_pretrained(DIR, variant=NAME).save_pretrained(NEW_DIR)",
    ),
    _kind(
        rf"(?!({STATE}|data\.)).*\.(pt|pth|bin|safetensors)",
        "weights under a name that is not read",
        "rename it to pytorch_model.bin or model.safetensors where it holds the tensors by name "
        f"of a transformers model, else {SAVE}",
    ),
    _kind(
        rf"({STATE}).*\.(pt|pth|bin|safetensors)|trainer_state\.json|random_states.*",
        "the state of a trainer without the weights",
        "copy the weights, or save with save_only_model=False",
    ),
)


def foreign_files(names: Iterable[str], own_names: bool = False) -> str | None:
    """Return what the files are instead of weights, and what to run; None where that is unknown.

    own_names: look only for programs that save other tensors under the usual names of files.
    """
    ordered = sorted(names)
    for kind in KINDS:
        if (own_names and not kind.own_names) or (kind.beside and kind.beside not in ordered):
            continue
        match = next((name for name in ordered if kind.pattern.fullmatch(name)), None)
        if match:
            return f"{kind.meaning} ({match}): {kind.remedy}"
    return None


def is_adapted(names: Iterable[str]) -> bool:
    """Return whether an adapter lies in the folder: the weights beside it are not the model."""
    return any(ADAPTER.pattern.fullmatch(name) for name in names)
