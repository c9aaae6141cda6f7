"""Names of tensors that a wrapper or another program gave them: refused with what to run.

    expect_plain_names("gpt_neox", tensors)    # RegistrationError: ... strip 'module.' ...

torch.compile, data parallelism and Lightning save a model under names with their own prefix; the
library finds none of its weights then, and says only that all of them are missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

from ucurve.registry.tensors.stored_tensor import RegistrationError, Tensor
from ucurve.registry.tensors.tensor_names import PREFIX, PREFIXES

# Part of a name: what puts it there. Those of the second table are wrappers only in front.
WITHIN = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
IN_FRONT = {
    "module": "data parallelism or DeepSpeed",
    "_forward_module": "Lightning",
    "pretrained_model": "the value head of TRL",
    "state_dict": "a trainer",
}
BODIES = (*dict.fromkeys((PREFIX, *PREFIXES.values())), "lm_head", "embed_out")
LIGHTNING = re.compile(rf"model\.({'|'.join(BODIES)})\.")
ADAPTED = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|base_layer)\.|^base_model\.model\.")
OTHERS = (
    (
        re.compile(r"(.*\.)?_?flat_param(_\d+)?"),
        "as a shard of FSDP does",
        "save with state_dict_type FULL_STATE_DICT",
    ),
    (
        re.compile(r"(model\.)?(tok_embeddings\.weight|layers\.\d+\.attention\.w[qkvo]\.weight)"),
        "as Meta's and Mistral's code does",
        "convert them with transformers' convert_llama_weights_to_hf.py",
    ),
    (
        re.compile(r"(model\.)?transformer\.blocks\.\d+\.(att_proj|ff_proj|attn_out)\.weight"),
        "as the code of OLMo does",
        "run its scripts/convert_olmo_to_hf_new.py, or use the repository whose name ends in -hf",
    ),
    (
        re.compile(r"(transformer\.h\.\d+\.attn\.attn|transformer\.h\.\d+\.norm_1)\.weight"),
        "as LitGPT does",
        "run `litgpt convert_from_litgpt DIR NEW_DIR`",
    ),
)


def expect_plain_names(names: Collection[str]) -> None:
    """Raise RegistrationError where tensors have names that no class of transformers gives them.

    names: of the tensors in all files.
    """
    for name in sorted(names):
        if ADAPTED.search(name):
            raise RegistrationError(
                f"the weights hold {name}, a part of an adapter that was not merged: "
                "model.merge_and_unload().save_pretrained(NEW_DIR)"
            )
        first, *parts = name.split(".")
        wrapper = IN_FRONT.get(first) or WITHIN.get(first)
        if wrapper:
            raise RegistrationError(_wrapped(name, first, wrapper))
        for part in filter(WITHIN.get, parts):
            raise RegistrationError(_wrapped(name, part, WITHIN[part]))
        for pattern, program, remedy in OTHERS:
            if pattern.fullmatch(name):
                raise RegistrationError(f"the weights name {name} {program}: {remedy}")
    if names and all(map(LIGHTNING.match, names)):
        raise RegistrationError(_wrapped(min(names), "model", "Lightning"))


def expect_whole(tensors: Mapping[str, Tensor]) -> None:
    """Raise RegistrationError where most tensors are empty: the numbers were saved elsewhere."""
    empty = [name for name, tensor in tensors.items() if math.prod(tensor.shape) < 2]
    if 2 * len(empty) > len(tensors):
        raise RegistrationError(
            f"{len(empty)} of {len(tensors)} tensors are empty, such as {empty[0]}, as DeepSpeed "
            "ZeRO 3 leaves them: run `python zero_to_fp32.py DIR DIR`, or train with "
            "stage3_gather_16bit_weights_on_model_save"
        )


def _wrapped(name: str, part: str, wrapper: str) -> str:
    return (
        f"the weights are called {name}, with {part!r} of {wrapper} in their names: call "
        "save_pretrained(DIR) of the model inside, or save the tensors without it, "
        f"{{name.replace('{part}.', '', 1): tensor for name, tensor in tensors.items()}}"
    )
