"""Try a checkpoint's structure once, before anything is planned: build its model and run it.

    facts = try_checkpoint(checkpoint)        # raises CheckpointError with the reason
    facts.architecture, facts.attention       # "GPT2LMHeadModel", "sdpa"

What is tried is what workers do later, by the same code, on an empty stand-in of the weights: a
file of their names and shapes whose content takes no space on disk. Nothing is downloaded, and a
model too large to be run here is built without memory.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ucurve.modeling.checkpoints import (
    CheckpointError,
    build,
    expect_own_code,
    tokenizer_of,
    unreadable_tokenizer,
)
from ucurve.modeling.perplexity import window_losses
from ucurve.registry.artifacts import folder_of
from ucurve.registry.checkpoint_files import checkpoint_files
from ucurve.registry.hub_cache import HubError, HubUnreachableError
from ucurve.registry.roots import LocationError
from ucurve.registry.structure import described
from ucurve.registry.suites import Checkpoint
from ucurve.registry.tensors.config_words import context_length, initializer_std
from ucurve.registry.tensors.model_files import SAVED_TOGETHER, RegistrationError, Tensor
from ucurve.settings import settings

MAX_RUN = 5 * 10**8  # parameters of a model that is run: 2 GB in fp32
TOKENS = 12
BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}
BYTES["BOOL"] = 1


@dataclass(frozen=True)
class Facts:
    """What a trial learned of a model.

    Attributes:
        architecture: class of transformers.
        attention: implementation that it is built with.
        initializer_std: of matrices, with the defaults of the architecture; None: not stated.
        parameters: shapes by the library's names, tied tensors once.
        run: whether it was run, too; else it is too large for that.
        versions: of the libraries.
    """

    architecture: str
    attention: str
    initializer_std: float | None
    parameters: dict[str, list[int]]
    run: bool
    versions: dict[str, str]


def try_checkpoint(checkpoint: Checkpoint) -> Facts:
    """Return what is learned of a registered checkpoint from its config, tokenizer and headers.

    Raises CheckpointError, and HubUnreachableError where the hub must be asked again.
    """
    try:
        config, tensors = described(checkpoint)
        if checkpoint.location.scheme != "hub" and checkpoint.tokenizer_sha256:
            folder, artefacts = folder_of(checkpoint.location), settings().artefacts
            files = checkpoint_files(folder, artefacts).tokenizer
            tokenizer_of(files, checkpoint.tokenizer_sha256, folder, artefacts)
    except HubUnreachableError:
        raise
    except (CheckpointError, RegistrationError, LocationError, HubError, OSError) as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # of the tokenizers library, which has no class of its own
        raise CheckpointError(unreadable_tokenizer("tokenizer.json", error)) from error
    return try_structure(config, tensors)


def try_structure(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Facts:
    """Return what is learned by building the model, and running it unless it is too large.

    Args:
        config: as config.json has it.
        tensors: all that the files of weights hold; empty where they could not be read: then only
            the config is tried.

    Raises:
        CheckpointError: no worker can measure this model; the message says why.
    """
    expect_own_code(config, "its config")
    try:
        return _try(config, tensors)
    except CheckpointError:
        raise
    except Exception as error:  # any exception of a model's code would fail every point
        message = str(error).strip().splitlines() or [""]
        raise CheckpointError(
            f"its model cannot be run as config.json describes it: {type(error).__name__}: "
            f"{message[0]}. Compare heads, key heads and sizes with the config.json that was saved "
            "with these weights"
        ) from error


def _try(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Facts:
    size = sum(math.prod(tensor.shape) for tensor in tensors.values())
    run = 0 < size <= MAX_RUN
    with tempfile.TemporaryDirectory(prefix="ucurve-") as staged:
        (Path(staged) / "config.json").write_text(json.dumps(config))
        _write_empty(Path(staged) / "model.safetensors", tensors)
        device = "cpu" if run else "meta"
        model = build("its files", Path(staged), True, size, device)
    model.train(False)
    _expect_all_layers(model, tensors)
    if run:
        _run(model)
    return Facts(
        type(model).__name__,
        str(model.config._attn_implementation),
        initializer_std(model.config.to_dict()),
        {name: list(parameter.shape) for name, parameter in model.named_parameters()},
        run,
        {name: version(name) for name in ("torch", "transformers")},
    )


def _write_empty(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file of zeros that takes no space: its content is a hole."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in BYTES:
            raise CheckpointError(f"its files hold numbers of type {tensor.dtype}: {name}")
        start, end = end, end + BYTES[tensor.dtype] * math.prod(tensor.shape)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    described = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(described).to_bytes(8, "little") + described)
        file.truncate(8 + len(described) + end)


def _expect_all_layers(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where the files hold more layers than the config asks for."""
    numbers = [
        int(n) for name, _ in model.named_parameters() for n in re.findall(r"\.(\d+)\.", name)
    ]
    layers = [
        (int(match[1]), name)
        for name in tensors
        if (match := re.search(r"(?:layers|blocks|h)\.(\d+)\.", name))
    ]
    if numbers and layers and max(layers)[0] > max(numbers):
        raise CheckpointError(
            f"its config asks for layers 0 to {max(numbers)}, but its files hold {max(layers)[1]}: "
            f"{SAVED_TOGETHER}"
        )


@torch.no_grad()
def _run(model: PreTrainedModel) -> None:
    """Measure a few tokens as every evaluation does, and expect that no loss sees later tokens."""
    source = torch.Generator().manual_seed(0)  # others may be drawing from the global one
    for parameter in model.parameters():
        parameter.normal_(float(parameter.dim() < 2), 0.1, generator=source)  # gains are about 1
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding), "its model embeds tokens in an unknown way"
    vocabulary = embedding.num_embeddings
    length = min(TOKENS, context_length(model.config.to_dict()) or TOKENS)
    tokens = torch.arange(length) % vocabulary
    window_losses(model, tokens, window=length, stride=length)
    changed = tokens.clone()
    changed[-1] = (changed[-1] + 1) % vocabulary
    first, second = (
        model(input_ids=ids[None], use_cache=False).logits[0, :-1] for ids in (tokens, changed)
    )
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise CheckpointError(
            "its model reads the tokens that it predicts (it is no causal language model), so that "
            "its loss means nothing"
        )
