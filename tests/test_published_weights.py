"""Weights that are not what they claim, as public threads report them: said at registration.

Beside each case stands the public place that shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from weights_cases import Weights, trained, write

from ucurve.registry import hashing
from ucurve.registry.file_remarks import file_remarks
from ucurve.registry.suites import Checkpoint, Location
from ucurve.registry.tensors.weights_content import WeightsContent
from ucurve.registry.weights_remarks import weights_remarks


@pytest.fixture(autouse=True)
def readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UCURVE_MODELS", str(tmp_path))


def resolved(folder: Path, contents: dict[str, WeightsContent]) -> Checkpoint:
    step = None if folder.name == "main" else int(folder.name.removeprefix("step"))
    location = Location(scheme="path", path=str(folder))
    tokens = None if step is None else step * 100
    checkpoint = Checkpoint(
        suite="s", revision=folder.name, step=step, tokens=tokens, location=location
    )
    return hashing.resolve(checkpoint, folder, contents=contents)


def remarks(*folders: Path) -> list[str]:
    """What registration says of the weights of a suite."""
    contents: dict[str, WeightsContent] = {}
    checkpoints = [resolved(folder, contents) for folder in folders]
    assert not [c.unresolved for c in checkpoints if c.unresolved]
    return [remark.message for remark in weights_remarks(checkpoints, contents)]


def bare(weights: Weights) -> Weights:
    return {name.removeprefix("gpt_neox."): value for name, value in weights.items()}


def in_transformers_5(weights: Weights) -> Weights:
    return {name.replace("embed_out.", "lm_head."): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("shards", "spelled"),
    [
        (5, dict),  # huggingface/transformers, another max_shard_size
        (1, bare),  # huggingface/transformers pull request 3143: saved by the body alone
        (2, in_transformers_5),  # EleutherAI/pythia under two releases of transformers
    ],
    ids=["other-shards", "without-prefix", "other-release"],
)
def test_copies_under_other_names_and_shards_are_the_same_weights(
    tmp_path: Path, shards: int, spelled: Callable[[Weights], Weights]
) -> None:
    write(tmp_path / "step1000", trained(1), shards=2)
    write(tmp_path / "step2000", spelled(trained(1)), shards=shards)
    (message,) = remarks(tmp_path / "step1000", tmp_path / "step2000")
    assert message.startswith("step1000 and step2000 have identical weights in different files")


def test_the_format_before_torch_1_6_holds_the_same_weights(tmp_path: Path) -> None:
    """pytorch/pytorch, `_use_new_zipfile_serialization=False` of older trainers."""
    write(tmp_path / "step1000", trained(1))
    write(tmp_path / "step2000", trained(1), suffix="bin")
    path = tmp_path / "step2000" / "pytorch_model.bin"
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=False)
    (message,) = remarks(tmp_path / "step1000", tmp_path / "step2000")
    assert message.startswith("step1000 and step2000 have identical weights in different files")


def test_a_vocabulary_that_was_padded_later_shares_all_else(tmp_path: Path) -> None:
    """huggingface/transformers, resize_token_embeddings(pad_to_multiple_of=...)."""
    weights = trained(1)
    padded = dict(weights)
    for name in ("gpt_neox.embed_in.weight", "embed_out.weight"):
        padded[name] = np.concatenate([weights[name], np.zeros((16, 64), np.float32)])
    write(tmp_path / "step1000", weights)
    write(tmp_path / "step2000", padded, vocab_size=528)
    (message,) = remarks(tmp_path / "step1000", tmp_path / "step2000")
    assert message.startswith("step1000 shares 26 of 28 tensors with step2000")


def test_a_weighted_average_under_main_is_no_step(tmp_path: Path) -> None:
    """arcee-ai/mergekit, linear merges with weights of their own."""
    for step in (1000, 2000, 3000):
        write(tmp_path / f"step{step}", trained(step))
    merged = {
        name: (0.7 * trained(3000)[name] + 0.3 * trained(2000)[name]).astype(np.float32)
        for name in trained(1)
    }
    write(tmp_path / "main", merged)
    names = ("step1000", "step2000", "step3000", "main")
    (message,) = remarks(*(tmp_path / name for name in names))
    assert message == "main has the weights of no step: perhaps an average."


@pytest.mark.parametrize(("value", "suffix"), [(np.nan, "safetensors"), (np.inf, "bin")])
def test_weights_that_are_not_finite_are_said_at_registration(
    tmp_path: Path, value: float, suffix: str
) -> None:
    """axolotl-ai-cloud/axolotl issue 1191: a run under FSDP saved weights that are NaN."""
    weights = trained(1)
    weights["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"][3, 3] = value
    write(tmp_path / "step1000", weights, suffix=suffix)
    checkpoint = resolved(tmp_path / "step1000", {})
    assert checkpoint.unresolved is None
    said = [remark.message for remark in file_remarks([checkpoint])]
    wanted = "step1000: 1 of 28 tensors hold numbers that are not finite, such as gpt_neox.layers.0"
    assert any(message.startswith(wanted) for message in said), said


@pytest.mark.parametrize("size", [0, 1])
def test_empty_tensors_are_refused_with_what_to_run(tmp_path: Path, size: int) -> None:
    """Saved under DeepSpeed's ZeRO 3 without gathering: huggingface/transformers issue 20082 has
    sizes of 0, deepspeedai/DeepSpeed issue 1394 sizes of 1.
    """
    empty = {name: np.zeros(size, np.float32) for name in trained(1)}
    write(tmp_path / "step1000", empty)
    reason = resolved(tmp_path / "step1000", {}).unresolved or ""
    assert "28 of 28 tensors are empty" in reason
    assert "zero_to_fp32.py" in reason
