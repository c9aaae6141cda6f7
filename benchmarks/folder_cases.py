"""Folders of checkpoints that hypothesis draws: whole and broken in the ways of real ones.

    case = draw(cases())        # what to write, as plain values
    write(case, folder)

Used by benchmarks/fuzz_folders.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
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

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TOKENIZER = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
WEIGHTS = (
    *["none"] * 20, "drop", "rename", "transpose", "shorter", "extra", "prefix",
    "integers", "scalar",
)  # fmt: skip
FILES = (
    *["none"] * 30, "cut", "empty", "pointer", "no shard", "copied shard", "stale single",
    "stale shard", "no index", "odd index", "bad index", "wrong format", "no metadata", "nested",
    "object", "renamed", "adapter",
)  # fmt: skip
CONFIGS = (
    *["none"] * 30, "gone", "not json", "list", "no type", "unknown type", "other type",
    "value", "value", "null", "text", "auto_map", "quantised", "no architectures", "encoder",
)  # fmt: skip
TOKENIZERS = ("json", "none", "pair", "bad json", "empty", "bad pair", "above", "model")
BESIDE = ("optimizer.pt", "training_args.bin", "rng_state.pth", "model.gguf", "README.md", "runs")
VALUES: list[Any] = [0, -1, 1, 3, 7, 48, 4096, 2**31, 1.5, True, None, "x", [], {}]


@dataclass(frozen=True)
class Case:
    """A folder: a model and what is done to its files."""

    family: str
    layers: int
    width: int
    vocabulary: int
    context: int
    tied: bool
    dtype: str
    kind: str  # safetensors, zip, legacy
    shards: int
    weights: str
    files: str
    config: str
    field_number: int  # of the config's fields, which one is changed
    value: Any
    tokenizer: str
    beside: list[str] = field(default_factory=list)


def cases() -> st.SearchStrategy[Case]:
    """Draw a case; most have one thing wrong, or none."""
    return st.builds(
        Case,
        family=st.sampled_from(["gpt_neox", "gpt2", "llama"]),
        layers=st.integers(1, 2),
        width=st.sampled_from([8, 16, 24]),
        vocabulary=st.sampled_from([8, 40, 65]),
        context=st.sampled_from([8, 16, 64]),
        tied=st.booleans(),
        dtype=st.sampled_from(sorted(DTYPES)),
        kind=st.sampled_from(["safetensors", "safetensors", "zip", "legacy"]),
        shards=st.sampled_from([1, 1, 2, 3]),
        weights=st.sampled_from(WEIGHTS),
        files=st.sampled_from(FILES),
        config=st.sampled_from(CONFIGS),
        field_number=st.integers(0, 60),
        value=st.sampled_from(VALUES),
        tokenizer=st.sampled_from(TOKENIZERS),
        beside=st.lists(st.sampled_from(BESIDE), max_size=2, unique=True),
    )


def model_of(case: Case) -> PreTrainedModel:
    """Return the model before anything is done to its files."""
    torch.manual_seed(0)
    size: dict[str, Any] = {"vocab_size": case.vocabulary, "tie_word_embeddings": case.tied}
    if case.family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                n_embd=case.width, n_layer=case.layers, n_head=2, n_positions=case.context, **size
            )
        )
    size |= {
        "hidden_size": case.width,
        "num_hidden_layers": case.layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * case.width,
        "max_position_embeddings": case.context,
    }
    if case.family == "llama":
        return LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, **size))
    return GPTNeoXForCausalLM(GPTNeoXConfig(**size))


def write(case: Case, folder: Path) -> None:
    """Write the files of a case into a folder."""
    folder.mkdir(parents=True)
    model = model_of(case)
    _write_weights(case, _tensors(case, model), folder)
    _write_config(case, model, folder)
    _write_tokenizer(case, folder)
    for name in case.beside:
        (folder / name).write_bytes(b"x") if "." in name else (folder / name).mkdir()
    if case.files == "adapter":
        (folder / "adapter_config.json").write_text("{}")


def _tensors(case: Case, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the state of the model with one fault."""
    dtype = DTYPES[case.dtype]
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    if case.tied:
        state.pop("lm_head.weight", None)
    name = sorted(state)[case.field_number % len(state)]
    value = state[name]
    match case.weights:
        case "drop":
            del state[name]
        case "rename":
            state[f"{name}_old"] = state.pop(name)
        case "transpose":
            state[name] = value.t().contiguous() if value.dim() == 2 else value
        case "shorter":
            state[name] = value[:-1].contiguous() if value.dim() else value
        case "extra":
            state["model.layers.9.mlp.extra.weight"] = torch.zeros(2, 2, dtype=dtype)
        case "prefix":
            state = {f"module.{key}": tensor for key, tensor in state.items()}
        case "integers":
            state[name] = value.to(torch.int64)
        case "scalar":
            state[name] = torch.zeros((), dtype=dtype)
    return state


def _write_weights(case: Case, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the files of weights, and their index where there are several."""
    safe = case.kind == "safetensors"
    stem, end = ("model", ".safetensors") if safe else ("pytorch_model", ".bin")
    names = [f"{stem}-{n + 1:05}-of-{case.shards:05}{end}" for n in range(case.shards)]
    if case.shards == 1:
        names = [f"{stem}{end}"]
    placed = {key: names[number % len(names)] for number, key in enumerate(state)}
    for name in names:
        part = {key: tensor for key, tensor in state.items() if placed[key] == name}
        _save(case, part, folder / name)
    if case.shards > 1 and case.files != "no index":
        index = {"metadata": {}, "weight_map": placed}
        (folder / f"{stem}{end}.index.json").write_text(json.dumps(index))
    _spoil(case, folder, names, f"{stem}{end}")


def _save(case: Case, part: dict[str, Any], path: Path) -> None:
    """Write one file of weights."""
    if case.kind == "safetensors":
        formats = {"wrong format": {"format": "mlx"}, "no metadata": None}
        save_file(part, path, metadata=formats.get(case.files, {"format": "pt"}))
        return
    value: Any = part
    if case.files == "nested":
        value = {"model": part, "step": 3}
    if case.files == "object":
        value = {**part, "args": Path("x")}
    torch.save(value, path, _use_new_zipfile_serialization=case.kind == "zip")


def _spoil(case: Case, folder: Path, names: list[str], single: str) -> None:
    """Do to the written files what copies, crashes and second saves do."""
    last = folder / names[-1]
    index = folder / f"{single}.index.json"
    match case.files:
        case "cut":
            last.write_bytes(last.read_bytes()[:-7])
        case "empty":
            last.write_bytes(b"")
        case "pointer":
            last.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        case "no shard":
            last.unlink()
        case "copied shard":
            last.write_bytes((folder / names[0]).read_bytes())
        case "stale single" if len(names) > 1:
            (folder / single).write_bytes(b"older")
        case "stale shard":
            stem, _, end = single.rpartition(".")
            (folder / f"{stem}-00007-of-00009.{end}").write_bytes(b"older")
        case "odd index":
            index.write_text('{"weight_map": {"x": "../x.safetensors"}}')
        case "bad index":
            index.write_text("{")
        case "renamed":
            last.rename(folder / f"weights{last.suffix}")


def _write_config(case: Case, model: PreTrainedModel, folder: Path) -> None:
    """Write config.json with one fault."""
    fields: dict[str, Any] = model.config.to_diff_dict()
    fields["architectures"] = [type(model).__name__]
    names = sorted(set(fields) - {"model_type", "architectures", "transformers_version"})
    name = names[case.field_number % len(names)]
    changes: dict[str, dict[str, Any]] = {
        "no type": {"model_type": None},
        "unknown type": {"model_type": "gpt_of_ours"},
        "other type": {"model_type": "opt"},
        "encoder": {"model_type": "bert"},
        "value": {name: case.value},
        "null": {name: None},
        "auto_map": {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}},
        "quantised": {"quantization_config": {"quant_method": "bitsandbytes"}},
        "no architectures": {"architectures": None},
    }
    fields |= changes.get(case.config, {})
    text = {"not json": "{", "list": "[]", "text": "hidden_size: 8"}
    if case.config != "gone":
        (folder / "config.json").write_text(text.get(case.config) or json.dumps(fields))


def _write_tokenizer(case: Case, folder: Path) -> None:
    whole = json.dumps(TOKENIZER)
    files: dict[str, dict[str, str]] = {
        "json": {"tokenizer.json": whole},
        "pair": {"vocab.json": '{"a": 0, "b": 1, "ab": 2}', "merges.txt": "#version: 0.2\na b\n"},
        "bad json": {"tokenizer.json": "{"},
        "empty": {"tokenizer.json": "{}"},
        "bad pair": {"vocab.json": '{"a": 0}', "merges.txt": "a b\n"},
        "above": {"../tokenizer.json": whole},
        "model": {"tokenizer.model": "x"},
    }
    for name, content in files.get(case.tokenizer, {}).items():
        (folder / name).write_text(content)
