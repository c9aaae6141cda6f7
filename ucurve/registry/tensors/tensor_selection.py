"""Select tensors by name, dimension, group and layer, and say which protocol measures them.

    tensors = named_tensors(shapes, "gpt_neox", tied=False)
    selection = Selection(which="all", exclude=("*embed_out*",))
    selection.of(tensors, 2)          # by canonical name, without the unembedding
    protocol(selection, tensors)      # "gaussian/2": version 1 would not have excluded it

Version 1 knows the names of transformers 5 only, and groups without fully connected layers called
fc1, mixtures and mixers. Version 2 knows canonical names, those of the library too, and has them.
Each measurement is planned under version 1 where both give the same number, so that what is stored
stays valid, and under version 2 where they do not. Without torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal, TypeVar

from ucurve.registry.tensors.tensor_names import NamedTensor

GROUPS = ("embedding", "attention", "mixer", "mlp", "norm", "unembedding", "other")
NEAREST = 3  # names in a message
Version = Literal[1, 2]
T = TypeVar("T", bound=NamedTensor)

WORDS_1 = {  # first match wins: input_layernorm and self_attn.q_norm are norms
    "norm": ("norm", "ln_"),
    "unembedding": ("embed_out", "lm_head"),
    "embedding": ("embed", "wte", "wpe"),
    "attention": ("attention", "attn", "query_key_value"),
    "mlp": ("mlp", "feed_forward", "ffn"),
}
# What version 1 calls "other"; every other tensor keeps its group.
WORDS_2 = {
    "norm": re.compile(r"\b(pre_)?ln\d*\b"),
    "unembedding": re.compile(r"^(output_projection|head|decoder)\.(weight|bias)$"),
    "embedding": re.compile(r"^transformer\.w\.weight$"),
    "attention": re.compile(r"\.mixer\.[qkvo]_proj\."),
    "mlp": re.compile(r"\.fc[12]\.|moe|experts|\.mixer\.(up_proj|down_proj|gate)\."),
    "mixer": re.compile(r"mixer|mamba|temporal_block|conv|ssm"),
}

# Parts of a model in the order of its computation; "layer 0", "layer 1", ... follow the second.
BEFORE_LAYERS = ("embedding", "embedding norm")
AFTER_LAYERS = ("final norm", "unembedding", "outside layers")
LAYER = re.compile(
    r"\.(\d+)\."
)  # the first number in a name; later ones count experts and the like
BELOW_ALL = 1_000_000  # more than the layers of any model
EMBEDDING_NORM = re.compile(r"word_embeddings_layernorm|\bembeddings\.\w*norm")


@dataclass(frozen=True)
class Selection:
    """Which tensors a measurement perturbs, as its inputs say.

    Attributes:
        which: "matrices" leaves out tensors with fewer than two dimensions (biases, gains).
        include: shell patterns for names ("*.attention.*"); empty means every name.
        exclude: shell patterns for names to leave out.
        group: one of GROUPS, to select its tensors only.
        part: a part of the model by depth, such as "layer 0", to select its tensors only.
    """

    which: Literal["all", "matrices"] = "all"
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    group: str | None = None
    part: str | None = None

    def of(self, tensors: Iterable[T], version: Version) -> dict[str, T]:
        """Return the selected tensors by the name of their noise."""
        return {
            tensor.library if version == 1 else tensor.canonical: tensor
            for tensor in tensors
            if (self.which == "all" or len(tensor.shape) >= 2)
            and (not self.include or matching(self.include, tensor, version))
            and not matching(self.exclude, tensor, version)
            and self.group in (None, group_of(tensor, version))
            and self.part in (None, part_of(tensor, version))
        }


def matching(patterns: Iterable[str], tensor: NamedTensor, version: Version = 2) -> bool:
    """Return whether a pattern matches a name of the tensor."""
    names = (tensor.library,) if version == 1 else tensor.names
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def protocol(
    selection: Selection, tensors: Sequence[NamedTensor], spelled_by_library: bool = False
) -> str:
    """Return "gaussian/1" where both versions perturb the same tensors by the same noise.

    spelled_by_library: the files of these tensors have the names of the library themselves, so that
        these are canonical there.
    """
    first, second = selection.of(tensors, 1), selection.of(tensors, 2)
    same = list(first.values()) == list(second.values())
    return (
        "gaussian/1"
        if same and (spelled_by_library or list(first) == list(second))
        else ("gaussian/2")
    )


def group_of(tensor: NamedTensor, version: Version = 2) -> str:
    """Return the part of a model, one of GROUPS, that a tensor belongs to."""
    name = tensor.library
    group = next((g for g, words in WORDS_1.items() if any(word in name for word in words)), None)
    if group or version == 1:
        return group or "other"
    return next((g for g, words in WORDS_2.items() if words.search(name)), "other")


def groups_in(tensors: Iterable[NamedTensor]) -> list[str]:
    """Return the groups that have a tensor, in the order of GROUPS."""
    present = {group_of(tensor) for tensor in tensors}
    return [group for group in GROUPS if group in present]


def part_of(tensor: NamedTensor, version: Version = 2) -> str:
    """Return the part of a model by depth that a tensor belongs to: "layer 3", "final norm".

    Embedding and unembedding are the groups of that name, wherever their tensors are.
    """
    group = group_of(tensor, version)
    if group in ("embedding", "unembedding"):
        return group
    if layer := LAYER.search(tensor.canonical):
        return f"layer {int(layer[1])}"
    if group != "norm":
        return AFTER_LAYERS[-1]
    return "embedding norm" if EMBEDDING_NORM.search(tensor.canonical) else "final norm"


def depth_of(part: str) -> int:
    """Return a number that orders the parts of a model: that of a layer, its own."""
    if part in BEFORE_LAYERS:
        return BEFORE_LAYERS.index(part) - len(BEFORE_LAYERS)
    if part in AFTER_LAYERS:
        return BELOW_ALL + AFTER_LAYERS.index(part)
    return int(part.removeprefix("layer "))


def parts_in(tensors: Iterable[NamedTensor]) -> list[str]:
    """Return the parts that have a tensor, from the embedding to the unembedding."""
    return sorted({part_of(tensor) for tensor in tensors}, key=depth_of)


def nearest(pattern: str, tensors: Iterable[NamedTensor]) -> list[str]:
    """Return the names that are most like a pattern, layers written as *; those of the tensor group
    that it names first.
    """
    wanted = re.sub(r"[*?\[\]]+", "", pattern).strip(".").lower()
    meant = {group for group in GROUPS if group in wanted.replace("attn", "attention")}
    names = {
        re.sub(r"\.\d+\.", ".*.", name): group_of(tensor) in meant
        for tensor in tensors
        for name in (tensor.canonical, tensor.library)
    }

    def likeness(name: str) -> float:
        parts = [part for part in name.split(".") if part != "*"]
        pieces = [name, *parts, *map(".".join, pairwise(parts))]
        return max(difflib.SequenceMatcher(None, wanted, p.lower()).ratio() for p in pieces)

    return sorted(names, key=lambda name: (not names[name], -likeness(name), name))[:NEAREST]
