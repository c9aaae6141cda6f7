"""Canonical names of a model's tensors: those of the published files, which no library can move.

    tensor = NamedTensor.of("lm_head.weight", "gpt_neox", (50304, 512))
    tensor.canonical                     # "embed_out.weight", as every Pythia file spells it
    tensor.library                       # "lm_head.weight", as transformers 5 spells it
    named_tensors(shapes, "gpt_neox", tied=False)    # all parameters, from the header of a file

Files leave out a model's prefix, hold buffers and tied tensors, and store the experts of a mixture
one by one; all of them are brought to one list of parameters here. Without torch: the API plans
with these names, and workers perturb by them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

# Spellings that differ, by architecture: (of the published files, of transformers 5). A first dot
# means "anywhere in the name", otherwise the name starts with it. The second column is what
# "gaussian/1" calls the tensors: it never changes, whatever a later library calls them.
GRANITE_MOE = (
    (".block_sparse_moe.router.layer.", ".block_sparse_moe.router."),
    (".block_sparse_moe.input_linear.weight", ".block_sparse_moe.experts.gate_up_proj"),
    (".block_sparse_moe.output_linear.weight", ".block_sparse_moe.experts.down_proj"),
)
SPELLINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gpt_neox": (("embed_out.", "lm_head."),),
    "mixtral": ((".block_sparse_moe.", ".mlp."),),
    "minimax": ((".block_sparse_moe.", ".mlp."),),
    "phimoe": (
        (".block_sparse_moe.gate.", ".mlp.router."),
        (".block_sparse_moe.", ".mlp."),
    ),
    "granitemoe": GRANITE_MOE,
    "granitemoeshared": GRANITE_MOE,
    "granitemoehybrid": GRANITE_MOE,
    "nemotron_h": (("backbone.", "model."),),
    "kimi_linear": (
        (".block_sparse_moe.", ".mlp."),
        (".self_attn.A_log", ".self_attn.forget_gate.A_log"),
        (".self_attn.dt_bias", ".self_attn.forget_gate.dt_bias"),
        (".self_attn.f_a_proj.", ".self_attn.forget_gate.f_a_proj."),
        (".self_attn.f_b_proj.", ".self_attn.forget_gate.f_b_proj."),
    ),
    "olmo_hybrid": (
        (".attention_layer_norm.", ".input_layernorm."),
        (".feedforward_layer_norm.", ".post_attention_layernorm."),
    ),
}

# What the library holds as one tensor: its experts, and convolutions of a mixer.
FUSED = (
    (re.compile(r"\.experts\.\d+\.(?:down_proj|w2)\.weight$"), ".experts.down_proj"),
    (re.compile(r"\.(self_attn|linear_attn)\.[qkv]_conv1d\.weight$"), r".\1.conv1d.weight"),
)
GATED = re.compile(r"\.experts\.\d+\.(?:gate_proj|w1)\.weight$")
UP = re.compile(r"\.experts\.\d+\.(?:gate_proj|up_proj|w1|w3)\.weight$")

# The body of a model is named by this, and files may leave it out.
PREFIXES = {
    "gpt_neox": "gpt_neox",
    "biogpt": "biogpt",
    "rwkv": "rwkv",
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "nemotron_h"), "backbone"),
    **dict.fromkeys(
        ("gpt2", "bloom", "gpt_neo", "gptj", "mpt", "gpt_bigcode", "codegen", "ctrl", "falcon"),
        "transformer",
    ),
    "openai-gpt": "transformer",
}
PREFIX = "model"
HEADS = ("lm_head.", "embed_out.", "output_projection.", "head.", "decoder.weight", "decoder.bias")
UNEMBEDDING = re.compile(r"(lm_head|embed_out|output_projection|head|decoder)\.weight")
# The embedding of tokens under its prefix, where it is not called embed_tokens.
EMBEDDINGS = {
    **dict.fromkeys(("gpt2", "gpt_neo", "gptj", "mpt", "gpt_bigcode", "codegen"), "wte"),
    **dict.fromkeys(("bloom", "falcon"), "word_embeddings"),
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "nemotron_h", "rwkv"), "embeddings"),
    "ctrl": "w",
    "openai-gpt": "tokens_embed",
    "gpt_neox": "embed_in",
    "opt": "decoder.embed_tokens",
}
# Architectures that share the embedding with the unembedding where the config does not say.
TIED = (
    *(
        "biogpt",
        "bloom",
        "cohere",
        "cohere2",
        "ctrl",
        "ernie4_5",
        "falcon",
        "falcon_mamba",
        "gemma",
    ),
    *("gemma2", "gemma3_text", "gpt2", "gpt_bigcode", "gpt_neo", "jetmoe", "lfm2", "mamba"),
    *("mpt", "modernbert-decoder", "openai-gpt", "opt", "recurrent_gemma", "smollm3", "starcoder2"),
    *("vaultgemma", "xglm"),
)
# Stored beside the parameters: causal masks, rotary tables, decays, corrections of routers.
BUFFERS = re.compile(
    r"(inv_freq|masked_bias|causal_mask|slope_rate|e_score_correction_bias)$"
    r"|\.(attention|attn)\.bias$|\.self_attn\.(query|key|diagonal)_decay$"
    r"|\.act_fn\.(beta|eps)$|embed_positions\.weights$"
)
# What trainers save beside the model: value heads, averages, moments of an optimizer.
BESIDE = re.compile(r"(v_head|value_head|reward_head|score|ema|ema_model|optimizer)\.")


@dataclass(frozen=True)
class NamedTensor:
    """A parameter of a model.

    Attributes:
        canonical: its name in the published files of the architecture, which is that of its noise.
        architecture: the `model_type` of the config.
        shape: as the model has it, or as the file has the first of its parts.
    """

    canonical: str
    architecture: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, architecture: str, shape: Iterable[int]) -> NamedTensor:
        """Return the tensor that a file or the library calls `name`, with its prefix."""
        return cls(canonical_name(name, architecture), architecture, tuple(shape))

    @cached_property
    def library(self) -> str:
        """Its name in transformers 5, by which "gaussian/1" draws its noise."""
        name = self.canonical
        for stored, library in SPELLINGS.get(self.architecture, ()):
            name = _replaced(name, stored, library)
        return name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every spelling that a pattern may mean: of the files, of the library, without prefix."""
        bare = self.canonical.removeprefix(prefix_of(self.architecture) + ".")
        return tuple(dict.fromkeys((self.canonical, self.library, bare)))


def canonical_name(name: str, architecture: str) -> str:
    """Return the canonical name of what a file or the library calls `name`."""
    for stored, library in SPELLINGS.get(architecture, ()):
        if not _occurs(stored, name):
            name = _replaced(name, library, stored)
    return name


def prefix_of(architecture: str) -> str:
    """Return the first part of the names of a model's body."""
    return PREFIXES.get(architecture, PREFIX)


def named_tensors(
    shapes: Mapping[str, Iterable[int]], architecture: str, tied: bool | None
) -> list[NamedTensor]:
    """Return the parameters of a model whose files hold tensors of these names and shapes.

    Args:
        shapes: the floating-point tensors of all files, by name.
        architecture: the `model_type` of the config.
        tied: its `tie_word_embeddings`; None where it does not say.
    """
    prefix = prefix_of(architecture) + "."
    prefixed = any(
        canonical_name(name, architecture).startswith(prefix) or name.startswith(prefix)
        for name in shapes
    )
    shared = architecture in TIED if tied is None else tied
    gated = any(GATED.search(name) for name in shapes)
    parameters: dict[str, NamedTensor] = {}
    head: str | None = None
    for name, shape in shapes.items():
        is_head = name.startswith(HEADS)
        if BUFFERS.search(name) or BESIDE.match(name):
            continue
        if shared and UNEMBEDDING.fullmatch(name):
            head = name  # stored beside the embedding, or in its place
            continue
        full = name if prefixed or is_head else prefix + name
        tensor = NamedTensor.of(_fused(full, gated), architecture, shape)
        parameters.setdefault(tensor.canonical, tensor)
    embedding = f"{prefix}{EMBEDDINGS.get(architecture, 'embed_tokens')}.weight"
    if head and embedding not in parameters and not _has_shape(parameters, shapes[head]):
        tensor = NamedTensor.of(embedding, architecture, shapes[head])
        parameters = {tensor.canonical: tensor, **parameters}
    return list(parameters.values())


def _has_shape(parameters: Mapping[str, NamedTensor], shape: Iterable[int]) -> bool:
    """Return whether an embedding is there under a name that no table knows."""
    wanted = tuple(shape)
    return any("embed" in name and t.shape == wanted for name, t in parameters.items())


def unexplained(name: str) -> str:
    """Return the error about a parameter that is none of the tensors in the files."""
    return (
        f"transformers calls a tensor {name}, which is not in the checkpoint's files: this release "
        "of ucurve does not know how the two are related, and draws no noise by such a name"
    )


def _fused(name: str, gated: bool) -> str:
    """Return the name of the tensor in which the library holds this one."""
    for part, fused in FUSED:
        name = part.sub(fused, name)
    return UP.sub(".experts.gate_up_proj" if gated else ".experts.up_proj", name)


def _occurs(part: str, name: str) -> bool:
    return part in name if part.startswith(".") else name.startswith(part)


def _replaced(name: str, part: str, by: str) -> str:
    return name.replace(part, by, 1) if _occurs(part, name) else name
