"""Record what a release of transformers calls the tensors of each architecture.

    python benchmarks/record_tensor_names.py tests/tensor_names        # the installed release
    pip install --target /tmp/old transformers==4.57.3
    PYTHONPATH=/tmp/old:. python benchmarks/record_tensor_names.py tests/tensor_names

Builds a small random model of each architecture and writes VERSION.json: names and shapes of the
tensors in the file that it saves, and the names of its parameters where these are others.
tests/test_tensor_names.py compares the recordings of two releases with the table of spellings in
ucurve/registry/tensors/tensor_names.py.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

ARCHITECTURES = (
    *("gpt_neox", "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3"),
    *("opt", "bloom", "gpt_neo", "gptj", "mpt", "stablelm", "olmo", "olmo2", "olmo3", "starcoder2"),
    *("gpt_bigcode", "codegen", "cohere", "smollm3", "xglm", "ctrl", "openai-gpt", "biogpt"),
    *("rwkv", "mamba", "mamba2", "falcon_mamba", "recurrent_gemma", "jamba", "bamba", "mixtral"),
    *("qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe", "phimoe", "granitemoe", "gpt_oss", "lfm2"),
    *("nemotron_h", "olmo_hybrid", "kimi_linear", "granitemoehybrid"),
)
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 48),
    **dict.fromkeys(("n_positions", "max_position_embeddings", "max_seq_len"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "time_step_rank"), 4),
    **dict.fromkeys(("head_dim", "state_size", "linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("v_head_dim", "mamba_n_heads", "mamba_d_head", "mamba_d_state"), 8),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    "vocab_size": 96, "num_key_value_heads": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "expand": 2,
    "linear_num_value_heads": 4, "linear_num_key_heads": 4, "conv_kernel": 4, "n_groups": 1,
    "attention_types": [[["global", "local"], 1]], "attn_layer_indices": [1],
}  # fmt: skip
SPECIAL: dict[str, dict[str, Any]] = {"mamba2": {"num_heads": 8}}


def record(architecture: str) -> dict[str, Any]:
    """Return the names of a small model's parameters, and the tensors of the file it saves."""
    default = AutoConfig.for_model(architecture)
    sizes = {name: value for name, value in SIZES.items() if hasattr(default, name)}
    config = AutoConfig.for_model(architecture, **{**sizes, **SPECIAL.get(architecture, {})})
    model = AutoModelForCausalLM.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        content = (Path(folder) / "model.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tied = json.loads((Path(folder) / "config.json").read_text()).get("tie_word_embeddings")
    header.pop("__metadata__", None)
    file = {name: tensor["shape"] for name, tensor in sorted(header.items())}
    library = sorted(name for name, _ in model.named_parameters())
    return {
        "tied": tied,
        "file": file,
        **({"library": library} if set(file) != set(library) else {}),
    }


def main(folder: Path) -> None:
    """Write the recording of the installed release."""
    torch.set_num_threads(1)
    recorded = {}
    for architecture in ARCHITECTURES:
        try:
            recorded[architecture] = record(architecture)
        except Exception as error:  # an architecture that this release has not, or not so small
            print(f"{architecture}: {str(error).splitlines()[0]}", file=sys.stderr)
    text = json.dumps(recorded, indent=1)
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    (folder / f"{transformers.__version__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
