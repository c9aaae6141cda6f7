"""Weights are compared by their values: what registration says of copies, mixtures and `main`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from db_helpers import pass_trials
from fastapi.testclient import TestClient
from weights_cases import Weights, initial, trained, write

from ucurve.experiments.checkpoint_selection import initialisations
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.registry.tensors.weights_content import WeightsContent
from ucurve.registry.weights_remarks import weights_remarks


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app

        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def register(api: TestClient, folder: Path) -> Suite:
    body = {"name": folder.name, "path": str(folder), "tokens_per_step": 100}
    answer = api.post("/v1/suites", json=body)
    assert answer.status_code in (200, 201), answer.text
    said = Suite.model_validate(answer.json()).remarks
    pass_trials()
    suite = Suite.model_validate(api.get(f"/v1/suites/{folder.name}").json())
    assert not [c.unresolved for c in suite.checkpoints if c.unresolved]
    assert suite.remarks == said, "the answer of the registration has them"
    return suite


def remarks(api: TestClient, folder: Path) -> list[str]:
    """Register a folder; return its remarks, which must be among its warnings."""
    suite = register(api, folder)
    messages = [remark.message for remark in suite.remarks]
    assert set(messages) <= set(suite.warnings)
    return messages


COPIES: dict[str, dict[str, Any]] = {
    "metadata": {"metadata": {"a": "1", "b": "2", "c": "3"}},
    "shards": {"shards": 3},
    "shards-and-fp16": {"shards": 2, "dtype": "float16"},
    "bf16": {"dtype": "bfloat16"},
    "float64": {"dtype": "float64"},
    "pickle": {"suffix": "bin"},
    "pickled-shards": {"suffix": "bin", "shards": 2},
    "pickle-in-fp16": {"suffix": "bin", "dtype": "float16"},
}


@pytest.mark.parametrize("name", COPIES)
def test_the_same_tensors_in_other_files_are_the_same_weights(
    api: TestClient, tmp_path: Path, name: str
) -> None:
    weights, suite = trained(1), tmp_path / f"copies-{name}"
    write(suite / "step1000", weights)
    write(suite / "step2000", trained(2))
    write(suite / "step3000", weights, **COPIES[name])
    (message,) = remarks(api, suite)
    rounded = "16" in str(COPIES[name])
    how = "once rounded to 16 bits" if rounded else "in different files"
    assert message.startswith(f"step1000 and step3000 have identical weights {how}: not all")


def test_fp16_weights_are_those_of_their_exact_copy_in_fp32(
    api: TestClient, tmp_path: Path
) -> None:
    half = {name: v.astype(np.float16).astype(np.float32) for name, v in trained(1).items()}
    write(tmp_path / "exact" / "step1000", half, "float16")
    write(tmp_path / "exact" / "step2000", half)
    (message,) = remarks(api, tmp_path / "exact")
    assert message.startswith("step1000 and step2000 have identical weights in different files")


def test_buffers_and_tied_tensors_that_a_format_leaves_out_make_no_difference(
    api: TestClient, tmp_path: Path
) -> None:
    weights = trained(1)
    extra: Weights = {
        "gpt_neox.layers.0.attention.masked_bias": np.float32([-1e9]),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": np.arange(8, dtype=np.float32),
        "tied.weight": weights["embed_out.weight"].copy(),
    }
    write(tmp_path / "buffers" / "step1000", {**weights, **extra})
    write(tmp_path / "buffers" / "step2000", weights)
    (message,) = remarks(api, tmp_path / "buffers")
    assert message.startswith("step1000 and step2000 have identical weights in different files")


def test_a_transposed_tensor_of_a_pickle_has_the_values_of_its_copy(
    api: TestClient, tmp_path: Path
) -> None:
    weights, suite = trained(1), tmp_path / "transposed"
    write(suite / "step1000", weights, suffix="bin")
    tensors = torch.load(suite / "step1000" / "pytorch_model.bin")
    tied = "embed_out.weight"
    tensors[tied] = tensors[tied].T.contiguous().T
    torch.save({**tensors, "tied.weight": tensors[tied]}, suite / "step1000" / "pytorch_model.bin")
    write(suite / "step2000", weights)
    (message,) = remarks(api, suite)
    assert message.startswith("step1000 and step2000 have identical weights in different files")


def test_different_weights_raise_no_remark(api: TestClient, tmp_path: Path) -> None:
    write(tmp_path / "fine" / "step0", initial(0))
    for step in (1000, 2000, 3000):
        write(tmp_path / "fine" / f"step{step}", trained(step))
    write(tmp_path / "fine" / "main", trained(3000), metadata={"framework": "x", "by": "y"})
    assert remarks(api, tmp_path / "fine") == []


def test_a_checkpoint_with_a_shard_of_another_says_how_much_they_share(
    api: TestClient, tmp_path: Path
) -> None:
    suite, last = tmp_path / "mixed", trained(3)
    write(suite / "step1000", trained(1), shards=2)
    write(suite / "step2000", trained(2), shards=2)
    write(suite / "step3000", last, shards=2)
    shard = "model-00002-of-00002.safetensors"
    (suite / "step2000" / shard).write_bytes((suite / "step3000" / shard).read_bytes())
    (message,) = remarks(api, suite)
    num, total = len(list(last)[1::2]), len(last)
    assert message.startswith(f"step2000 shares {num} of {total} tensors with step3000: a part")


def test_tensors_that_never_change_are_said_to_be_untrained(
    api: TestClient, tmp_path: Path
) -> None:
    frozen = {"gpt_neox.embed_in.weight": initial(0)["gpt_neox.embed_in.weight"]}
    for step in (1000, 2000, 3000):
        write(tmp_path / "frozen" / f"step{step}", {**trained(step), **frozen})
    (message,) = remarks(api, tmp_path / "frozen")
    total = len(trained(1))
    assert message == (
        f"1 of {total} tensors are the same in all 3 different revisions: they were not trained."
    )


def mean(*several: Weights) -> Weights:
    return {
        name: np.mean([weights[name] for weights in several], axis=0).astype(np.float32)
        for name in several[0]
    }


MAINS = {
    "an-earlier-step": (
        trained(2000),
        "main has the weights of step2000, not of the last step, step4000.",
    ),
    "an-average": (
        mean(trained(3000), trained(4000)),
        "main has the weights of no step: it is the average of step3000 and step4000.",
    ),
    "an-average-of-3": (
        mean(trained(2000), trained(3000), trained(4000)),
        "main has the weights of no step: it is the average of step2000, step3000 and step4000.",
    ),
    "another": (trained(9), "main has the weights of no step: perhaps an average."),
}


@pytest.mark.parametrize("name", MAINS)
def test_a_main_that_is_not_the_last_step_is_said_to_be_so(
    api: TestClient, tmp_path: Path, name: str
) -> None:
    weights, expected = MAINS[name]
    for step in (1000, 2000, 3000, 4000):
        write(tmp_path / f"main-{name}" / f"step{step}", trained(step))
    write(
        tmp_path / f"main-{name}" / "main", weights, dtype="float16" if "of" in name else "float32"
    )
    assert remarks(api, tmp_path / f"main-{name}") == [expected]


def test_seeds_that_start_from_one_initialisation_are_not_accused(
    api: TestClient, tmp_path: Path
) -> None:
    for seed in (0, 1):
        write(tmp_path / "seeds" / f"seed{seed}-step0", initial(0), metadata={"a": str(seed)})
        write(tmp_path / "seeds" / f"seed{seed}-step1000", trained(seed))
    assert remarks(api, tmp_path / "seeds") == [
        "seed0-step0 and seed1-step0 have identical weights: these runs start alike."
    ]


def test_what_a_hub_says_of_files_is_compared_before_any_download() -> None:
    shards = {
        "step1000": ("a", "b"), "step2000": ("c", "z"), "step3000": ("y", "z"), "step0": ("y", "z")
    }  # fmt: skip
    checkpoints = [
        Checkpoint(
            suite="s", revision=name, step=int(name[4:]), tokens=int(name[4:]),
            location=Location(scheme="hub", path="a/b", commit=name),
            weights_sha256="".join(hashes),
        )
        for name, hashes in shards.items()
    ]  # fmt: skip
    contents = {
        "".join(hashes): WeightsContent(files=dict(zip(("1.bin", "2.bin"), hashes, strict=True)))
        for hashes in shards.values()
    }
    same, shared, start = (r.message for r in weights_remarks(checkpoints, contents))
    assert same.startswith("step0 and step3000 have identical weights: not all")
    assert shared.startswith("step0 shares 1 of 2 files with step2000: a part of one")
    assert start.startswith("step0 is not an initialisation: it has the weights of step3000.")


def test_a_phase_that_starts_from_the_last_step_is_not_accused(
    api: TestClient, tmp_path: Path
) -> None:
    for step in (1000, 2000):
        write(tmp_path / "phases" / f"step{step}", trained(step))
    write(tmp_path / "phases" / "anneal-step0", trained(2000), metadata={"phase": "2"})
    write(tmp_path / "phases" / "anneal-step500", trained(2500))
    write(tmp_path / "phases" / "main", trained(2500), metadata={"a": "b"})
    assert remarks(api, tmp_path / "phases") == []


def with_gain(name: str) -> Weights:
    gains = np.linspace(0.5, 1.5, 64, dtype=np.float32)
    return {**initial(5), f"gpt_neox.final_layer_norm.{name}": gains}


STARTS = {
    "a-later-step": (trained(1000), "it has the weights of step1000"),
    "a-shard-of-a-later-step": (
        {**initial(5), "embed_out.weight": trained(1000)["embed_out.weight"]},
        "it shares tensors with step1000",
    ),
    "trained": (trained(7), "gpt_neox.final_layer_norm.bias is not 0"),
    "gains": (
        with_gain("weight"), "gpt_neox.final_layer_norm.weight, the gain of a norm, is not 1"
    ),
    "biases": (with_gain("bias"), "gpt_neox.final_layer_norm.bias is not 0"),
    "unequal-rows": (
        {n: v if v.ndim > 1 else initial(0)[n] for n, v in trained(7).items()},
        "matrices differ in size, as in training",
    ),
    "another-spread": (
        initial(5, spread=0.3), "another spread than initializer_range 0.02 of its config gives"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STARTS)
def test_a_step_0_that_is_no_initialisation_is_not_used_for_init_std(
    api: TestClient, tmp_path: Path, name: str
) -> None:
    weights, reason = STARTS[name]
    suite = tmp_path / f"start-{name}"
    write(suite / "step0", weights)
    for step in (1000, 2000):
        write(suite / f"step{step}", trained(step))
    registered = register(api, suite)
    assert initialisations(registered) == []
    found = [r for r in registered.remarks if r.kind == "initialisation"]
    assert [r.revisions[0] for r in found] == ["step0"]
    assert found[0].message.startswith("step0 is not an initialisation: ")
    assert reason in found[0].message
    assert "scale init_std takes sigma from the initialiser of the config" in found[0].message


@pytest.mark.parametrize("spread", [0.02, 0.125 / 64**0.5 * 8, (2 / (5 * 64)) ** 0.5])
def test_initialisers_in_use_are_taken_for_what_they_are(
    api: TestClient, tmp_path: Path, spread: float
) -> None:
    suite = tmp_path / f"drawn-{spread:.4f}"
    write(suite / "step0", initial(5, spread), "float16")
    write(suite / "step1", initial(5, spread), "float16", metadata={"warmup": "rate 0"})
    write(suite / "step1000", trained(1))
    registered = register(api, suite)
    assert [r.kind for r in registered.remarks] == ["same_weights"]
    assert [c.revision for c in initialisations(registered)] == ["step0"]
