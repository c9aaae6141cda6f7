"""Architectures from registration to the result, in a lab with a worker."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import architectures
import pytest
import torch
from running_lab import Lab

from ucurve.client import RequestRejectedError
from ucurve.registry.suites import Suite

SHARED_LAB = True


def ready(lab: Lab, name: str) -> Suite:
    """The suite once a worker has tried it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        suite = {suite.name: suite for suite in lab.client.suites()}[name]
        if not any(checkpoint.is_pending for checkpoint in suite.checkpoints):
            return suite
        time.sleep(0.2)
    raise AssertionError(suite)


@pytest.mark.parametrize("family", ["mamba", "gpt2"])
def test_a_suite_of_another_architecture_is_registered_tried_planned_and_measured(
    lab: Lab, family: str, tmp_path: Path
) -> None:
    for step in (1000, 2000):
        architectures.save(family, tmp_path / f"step{step}", seed=step)
    lab.client.add_suite(family, str(tmp_path), tokens_per_step=1000)
    suite = ready(lab, family)
    assert {checkpoint.unresolved for checkpoint in suite.checkpoints} == {None}
    spec = {
        "kind": "gaussian_perturbation",
        "suite": family,
        "evaluation": "tiny-held-out",
        "gammas": [0.1],
        "draws": 1,
        "scale": "all",
        "by_layer": True,
    }
    done = lab.client.wait(lab.client.submit(spec).id, timeout=240)
    assert done.state == "done", done
    table = lab.client.table(done.id)
    assert set(table["state"]) == {"done"}
    matched = table[table["scale"] == "matched_displacement"]
    assert matched["relative_change"].tolist() == pytest.approx([0.1] * len(matched), rel=1e-6)
    layers = {"embedding", "layer 0", "layer 1"}
    assert set(matched["group"]) == {"all", *layers}
    cells = lab.client.figures(done.id)["by_layer"].datasets["cells"]
    shown = {(cell["scale"], cell["part"]) for cell in cells if cell["y"] is not None}
    assert shown == {
        *itertools.product(("current_std", "init_std", "matched_displacement"), layers),
        ("current_std", "final norm"),
    }


def test_a_model_that_no_worker_can_run_is_refused_at_registration_in_words(
    lab: Lab, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 64}
    config = architectures.AutoConfig.for_model("stablelm", **shape)  # 32 key heads by default
    architectures.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "step1000")
    lab.client.add_suite("unrunnable", str(tmp_path), tokens_per_step=1000)
    suite = ready(lab, "unrunnable")
    assert "its model cannot be run" in (suite.checkpoints[0].unresolved or "")
    assert any("its model cannot be run" in warning for warning in suite.warnings)
    spec = {"kind": "gaussian_perturbation", "suite": "unrunnable", "evaluation": "tiny-held-out"}
    with pytest.raises(RequestRejectedError, match="its model cannot be run"):
        lab.client.plan(spec)
