"""Trials: a worker builds and runs each model once at registration, and says what fails there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import architectures
import pytest
import torch
from fake_hub import FakeHub, serving
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file
from sqlalchemy import text
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertLMHeadModel

from db import trials
from db.session import open_session
from ucurve.modeling import trial
from ucurve.modeling.checkpoints import CheckpointError, load
from ucurve.modeling.trial import try_checkpoint
from ucurve.registry.file_remarks import file_remarks
from ucurve.registry.structure import structure_sha256
from ucurve.registry.suite_warnings import suite_warnings
from worker.trials import try_one


def saved(family: str, folder: Path, **config: Any) -> Path:
    """A random model of a family; `config` replaces fields of its config.json, None removes one."""
    architectures.save(family, folder)
    path = folder / "config.json"
    fields = {**json.loads(path.read_text()), **config}
    path.write_text(json.dumps({name: v for name, v in fields.items() if v is not None}))
    return folder


def rewrite(folder: Path, change: dict[str, str | None]) -> None:
    """Rename tensors of a folder, or drop them."""
    tensors = load_file(folder / "model.safetensors")
    renamed = {change.get(name, name): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in renamed.items() if name is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def reason_of(folder: Path) -> str:
    """Why the folder's checkpoint cannot be used: from registration, else from its trial."""
    checkpoint = architectures.registered(folder)
    if checkpoint.unresolved:
        return checkpoint.unresolved
    with pytest.raises(CheckpointError) as error:
        try_checkpoint(checkpoint)
    return str(error.value)


# ---- what a trial says


@pytest.mark.parametrize("family", ["gpt2", "mamba", "gemma2", "jamba", "mixtral"])
@pytest.mark.parametrize("largest", [trial.MAX_RUN, 1], ids=["run", "too large to be run"])
def test_a_trial_learns_what_loading_the_model_shows(
    family: str, largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "MAX_RUN", largest)
    checkpoint = architectures.registered(saved(family, tmp_path / family / "step1"))
    facts = try_checkpoint(checkpoint)
    model = load(checkpoint, "cpu", tmp_path).model
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    assert facts.parameters == shapes
    assert facts.architecture == type(model).__name__
    assert facts.attention == model.config._attn_implementation
    assert facts.run == (largest > 1)


CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "more key heads than stored": ("stablelm", {"num_key_value_heads": 32}, "262,784 weights"),
    "a model type of the future": ("llama", {"model_type": "llama9"},
        "has no model_type 'llama9'; correct"),
    "no model type": ("llama", {"model_type": None}, "config.json: model_type is missing"),
    "code in the repository": ("llama", {"auto_map": {"AutoModelForCausalLM": "m.M"}}, "auto_map"),
    "an unknown activation": ("llama", {"hidden_act": "mystery"},
        "no hidden_act 'mystery'; correct"),
    "a vocabulary smaller than the embedding": ("llama", {"vocab_size": 500},
        r"vocab_size 500, but the embedding model\.embed_tokens\.weight has 512 rows: set "),
    "a larger vocabulary": ("gpt_neox", {"vocab_size": 600},
        r"600 words \(vocab_size\), but the largest side .* 512: copy the config"),
    "a vocabulary of tied weights": ("gpt2", {"vocab_size": 300},
        r"vocab_size 300, but the embedding transformer\.wte\.weight has 512 rows"),
    "a smaller model": ("llama", {"intermediate_size": 16},
        r"asks for model\.layers\.0\.mlp\..* of .*16.*, while the files hold .*: copy the config"),
    "fewer layers than the file holds": ("gpt2", {"n_layer": 1}, r"layers 0 to 0.*h\.1\."),
    "more layers than the file holds": ("llama", {"num_hidden_layers": 3}, "weights"),
    "heads that do not divide the width": ("gpt2", {"n_head": 5}, "n_?heads|num_heads|divisible"),
    "another kind of model": ("llama", {"model_type": "vit"},
        "no causal language model of model_type 'vit'"),
}  # fmt: skip


@pytest.mark.parametrize(("family", "config", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_config_that_no_worker_can_build_is_found_before_anything_is_planned(
    family: str, config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    found = reason_of(saved(family, tmp_path / "m" / "step1", **config))
    assert re.search(reason, found), found
    for words in ("ignore_mismatched_sizes", "Unrecognized", "/ucurve-", "AutoModel"):
        assert words not in found, "words of the library, or a temporary folder"


def test_a_model_that_is_complete_and_cannot_be_run_is_found_before_anything_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """StableLM's default of 32 key heads, with 4 heads: the library saves and loads it."""
    shape = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 64}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("stablelm", **shape))
    model.save_pretrained(tmp_path / "m" / "step1")
    load(architectures.registered(tmp_path / "m" / "step1"), "cpu", tmp_path)
    assert "its model cannot be run as config.json describes it: RuntimeError" in reason_of(
        tmp_path / "m" / "step1"
    )


def test_tensors_under_other_names_are_found_before_anything_is_planned(tmp_path: Path) -> None:
    folder = saved("gpt2", tmp_path / "m" / "step1")
    rewrite(folder, {"transformer.h.1.mlp.c_fc.weight": "transformer.h.1.mlp.fc.weight"})
    assert "lacks weights that its config requires: transformer.h.1.mlp.c_fc.weight" in (
        reason_of(folder)
    )


def test_a_model_that_reads_the_tokens_it_predicts_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertLMHeadModel(BertConfig(vocab_size=64, intermediate_size=64, **shape))
    model.save_pretrained(tmp_path / "bert" / "step1")
    assert "no causal language model" in reason_of(tmp_path / "bert" / "step1")


def test_a_tokenizer_that_cannot_be_read_is_found_before_anything_is_planned(
    tmp_path: Path,
) -> None:
    folder = saved("gpt2", tmp_path / "m" / "step1")
    (folder / "tokenizer.json").write_text('{"model": {"type": "Mystery", "vocab": {}}}')
    assert "its tokenizer.json cannot be read by tokenizers " in (reason := reason_of(folder))
    assert "copy it again" in reason


@pytest.mark.parametrize(("added", "warned"), [(511, False), (512, True), (50_000, True)])
def test_a_tokenizer_that_is_larger_than_its_model_is_said_at_registration(
    added: int, warned: bool, tmp_path: Path
) -> None:
    folder = saved("llama", tmp_path / "m" / "step1")
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    token = {"id": added, "content": "<pad>"}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": [token]}))
    checkpoint = architectures.registered(folder)
    assert checkpoint.unresolved is None, "texts without these tokens can be measured"
    told = suite_warnings([checkpoint], file_remarks([checkpoint]))
    expected = f"tokens up to {added:,}, and its model knows 512 (vocab_size)"
    assert [expected in warning for warning in told if "its tokenizer" in warning] == [
        True
    ] * warned
    assert file_remarks([checkpoint]) == [], "not beside each number"


def test_one_trial_answers_for_all_checkpoints_that_differ_in_values_only(tmp_path: Path) -> None:
    hashes = []
    for step, seed in ((1, 0), (2, 1), (3, 0)):
        folder = tmp_path / "m" / f"step{step}"
        architectures.save("gpt2", folder, seed)
        if step == 3:
            rewrite(folder, {"transformer.ln_f.bias": "transformer.final.bias"})
        hashes.append(structure_sha256(architectures.registered(folder)))
    assert hashes[0] == hashes[1] != hashes[2]
    assert None not in hashes


# ---- from registration to the plan, in the database


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app

        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def register(api: TestClient, name: str, folder: Path) -> dict[str, Any]:
    body = {"name": name, "path": str(folder), "tokens_per_step": 1000}
    answer = api.post("/v1/suites", json=body)
    assert answer.status_code < 300, answer.text
    suite: dict[str, Any] = answer.json()
    return suite


def problem(api: TestClient, suite: str, **fields: Any) -> dict[str, Any]:
    """What is wrong with a plan for the suite: field and detail; empty where nothing is."""
    spec = {"kind": "gaussian_perturbation", "suite": suite, "gammas": [0.1], "draws": 1}
    answer = api.post("/v1/plan", json={"spec": {**spec, "evaluation": "held-out", **fields}})
    return {} if answer.status_code == 200 else answer.json()["errors"][0]


@pytest.fixture(scope="module")
def held_out(api: TestClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    from api.registration import register_dataset
    from ucurve.registry.suites import Dataset

    with open_session() as session:
        language = {"language": 0, "split": "held-out", "version": 1, "rows": 8, "context": 64}
        dataset = Dataset(name="held-out", kind="language", parameters=language, sha256="e")
        register_dataset(session, dataset, "")
        session.commit()


@pytest.mark.usefixtures("held_out")
def test_a_suite_waits_for_a_worker_to_try_it_and_says_so_until_it_can_be_planned(
    api: TestClient, tmp_path: Path
) -> None:
    for step, seed in ((1000, 0), (2000, 1)):
        architectures.save("opt", tmp_path / f"step{step}", seed)
    suite = register(api, "waiting", tmp_path)
    reasons = {checkpoint["unresolved"] for checkpoint in suite["checkpoints"]}
    assert len(reasons) == 1
    assert "being tried: waiting for a worker" in (reason := reasons.pop())
    assert "No worker is running. Start one: `ucurve up`" in reason
    assert any("No worker is running" in warning for warning in suite["warnings"])
    refused = problem(api, "waiting")
    assert refused["pointer"] == "/spec/suite"
    assert "No worker is running" in refused["detail"]

    assert try_one("w") is True
    assert try_one("w") is False, "one trial answers for both"
    tried = api.get("/v1/suites/waiting").json()
    assert [c["unresolved"] for c in tried["checkpoints"]] == [None, None]
    assert {c["architecture"] for c in tried["checkpoints"]} == {"OPTForCausalLM"}
    assert problem(api, "waiting", scale="init_std") == {}, "its config says init_std"
    again = register(api, "waiting", tmp_path)
    assert [c["unresolved"] for c in again["checkpoints"]] == [None, None], "known already"
    assert register(api, "same", tmp_path)["checkpoints"][0]["unresolved"] is None


def test_what_the_files_show_is_said_before_a_worker_has_tried_the_model(
    api: TestClient, tmp_path: Path
) -> None:
    for step in (1000, 2000):
        saved("llama", tmp_path / f"step{step}", hidden_size=48)
    shard = "model-00001-of-00001.safetensors"
    shutil.copy(tmp_path / "step1000" / "model.safetensors", tmp_path / "step2000" / shard)
    suite = register(api, "leftover", tmp_path)
    assert all("being tried" in checkpoint["unresolved"] for checkpoint in suite["checkpoints"])
    assert [remark["kind"] for remark in suite["remarks"]] == ["same_weights", "files"]
    assert any(f"{shard} of another save" in warning for warning in suite["warnings"])
    while try_one("w"):  # nothing waits when the next test begins
        pass


@pytest.mark.usefixtures("held_out")
def test_what_fails_in_a_trial_is_the_reason_everywhere_and_can_be_tried_again(
    api: TestClient, tmp_path: Path
) -> None:
    saved("llama", tmp_path / "step1000", hidden_act="mystery")
    register(api, "broken", tmp_path)
    assert try_one("w")
    suite = api.get("/v1/suites/broken").json()
    assert "mystery" in suite["checkpoints"][0]["unresolved"]
    assert any("mystery" in warning for warning in suite["warnings"])
    assert "mystery" in problem(api, "broken")["detail"]
    assert register(api, "broken", tmp_path)["checkpoints"][0]["unresolved"].startswith("being")
    saved("llama", tmp_path / "step1000")
    register(api, "broken", tmp_path)
    while try_one("w"):
        pass
    assert problem(api, "broken") == {}


@pytest.mark.usefixtures("held_out")
def test_noise_relative_to_an_unknown_initialisation_is_refused_in_the_plan(
    api: TestClient, tmp_path: Path
) -> None:
    saved("recurrent_gemma", tmp_path / "step1000")
    register(api, "recurrent", tmp_path)
    assert try_one("w")
    for scale in ("init_std", "both"):
        refused = problem(api, "recurrent", scale=scale)
        assert refused["pointer"] == "/spec/scale"
        assert "none of initializer_range, init_std" in refused["detail"]
        assert 'use the noise scale "current_std"' in refused["detail"]
    assert problem(api, "recurrent", scale="current_std") == {}


def test_a_trial_survives_the_death_of_its_workers_and_gives_up_after_three(
    api: TestClient, tmp_path: Path
) -> None:
    saved("phi", tmp_path / "step1000")
    register(api, "deadly", tmp_path)
    for _ in range(trials.MAX_TRIES):
        with open_session() as session:
            row = trials.claim(session, "doomed")
            assert row is not None, "its predecessor's claim has expired"
            session.commit()
        with open_session() as session:
            assert trials.claim(session, "other") is None, "one worker at a time"
            trials.expire(session, "doomed")
            session.commit()
    assert try_one("w") is False
    suite = api.get("/v1/suites/deadly").json()
    assert "3 workers died while trying it" in suite["checkpoints"][0]["unresolved"]
    register(api, "deadly", tmp_path)
    assert try_one("w") is True
    assert api.get("/v1/suites/deadly").json()["checkpoints"][0]["unresolved"] is None


def test_a_lease_that_ran_out_is_claimed_by_another_worker(api: TestClient, tmp_path: Path) -> None:
    saved("falcon", tmp_path / "step1000")
    register(api, "slow", tmp_path)
    with open_session() as session:
        row = trials.claim(session, "gone")
        assert row is not None
        past = text("UPDATE structures SET next_try = now() - interval '1 s' WHERE sha256 = :sha")
        session.execute(past, {"sha": row.structure})
        session.commit()
    assert try_one("w")
    assert api.get("/v1/suites/slow").json()["checkpoints"][0]["unresolved"] is None


def test_a_model_of_the_hub_is_tried_without_a_download_when_the_hub_answers(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.background import hashing

    saved("gpt_neo", tmp_path / "step1")
    files = {path.name: path.read_bytes() for path in (tmp_path / "step1").iterdir()}
    with serving(FakeHub({"models/lab/neo": {"step1": files}})) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr("api.routes.suites.start_hashing", lambda: None)
        api.post("/v1/suites", json={"name": "neo", "hub": "lab/neo"})
        hashing._hash_all()
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert try_one("w") is True
        waiting = api.get("/v1/suites/neo").json()["checkpoints"][0]["unresolved"]
        assert waiting.startswith("being tried: waiting for the hub")
        assert try_one("w") is False, "not at once again"
        with open_session() as session:
            session.execute(text("UPDATE structures SET next_try = NULL WHERE state = 'waiting'"))
            session.commit()
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert try_one("w") is True
    checkpoint = api.get("/v1/suites/neo").json()["checkpoints"][0]
    assert (checkpoint["unresolved"], checkpoint["architecture"]) == (None, "GPTNeoForCausalLM")
