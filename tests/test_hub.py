"""The hub: revisions are listed, downloads resume where they stopped, the cache keeps its limit."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub, serving
from safetensors.numpy import save as safetensors_bytes

from ucurve.registry import hub, presets
from ucurve.registry.datasets import hub_datasets
from ucurve.registry.hub_cache import IN_USE_SECONDS, HubError, HubUnreachableError, size_of
from ucurve.registry.suites import Checkpoint, Location

REPOSITORY = "EleutherAI/pythia-70m"
WIKITEXT = Path(__file__).parents[2] / "shared" / "data" / "wikitext-2-raw" / "wiki.test.raw"


def weights(seed: int, rows: int = 40_000) -> bytes:
    """Weights of 4 x rows + 4 parameters, and buffers as old checkpoints store them."""
    tensors = {
        "embed.weight": np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32),
        "layers.0.attention.query_key_value.bias": np.zeros(4, np.float16),
        "layers.0.attention.bias": np.ones((1, 1, 8, 8), np.bool_),
        "layers.0.attention.masked_bias": np.full((), -1e4, np.float16),
        "layers.0.attention.rotary_emb.inv_freq": np.ones(2, np.float32),
    }
    return safetensors_bytes(tensors)


def model(seed: int) -> dict[str, bytes]:
    return {
        "config.json": json.dumps({"model_type": "gpt_neox"}).encode(),
        "tokenizer.json": b'{"model": {"vocab": {}}}' + b" " * 1600,
        "model.safetensors": weights(seed),
        "pytorch_model.bin": b"a pickle" * 1000,
        "modeling_evil.py": b"raise SystemExit",
    }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    server = FakeHub(
        {f"models/{REPOSITORY}": {"main": model(9), "step1000": model(1), "step4000": model(4)}}
    )
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


def checkpoint(revision: str, cache: Path) -> Checkpoint:
    commit = hub.revisions(REPOSITORY, cache)[revision]
    return Checkpoint(
        suite="pythia",
        revision=revision,
        location=Location(scheme="hub", path=REPOSITORY, commit=commit),
    )


def test_hashes_come_from_the_hubs_metadata_and_the_weights_stay_there(
    fake: FakeHub, tmp_path: Path
) -> None:
    resolved = hub.resolve(checkpoint("step1000", tmp_path), tmp_path)
    assert resolved.unresolved is None
    assert resolved.weights_sha256 == hashlib.sha256(weights(1)).hexdigest()
    assert resolved.config_sha256 == hashlib.sha256(model(1)["config.json"]).hexdigest()
    assert resolved.tokenizer_sha256 == hashlib.sha256(model(1)["tokenizer.json"]).hexdigest()
    assert resolved.num_parameters == 4 * 40_000 + 4  # the buffers are no parameters
    assert size_of(tmp_path) < 10_000


def test_a_download_holds_config_tokenizer_and_safetensors_and_is_asked_for_once(
    fake: FakeHub, tmp_path: Path
) -> None:
    location = checkpoint("step4000", tmp_path / "hub").location
    seen: list[tuple[float, float]] = []
    folder = hub.download(location, tmp_path, lambda done, total: seen.append((done, total)))
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (folder / "model.safetensors").read_bytes() == weights(4)
    assert (
        seen[-1][0]
        == seen[-1][1]
        == sum(
            len(model(4)[name]) for name in ("config.json", "tokenizer.json", "model.safetensors")
        )
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    fake.requests.clear()
    assert hub.download(location, tmp_path) == folder
    assert fake.requests == []


def test_the_hubs_own_client_reads_the_same_from_this_hub_and_from_our_cache(
    fake: FakeHub, tmp_path: Path
) -> None:
    from huggingface_hub import HfApi, snapshot_download

    official = HfApi(endpoint=hub.endpoint())
    branches = official.list_repo_refs(REPOSITORY).branches
    assert {ref.name: ref.target_commit for ref in branches} == hub.revisions(REPOSITORY, tmp_path)
    location = checkpoint("step1000", tmp_path / "hub").location
    described = (
        official.model_info(REPOSITORY, revision=location.commit, files_metadata=True).siblings
        or []
    )
    ours = hub.remote_files(REPOSITORY, str(location.commit))
    assert {
        file.rfilename: (file.size, file.lfs.sha256 if file.lfs else file.blob_id)
        for file in described
    } == {name: (file.size, file.blob) for name, file in ours.items()}
    folder = hub.download(location, tmp_path)
    found = snapshot_download(
        REPOSITORY, revision=location.commit, cache_dir=tmp_path / "hub", local_files_only=True
    )
    assert Path(found) == folder


def test_pickles_are_fetched_only_where_there_are_no_safetensors(
    fake: FakeHub, tmp_path: Path
) -> None:
    del fake.repositories[f"models/{REPOSITORY}"]["step1000"]["model.safetensors"]
    folder = hub.download(checkpoint("step1000", tmp_path / "hub").location, tmp_path)
    assert (folder / "pytorch_model.bin").is_file()


def test_a_stopped_download_goes_on_where_it_stopped(fake: FakeHub, tmp_path: Path) -> None:
    location = checkpoint("step1000", tmp_path / "hub").location

    class StopError(Exception):
        pass

    def stop(done: float, total: float) -> None:
        if 0.2 * total < done < total:
            raise StopError

    fake.cut = 300_000
    with pytest.raises(StopError):
        hub.download(location, tmp_path, stop)
    fake.requests.clear()
    folder = hub.download(location, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == weights(1)
    begun = [asked for path, asked in fake.requests if path.endswith("model.safetensors")]
    assert begun
    assert all(asked != "bytes=0-" for asked in begun)


def test_a_broken_connection_is_tried_again_and_damage_is_noticed(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.cut = 5
    folder = hub.download(checkpoint("step1000", tmp_path / "hub").location, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == weights(1)
    location = checkpoint("step4000", tmp_path / "hub").location
    partial = folder.parents[1] / "blobs" / f"{hashlib.sha256(weights(4)).hexdigest()}.partial"
    partial.write_bytes(b"x" * 1000)  # what a disk or a second writer may leave
    with pytest.raises(HubError, match="damaged"):
        hub.download(location, tmp_path)
    assert (hub.download(location, tmp_path) / "model.safetensors").read_bytes() == weights(4)


def test_two_workers_download_a_blob_once(fake: FakeHub, tmp_path: Path) -> None:
    location = checkpoint("step1000", tmp_path / "hub").location
    fake.delay = 0.2
    workers = [threading.Thread(target=hub.download, args=(location, tmp_path)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (
        sum(
            path.startswith("/cdn/") and path.endswith("model.safetensors")
            for path, _ in fake.requests
        )
        == 1
    )


def test_the_cap_evicts_what_was_asked_for_longest_ago_and_otherwise_refuses(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.repositories[f"models/{REPOSITORY}"]["step1000"]["config.json"] = b"{}"
    first, second, third = (
        checkpoint(name, tmp_path / "hub").location for name in ("step1000", "step4000", "main")
    )
    old, new = hub.download(first, tmp_path), hub.download(second, tmp_path)
    monkeypatch.setenv("UCURVE_HUB_CACHE_GB", str(2.5 * len(weights(1)) / 1e9))
    with pytest.raises(HubError, match="UCURVE_HUB_CACHE_GB"):
        hub.download(
            third, tmp_path
        )  # both were asked for just now, by workers that may be reading them
    long_ago = time.time() - 2 * IN_USE_SECONDS
    for path in (tmp_path / "hub").rglob("*"):
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    os.utime(old, (long_ago - 1, long_ago - 1))
    assert (hub.download(third, tmp_path) / "model.safetensors").is_file()
    assert not (old / "model.safetensors").exists()
    assert (old / "config.json").is_file()
    assert (new / "model.safetensors").is_file()
    assert size_of(tmp_path / "hub") < 2.5 * len(weights(1))
    monkeypatch.setenv("UCURVE_HUB_CACHE_GB", "0.0001")
    with pytest.raises(HubError, match="raise it"):
        hub.download(first, tmp_path)


def test_a_cache_made_elsewhere_serves_without_a_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache = tmp_path / "hub"
    repository, commit = cache / "models--EleutherAI--pythia-70m", "c" * 40
    for name, data in model(1).items():
        blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = repository / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "step1000").write_text(commit)
    found = checkpoint("step1000", cache)
    assert found.location.commit == commit
    assert hub.resolve(found, cache).weights_sha256 == hashlib.sha256(weights(1)).hexdigest()
    assert hub.download(found.location, tmp_path) == repository / "snapshots" / commit
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE"):
        hub.revisions("EleutherAI/pythia-160m", cache)


def test_what_the_hub_refuses_is_said_in_plain_words(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match="no repository EleutherAI/pythia-71m"):
        hub.revisions("EleutherAI/pythia-71m", tmp_path)
    with pytest.raises(HubError, match="owner/name"):
        hub.revisions("https://hub/x", tmp_path)
    found = checkpoint("step1000", tmp_path)
    del fake.repositories[f"models/{REPOSITORY}"]["step1000"]["config.json"]
    assert hub.resolve(found, tmp_path).unresolved == (
        "cannot be used: no config.json in the revision: copy it from where the model was trained"
    )
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnreachableError, match="cannot be reached"):
        hub.resolve(found, tmp_path)


def test_what_registration_resolved_is_what_the_worker_verifies_and_loads(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from ucurve.modeling.checkpoints import CheckpointError, load, save

    config = GPTNeoXConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
    )
    saved = save(GPTNeoXForCausalLM(config), tmp_path / "made")
    fake.repositories[f"models/{REPOSITORY}"]["step1000"] = {
        path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()
    }
    resolved = hub.resolve(checkpoint("step1000", tmp_path / "hub"), tmp_path / "hub")
    assert (resolved.weights_sha256, resolved.config_sha256) == (
        saved.weights_sha256,
        saved.config_sha256,
    )
    assert resolved.num_parameters == saved.num_parameters
    assert load(resolved, "cpu", tmp_path).model.num_parameters() == saved.num_parameters
    with pytest.raises(CheckpointError, match="weights"):
        load(resolved.model_copy(update={"weights_sha256": "0" * 64}), "cpu", tmp_path)
    fake.repositories[f"models/{REPOSITORY}"]["step4000"] = {"config.json": b"{}"}
    with pytest.raises(CheckpointError, match=r"no model\.safetensors or pytorch_model\.bin"):
        load(checkpoint("step4000", tmp_path / "hub"), "cpu", tmp_path)


@pytest.mark.skipif(not WIKITEXT.exists(), reason="needs ../shared/data")
def test_wikitext_is_rebuilt_byte_for_byte_from_the_hubs_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    lines = WIKITEXT.read_text().splitlines(keepends=True)
    assert len(lines) == 4358
    parquet.write_table(
        pa.table({"text": ["" if line == " \n" else line for line in lines]}),
        tmp_path / "rows.parquet",
    )
    preset = presets.datasets()[0]
    assert preset.location is not None
    server = FakeHub(
        {
            "datasets/Salesforce/wikitext": {
                "main": {str(preset.parameters["rows"]): (tmp_path / "rows.parquet").read_bytes()}
            }
        }
    )
    server.commits = {str(preset.location.commit): ("datasets/Salesforce/wikitext", "main")}
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        rebuilt = hub_datasets.text_file(preset, tmp_path)
        assert rebuilt.read_bytes() == WIKITEXT.read_bytes()
        assert rebuilt.parent == tmp_path / "texts"
        with pytest.raises(HubError, match="sha256"):
            hub_datasets.text_file(preset.model_copy(update={"sha256": "0" * 64}), tmp_path)
