"""Import what measuring needs, before there is anything to measure: 4 of a worker's first 5 s."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "ucurve.modeling.checkpoints",
    "ucurve.modeling.finetune",
    "ucurve.modeling.perplexity",
    "ucurve.modeling.perturb",
    "ucurve.modeling.pretrain",
    "ucurve.modeling.trial",
    "transformers.models.auto.modeling_auto",  # transformers imports lazily, at the first use
    "transformers.models.gpt_neox.modeling_gpt_neox",
)


def preload() -> None:
    """Import torch, the model classes and our modules on tensors.

    Initializes no device: CUDA_VISIBLE_DEVICES may still change.
    """
    for name in MODULES:
        import_module(name)
