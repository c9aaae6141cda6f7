"""Measure small random models of many architectures, and compare with independent code.

    python benchmarks/architectures.py                     # the table of docs/reference
    python benchmarks/architectures.py gpt2 mamba          # these only, printed

A model is saved by transformers as anybody's checkpoint is, registered and loaded by ucurve, and
measured: unperturbed, with one noise seed, after full fine-tuning and after LoRA. The other side
of each comparison is written here from the definitions: logits of whole windows with the library's
plain attention, float64 log-softmax, torch's optimiser step by step, W + 2 B A for LoRA.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ucurve.modeling import perturb
from ucurve.modeling.checkpoints import load
from ucurve.modeling.finetune import FinetuningConfig, FinetuningRun
from ucurve.modeling.finetuning_data import build_task
from ucurve.modeling.perplexity import window_losses
from ucurve.registry import hashing
from ucurve.registry.suites import Checkpoint, Dataset, Location
from ucurve.registry.tensors.config_words import initializer_std
from ucurve.settings import settings

TABLE = Path(__file__).parents[1] / "docs" / "reference" / "architectures.md"
WINDOW, GAMMA, RATE, STEPS, RANK = 64, 0.1, 3e-3, 3, 2

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}
GPT = {"vocab_size": 512, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
MAMBA = {"vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 16}
HYBRID = {
    **GROUPED,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_chunk_size": 32,
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "biogpt": SHAPE,
    "bloom": {"vocab_size": 512, "hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": 128},
    "codegen": {**GPT, "rotary_dim": 8},
    "cohere": GROUPED,
    "exaone4": GROUPED,
    "falcon": SHAPE,
    "gemma": HEADS,
    "gemma2": {**HEADS, "sliding_window": 32},
    "gemma3_text": {**HEADS, "sliding_window": 32},
    "glm": {**HEADS, "pad_token_id": 0},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 128,
        "window_size": 32,
    },
    "gpt_neox": SHAPE,
    "gptj": {**GPT, "rotary_dim": 8},
    "granite": {**GROUPED, "logits_scaling": 2.0},
    "llama": SHAPE,
    "mistral": {**GROUPED, "sliding_window": 32},
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "mpt": {"vocab_size": 512, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "olmo": SHAPE,
    "olmo2": SHAPE,
    "olmoe": {**SHAPE, "num_experts": 4, "num_experts_per_tok": 2},
    "openai-gpt": GPT,
    "opt": {**SHAPE, "ffn_dim": 128, "word_embed_proj_dim": 64},
    "phi": SHAPE,
    "phi3": {**SHAPE, "pad_token_id": 0, "original_max_position_embeddings": 128},
    "qwen2": GROUPED,
    "qwen3": HEADS,
    "smollm3": {**GROUPED, "pad_token_id": 0},
    "stablelm": {**SHAPE, "num_key_value_heads": 4},
    "starcoder2": GROUPED,
    "xglm": {
        "vocab_size": 512,
        "d_model": 64,
        "num_layers": 2,
        "attention_heads": 4,
        "ffn_dim": 128,
        "max_position_embeddings": 128,
    },
}
STATE_SPACE: dict[str, dict[str, Any]] = {
    "falcon_mamba": MAMBA,
    "mamba": MAMBA,
    "mamba2": {**MAMBA, "num_heads": 8, "head_dim": 16, "n_groups": 1, "chunk_size": 32},
    "rwkv": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "context_length": 128,
    },
}
HYBRIDS: dict[str, dict[str, Any]] = {
    "bamba": {**HYBRID, "attn_layer_indices": [1]},
    "falcon_h1": {**HYBRID, "mamba_d_ssm": 128},
    "jamba": {
        **GROUPED,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"]},
    "recurrent_gemma": {
        "vocab_size": 512,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "lru_width": 64,
        "attention_window_size": 32,
        "block_types": ["recurrent", "attention"],
    },
    "zamba2": {
        **SHAPE,
        "num_key_value_heads": 4,
        "mamba_d_state": 8,
        "n_mamba_heads": 8,
        "mamba_headdim": 16,
        "num_mem_blocks": 1,
        "layers_block_type": ["mamba", "hybrid"],
        "hybrid_layer_ids": [1],
        "chunk_size": 32,
    },
}
FAMILIES = TRANSFORMERS | STATE_SPACE | HYBRIDS
RECIPE = FinetuningConfig(
    optimiser="adamw", learning_rate=RATE, num_steps=STEPS, batch_rows=4, schedule="constant",
    warmup=0.0, weight_decay=0.01,
    grad_clip=1.0, beta1=0.9, beta2=0.999, precision="fp32",
)  # fmt: skip
LANGUAGE = Dataset(
    name="redrawn",
    kind="language",
    parameters={"language": 1, "split": "train", "version": 1},
    sha256="a",
)


@dataclass(frozen=True)
class Compared:
    """What was measured of one architecture; differences are ours minus independent, in nats."""

    name: str
    class_name: str
    attention: str
    context: int | None
    initializer: float | None
    loss: float
    unperturbed: float
    noise: float
    fine_tuning: float
    lora: float

    @property
    def largest(self) -> float:
        """Return the largest absolute difference."""
        return max(map(abs, (self.unperturbed, self.noise, self.fine_tuning, self.lora)))


def save(name: str, folder: Path, seed: int = 0) -> None:
    """Save a random model of an architecture, as `save_pretrained` leaves it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **FAMILIES[name]))
    for parameter in model.parameters():  # gains of 1 and biases of 0 would hide mistakes
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)


def registered(folder: Path) -> Checkpoint:
    """Return the checkpoint of a folder as registration describes it."""
    location = Location(scheme="path", path=str(folder))
    return hashing.resolve(
        Checkpoint(suite=folder.parent.name, revision=folder.name, location=location), folder
    )


def compare(name: str, root: Path) -> Compared:
    """Save, register and measure a model, and measure it again with the code below.

    root: a folder below those that the lab reads.
    """
    folder = root / name / "step1000"
    save(name, folder)
    checkpoint = registered(folder)
    assert checkpoint.unresolved is None, checkpoint.unresolved
    model = load(checkpoint, "cpu", settings().artefacts).model
    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = torch.randint(512, (5 * WINDOW + 17,), generator=torch.Generator().manual_seed(0))
    loss = _loss(plain, tokens)
    return Compared(
        name,
        type(model).__name__,
        str(model.config._attn_implementation),
        checkpoint.context,
        initializer_std(model.config.to_dict()),
        loss,
        _ours(model, tokens) - loss,
        _noise(model, plain, tokens),
        _fine_tuning(model, plain, tokens, root),
        _lora(model, plain, tokens, root),
    )


def _ours(model: PreTrainedModel, tokens: torch.Tensor) -> float:
    return window_losses(model, tokens, window=WINDOW, stride=WINDOW).nll_mean


@torch.no_grad()
def _loss(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> float:
    """Return the mean loss in nats per token: whole windows, one by one, in float64."""
    total, count = 0.0, 0
    for start in range(0, len(tokens), WINDOW):
        ids = tokens[start : start + WINDOW]
        logits = functional_call(
            model, dict(weights or {}), (), {"input_ids": ids[None], "use_cache": False}
        ).logits
        logs = torch.log_softmax(logits[0, :-1].double(), dim=-1)
        total -= float(logs[torch.arange(len(ids) - 1), ids[1:]].sum())
        count += len(ids) - 1
    return total / count


def _noise(model: PreTrainedModel, plain: PreTrainedModel, tokens: torch.Tensor) -> float:
    tensors = perturb.select(model)
    with perturb.perturbed(tensors, perturb.current_std(tensors), GAMMA, perturb.Noise(0)):
        ours = _ours(model, tokens)
    noisy = {
        name: weight.detach()
        + GAMMA
        * float(weight.detach().double().std(unbiased=False))
        * perturb.standard_normal(0, name, weight.numel()).view(weight.shape)
        for name, weight in plain.named_parameters()
    }
    return ours - _loss(plain, tokens, noisy)


def _run(model: PreTrainedModel, method: dict[str, Any], root: Path) -> FinetuningRun:
    task = build_task(
        {"protocol": "language_modelling/1", "context": 32}, LANGUAGE, None, 512, root
    )
    return FinetuningRun(model, task, RECIPE, method, seed=0)


def _tuned(run: FinetuningRun, model: PreTrainedModel, tokens: torch.Tensor, root: Path) -> float:
    """Return the loss of `model` with the weights that our run ends with."""
    with tempfile.TemporaryDirectory(dir=root) as state:
        tuned = run.run(Path(state), lambda *args, **metrics: None)
    parameters = dict(model.named_parameters())
    originals = {name: parameters[name].detach().clone() for name in tuned.weights}
    for name, weight in tuned.weights.items():
        parameters[name].data.copy_(weight)
    loss = _ours(model, tokens)
    for name, weight in originals.items():
        parameters[name].data.copy_(weight)
    return loss


def _train(
    model: PreTrainedModel,
    run: FinetuningRun,
    trained: Mapping[str, torch.Tensor],
    effective: Any,
) -> None:
    """Train `trained` on the run's batches; `effective()` gives the model's weights from them."""
    optimiser = torch.optim.AdamW(
        list(trained.values()), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True
    )
    for step in range(STEPS):
        ids = run.task.batch(0, step, 4).ids
        logits = functional_call(
            model, effective(), (), {"input_ids": ids, "use_cache": False}
        ).logits
        logs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
        loss = -logs.gather(2, ids[:, 1:, None]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
        optimiser.step()


def _fine_tuning(
    model: PreTrainedModel, plain: PreTrainedModel, tokens: torch.Tensor, root: Path
) -> float:
    run = _run(model, {"name": "full"}, root)
    leaves = {
        name: weight.detach().clone().requires_grad_() for name, weight in plain.named_parameters()
    }
    _train(plain, run, leaves, lambda: leaves)
    return _tuned(run, model, tokens, root) - _loss(plain, tokens, leaves)


def _lora(
    model: PreTrainedModel, plain: PreTrainedModel, tokens: torch.Tensor, root: Path
) -> float:
    """W + 2 B A, from the first A of our run; GPT-2's Conv1D holds the transpose of W."""
    run = _run(model, {"name": "lora", "rank": RANK}, root)
    leaves = {
        name: weight.detach().clone().requires_grad_() for name, weight in run.trained.items()
    }
    adapted = [
        name.removesuffix(".lora_A.default.weight")
        for name in leaves
        if ".lora_A." in name and ".dt_proj." not in name  # read by Jamba itself, past its adapter
    ]
    weights = dict(plain.named_parameters())

    def effective() -> dict[str, torch.Tensor]:
        result = {name: weight.detach() for name, weight in weights.items()}
        for layer in adapted:
            change = 2 * (
                leaves[f"{layer}.lora_B.default.weight"] @ leaves[f"{layer}.lora_A.default.weight"]
            )
            transposed = isinstance(plain.get_submodule(layer), Conv1D)
            result[f"{layer}.weight"] = weights[f"{layer}.weight"].detach() + (
                change.T if transposed else change
            )
        return result

    _train(plain, run, leaves, effective)
    return _tuned(run, model, tokens, root) - _loss(plain, tokens, effective())


def _row(result: Compared) -> str:
    cells = (
        f"`{result.name}`",
        f"`{result.class_name}`",
        result.attention,
        result.context or "not stated",
        "not stated" if result.initializer is None else f"{result.initializer:g}",
        *(
            f"{value:.0e}"
            for value in (result.unperturbed, result.noise, result.fine_tuning, result.lora)
        ),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _section(title: str, results: list[Compared]) -> str:
    head = (
        f"### {title}\n\n"
        "| model type | class | attention | context | initializer | unperturbed | noise "
        "| fine-tuning | LoRA |\n|---|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    return head + "\n".join(map(_row, results)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *FAMILIES], help="default: all")
    names = parser.parse_args().names
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    results = {}
    root = settings().artefacts / "suites"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        for name in names or FAMILIES:
            results[name] = compare(name, Path(folder))
            print(_row(results[name]), file=sys.stderr)
    if names:
        return
    groups = {
        "Transformers": TRANSFORMERS,
        "State-space and recurrent models": STATE_SPACE,
        "Hybrids of both": HYBRIDS,
    }
    tables = [_section(title, [results[n] for n in group]) for title, group in groups.items()]
    intro = TABLE.read_text().partition("<!-- table -->")[0]
    TABLE.write_text(f"{intro}<!-- table -->\n\n" + "\n".join(tables))


if __name__ == "__main__":
    main()
