"""Why transformers refuses a config or its weights, with the field of config.json to correct."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ucurve.registry.tensors.model_files import SAVED_TOGETHER

COPY = f"{SAVED_TOGETHER}, and register the suite again"
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act")


def refusal(error: Exception, staged: Path, name: str) -> str:
    """Return why the files in a folder cannot be loaded, in our words where they are known.

    name: of the files in messages; the folder is a temporary one.
    """
    fields = json.loads((staged / "config.json").read_text())
    reason = _wrong_field(fields if isinstance(fields, dict) else {})
    if reason is None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[0].replace(str(staged), name).rstrip(".")
        remedy = "" if SAVED_TOGETHER in reason else f": {COPY}"
        return f"{name} cannot be loaded: {reason}{remedy}"
    return f"{name} cannot be loaded: config.json: {reason}"


def _wrong_field(fields: Mapping[str, Any]) -> str | None:
    kind, release = fields.get("model_type"), f"transformers {version('transformers')}"
    if not isinstance(kind, str) or not kind:
        return f"model_type is missing; {COPY}"
    if kind not in CONFIG_MAPPING:
        return (
            f"{release} of this worker has no model_type {kind!r}; correct it, or run workers with "
            "a release that has it"
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return f"{release} has no causal language model of model_type {kind!r}; {COPY}"
    for field in ACTIVATIONS:
        value = fields.get(field)
        if isinstance(value, str) and value not in ACT2FN:
            return f"{release} has no {field} {value!r}; correct it, and register the suite again"
    return None


def misfit(model: PreTrainedModel, info: Mapping[str, Any]) -> str | None:
    """Return which tensors do not fit the config; None where all do.

    info: what `from_pretrained` says of loading with `ignore_mismatched_sizes`.
    """
    if missing := sorted(map(str, info["missing_keys"])):
        return f"it lacks weights that its config requires: {', '.join(missing[:3])}"
    misfits = sorted(
        (str(n), tuple(stored), tuple(asked)) for n, stored, asked in wrong_sizes(info)
    )
    if not misfits:
        return None
    embedding = model.get_input_embeddings()
    own = {n for n, p in model.named_parameters() if embedding and p is embedding.weight}
    for name, stored, asked in misfits:
        if name in own and stored[1:] == asked[1:]:
            return (
                f"config.json has vocab_size {asked[0]:,}, but the embedding {name} has "
                f"{stored[0]:,} rows: set vocab_size to {stored[0]}, and register the suite again"
            )
    name, stored, asked = misfits[0]
    more = f" ({len(misfits)} such tensors)" if misfits[1:] else ""
    return (
        f"config.json asks for {name} of {_size(asked)}, while the files hold "
        f"{_size(stored)}{more}: {COPY}"
    )


def wrong_sizes(info: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
    """Return name, stored and asked shape of the tensors that do not fit."""
    return [(entry[0], entry[1], entry[2]) for entry in info["mismatched_keys"]]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in shape) or "one number"
