"""Suites: what registration finds, and what the API answers while it is still looking."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from db_helpers import pass_trials
from fake_hub import FakeHub, serving
from fastapi.testclient import TestClient

from ucurve.registry import hashing, presets
from ucurve.registry.suite_warnings import suite_warnings
from ucurve.registry.suites import (
    Checkpoint,
    Location,
    Suite,
    combined_sha256,
    sort_checkpoints,
)
from ucurve.registry.weights_remarks import weights_remarks


def checkpoint(revision: str, position_source: str = "", **fields: Any) -> Checkpoint:
    """A checkpoint of this release: of earlier ones `position_source` is null."""
    return Checkpoint(
        suite="s",
        revision=revision,
        location=Location(scheme="path", path="/x"),
        position_source=position_source,
        **fields,
    )


def test_checkpoints_stand_by_replicate_then_tokens_and_the_unknown_last() -> None:
    mixed = [
        checkpoint("main"),
        checkpoint("b", tokens=2, replicate=1),
        checkpoint("step9", step=9),
        checkpoint("a", tokens=10),
        checkpoint("z", tokens=3),
    ]
    assert [c.revision for c in sort_checkpoints(mixed)] == ["z", "a", "step9", "main", "b"]


def test_two_revisions_with_the_same_weights_raise_a_warning() -> None:
    shared = [checkpoint(f"step{n}", step=n, tokens=n, weights_sha256="abc") for n in (3000, 1000)]
    checkpoints = [*shared, checkpoint("step2000", step=2000, tokens=2000, weights_sha256="def")]
    (warning,) = suite_warnings(checkpoints, weights_remarks(checkpoints, {}))
    assert warning.startswith("step1000 and step3000 have identical weights")


# Registration of folders, through the API on the real database


TOKENIZER = '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'


def write_model(folder: Path, seed: int, cut: int = 0) -> str:
    """A folder as save_pretrained leaves it; answers the hash of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]},
        "bias": {"dtype": "F32", "shape": [3], "data_offsets": [128, 140]},
    }
    described = json.dumps(header).encode()
    weights = (
        len(described).to_bytes(8, "little") + described + np.full(35, seed, np.float32).tobytes()
    )
    (folder / "model.safetensors").write_bytes(weights[: len(weights) - cut])
    (folder / "config.json").write_text('{"model_type": "gpt_neox"}')
    (folder / "tokenizer.json").write_text(TOKENIZER)
    return hashlib.sha256(weights).hexdigest()


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app

        yield TestClient(
            app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)
        )  # without its lifespan: no sweep runs beside the test


def settled(api: TestClient, name: str) -> dict[str, Any]:
    """The suite when nothing waits any more, resolved as the sweep does it."""
    from api.background.hashing import start_hashing

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not start_hashing():
            pass_trials()
            answer: dict[str, Any] = api.get(f"/v1/suites/{name}").json()
            return answer
        time.sleep(0.05)
    raise AssertionError(api.get(f"/v1/suites/{name}").text)


def test_a_small_folder_is_hashed_at_once_and_broken_checkpoints_say_why(
    api: TestClient, tmp_path: Path
) -> None:
    weights = write_model(tmp_path / "step2000", 2)
    write_model(tmp_path / "step1000", 1)
    write_model(tmp_path / "step3000", 3, cut=5)
    write_model(tmp_path / "step4000", 4)
    (tmp_path / "step4000" / "model.safetensors").unlink()
    (tmp_path / "notes").mkdir()
    body = {"name": "small", "path": str(tmp_path), "tokens_per_step": 100}
    answer = api.post("/v1/suites", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["checkpoints"][1]["unresolved"].startswith("being tried")
    suite = Suite.model_validate(settled(api, "small"))
    assert [c.revision for c in suite.checkpoints] == [
        "step1000",
        "step2000",
        "step3000",
        "step4000",
    ]
    good = suite.checkpoints[1]
    assert (good.tokens, good.weights_sha256, good.num_parameters, good.unresolved) == (
        200_000,
        weights,
        35,
        None,
    )
    assert (
        good.config_sha256
        == hashlib.sha256((tmp_path / "step2000" / "config.json").read_bytes()).hexdigest()
    )
    assert "bytes" in (suite.checkpoints[2].unresolved or "")
    assert "no model.safetensors" in (suite.checkpoints[3].unresolved or "")
    assert any("step3000" in warning for warning in suite.warnings)
    mended = tmp_path / "step3000" / "model.safetensors"  # with a copy of another step's weights
    mended.write_bytes((tmp_path / "step2000" / "model.safetensors").read_bytes())
    again = api.post("/v1/suites", json=body)
    assert again.status_code == 200
    assert any(
        "step2000 and step3000 have identical weights" in warning
        for warning in again.json()["warnings"]
    )


def test_a_large_folder_is_registered_at_once_and_hashed_behind(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ucurve.registry.resolve.INLINE_BYTES", 0)
    monkeypatch.setattr(
        "api.routes.suites.start_hashing", lambda: None
    )  # the sweep has not come by yet
    hashes = [write_model(tmp_path / f"step{n}", n) for n in (1, 2)]
    suite = api.post("/v1/suites", json={"name": "large", "path": str(tmp_path)}).json()
    assert [c["unresolved"] for c in suite["checkpoints"]] == ["hashing: waiting"] * 2
    assert any("still being hashed" in warning for warning in suite["warnings"])
    monkeypatch.undo()
    suite = settled(api, "large")
    assert [c["weights_sha256"] for c in suite["checkpoints"]] == hashes
    assert ["--tokens-per-step" in warning for warning in suite["warnings"]] == [True]
    placed = {"name": "large", "path": str(tmp_path), "tokens_per_step": 8}
    assert api.post("/v1/suites", json=placed).json()["warnings"] == []


def test_shards_are_hashed_together_and_all_have_to_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_model(folder, 1)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    found = hashing.resolve(checkpoint("m"), folder)
    assert found.unresolved == "cannot be used: 1 of 2 weight shards are present"
    other = data.replace(b'"weight"', b'"w_ight"').replace(b'"bias"', b'"b_as"')
    (folder / "model-00002-of-00002.safetensors").write_bytes(other)
    found = hashing.resolve(checkpoint("m"), folder)
    one, two = (hashlib.sha256(shard).hexdigest() for shard in (data, other))
    assert found.weights_sha256 == combined_sha256(
        {
            "model-00001-of-00002.safetensors": one,
            "model-00002-of-00002.safetensors": two,
        }
    )
    assert found.weights_sha256 not in (one, two)
    assert found.num_parameters == 70


def test_a_manifest_says_what_names_do_not(api: TestClient, tmp_path: Path) -> None:
    write_model(tmp_path / "early", 1)
    write_model(tmp_path / "late", 2)
    listed = [
        checkpoint("late", tokens=5_000, replicate=1, phase="annealed").model_dump(mode="json"),
        checkpoint("early", tokens=1_000, replicate=1).model_dump(mode="json"),
    ]
    (tmp_path / "suite.json").write_text(
        json.dumps({"name": "x", "description": "By hand.", "checkpoints": listed})
    )
    suite = api.post("/v1/suites", json={"name": "told", "path": str(tmp_path)}).json()
    assert suite["description"] == "By hand."
    assert [
        (c["revision"], c["tokens"], c["phase"], c["replicate"]) for c in suite["checkpoints"]
    ] == [
        ("early", 1_000, None, 1),
        ("late", 5_000, "annealed", 1),
    ]


def test_what_cannot_be_registered_is_answered_with_the_field_and_the_remedy(
    api: TestClient, tmp_path: Path
) -> None:
    write_model(tmp_path / "one", 1)

    def problem(url: str, **body: Any) -> tuple[int, str, str]:
        answer = api.post(url, json=body)
        found = answer.json()["errors"] or [{"pointer": "", "detail": answer.json()["detail"]}]
        return answer.status_code, found[0]["pointer"], found[0]["detail"]

    assert problem("/v1/suites", name="a") == (
        422,
        "/path",
        "Give one of path (a folder), hub (a repository), repositories (several of one model, a "
        "pre-training seed each) and preset.",
    )
    assert problem("/v1/suites", name="a", path="models")[:2] == (422, "/path")
    assert "one checkpoint" in problem("/v1/suites", name="a", path=str(tmp_path / "one"))[2]
    (tmp_path / "empty").mkdir()
    assert (
        "empty/REVISION/config.json"
        in problem("/v1/suites", name="a", path=str(tmp_path / "empty"))[2]
    )
    assert problem("/v1/suites", name="../a", path=str(tmp_path))[:2] == (422, "/name")
    status, pointer, message = problem(
        "/v1/suites", name="a", path=str(tmp_path), evaluation="wikitext2"
    )
    assert (status, pointer) == (422, "/evaluation")
    assert "ucurve datasets add" in message
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    assert "UTF-8" in problem("/v1/datasets", name="d", text=str(tmp_path / "latin.txt"))[2]
    api.post("/v1/suites", json={"name": "taken", "path": str(tmp_path)})
    write_model(tmp_path / "other" / "step1", 1)
    assert problem("/v1/suites", name="taken", path=str(tmp_path / "other"))[0] == 409
    assert api.get("/v1/suites/nobody").status_code == 404


def test_a_hub_suite_is_listed_placed_and_resolved(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files(seed: int) -> dict[str, bytes]:
        write_model(tmp_path / str(seed), seed)
        return {path.name: path.read_bytes() for path in (tmp_path / str(seed)).iterdir()}

    branches = {"main": files(9), "step4000": files(4), "step1000": files(1), "step64000": files(4)}
    broken = {"config.json": b"{}"}
    server = FakeHub({"models/EleutherAI/pythia-70m": {**branches, "step16000": broken}})
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        answer = api.post("/v1/suites", json={"name": "pythia-70m", "hub": "EleutherAI/pythia-70m"})
        assert answer.status_code == 201, answer.text
        assert all(c["location"]["commit"] for c in answer.json()["checkpoints"])
        suite = settled(api, "pythia-70m")
        assert (
            api.post("/v1/suites", json={"name": "x", "hub": "EleutherAI/none"}).json()["problems"][
                0
            ]["pointer"]
            == "/hub"
        )
    assert [c["revision"] for c in suite["checkpoints"]] == [
        "step1000",
        "step4000",
        "step16000",
        "step64000",
    ]
    assert [c["tokens"] for c in suite["checkpoints"]] == [
        s * 2_097_152 for s in (1000, 4000, 16000, 64000)
    ]
    assert [c["phase"] for c in suite["checkpoints"]] == ["warm-up", "decay", "decay", "decay"]
    assert (
        suite["checkpoints"][0]["weights_sha256"]
        == hashlib.sha256(branches["step1000"]["model.safetensors"]).hexdigest()
    )
    assert any(
        "step4000 and step64000 have identical weights" in warning for warning in suite["warnings"]
    )
    assert any("step16000" in warning for warning in suite["warnings"])
    assert "main" in suite["description"]
    assert suite["evaluation"] == "wikitext-2"
    assert api.get("/v1/datasets/wikitext-2").json()["sha256"] == presets.datasets()[0].sha256


def test_a_hub_that_does_not_answer_is_waited_for(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.background import hashing

    write_model(tmp_path / "step1", 1)
    server = FakeHub(
        {
            "models/lab/model": {
                "step1": {path.name: path.read_bytes() for path in (tmp_path / "step1").iterdir()}
            }
        }
    )
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(hashing, "HUB_RETRY_SECONDS", 0.2)
        monkeypatch.setattr("api.routes.suites.start_hashing", lambda: None)
        api.post("/v1/suites", json={"name": "patient", "hub": "lab/model"})
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        hashing._hash_all()
        assert (
            "waiting for the hub"
            in api.get("/v1/suites/patient").json()["checkpoints"][0]["unresolved"]
        )
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert settled(api, "patient")["checkpoints"][0]["unresolved"] is None


def test_the_catalogue_answers_with_near_names_and_how_to_register(
    api: TestClient, tmp_path: Path
) -> None:
    from api.catalogue import DatabaseCatalogue
    from api.registration import register_builtin
    from db.session import open_session
    from ucurve.spec import SpecError

    write_model(tmp_path / "step1", 1)
    api.post("/v1/suites", json={"name": "novels-50m", "path": str(tmp_path)})
    (tmp_path / "some.txt").write_text("Ein Text.")
    text = api.post("/v1/datasets", json={"name": "some-text", "text": str(tmp_path / "some.txt")})
    assert text.json()["sha256"] == hashlib.sha256(b"Ein Text.").hexdigest()
    with open_session() as session:
        register_builtin(session)
        register_builtin(session)
        session.commit()
        catalogue = DatabaseCatalogue(session)
        assert catalogue.suite("novels-50m").checkpoints[0].step == 1
        assert catalogue.dataset("some-text").size_bytes == 9
        assert catalogue.find_suite("nobody") is None
        with pytest.raises(SpecError, match=r"Did you mean novels-50m\?.*ucurve suites add"):
            catalogue.suite("novel-50m")
        with pytest.raises(
            SpecError, match="ucurve suites add pythia-160m --hub EleutherAI/pythia-160m"
        ):
            catalogue.suite("pythia-160m")
        with pytest.raises(SpecError, match="suites add polypythias-14m --preset polypythias-14m"):
            catalogue.suite("polypythias-14m")
        with pytest.raises(SpecError, match="Did you mean some-text"):
            catalogue.dataset("sometext")
