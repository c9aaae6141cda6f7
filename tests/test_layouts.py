"""A plan knows the names of a suite's tensors: read at registration, checked before submission."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from db_helpers import pass_trials
from fake_hub import FakeHub, serving
from fastapi.testclient import TestClient
from safetensors.numpy import save_file

from ucurve.registry.layouts import layout_in, layout_of
from ucurve.registry.roots import BUILTIN
from ucurve.registry.suites import Checkpoint, Location

NAMES = json.loads((Path(__file__).parent / "tensor_names/5.24.0.json").read_text())
SPEC = {
    "kind": "gaussian_perturbation",
    "gammas": [0.1],
    "draws": 1,
    "scale": "current_std",
    "evaluation": "tiny-held-out",
}


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app
        from api.registration import register_builtin
        from db.session import open_session

        with open_session() as session:
            register_builtin(session)
            session.commit()
        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def write(folder: Path, architecture: str, seed: int, pickled: bool = False) -> None:
    """Write a checkpoint as published files have it: their names, random weights."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    recorded = NAMES[architecture]
    weights = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in recorded["file"].items()
    }
    if pickled:
        tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    config = {"model_type": architecture, "tie_word_embeddings": recorded["tied"]}
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))


def register(api: TestClient, folder: Path, name: str) -> dict[str, Any]:
    body = {"name": name, "path": str(folder), "tokens_per_step": 1000}
    answer = api.post("/v1/suites", json=body)
    assert answer.status_code == 201, answer.text
    pass_trials()
    suite: dict[str, Any] = answer.json()
    return suite


def plan(api: TestClient, suite: str, **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/plan", json={"spec": {**SPEC, "suite": suite, **fields}})
    preview: dict[str, Any] = answer.json()
    return preview


@pytest.mark.parametrize("pickled", [False, True])
def test_a_pattern_without_match_is_refused_in_the_plan_with_field_and_names(
    api: TestClient, tmp_path: Path, pickled: bool
) -> None:
    for step in (1, 2):
        write(tmp_path / f"step{step}000", "gpt_neox", step, pickled)
    name = f"published-{pickled}".lower()
    assert all(c["layout_sha256"] for c in register(api, tmp_path, name)["checkpoints"])
    for path in ("/v1/plan", "/v1/experiments"):
        spec = {**SPEC, "suite": name, "exclude": ["*embed_ot*"]}
        answer = api.post(path, json={"spec": spec})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/spec/exclude/0"
        assert error["detail"].startswith(
            f"'*embed_ot*' matches none of the 28 tensors of '{name}'. The nearest names are "
            "embed_out.weight, "
        )
    assert plan(api, name, exclude=["*embed_out*"])["num_points"] == 2 * 2
    assert plan(api, name, exclude=["*lm_head*"])["num_points"] == 2 * 2
    assert plan(api, name, include=["layers.0.*"])["num_points"] == 2 * 2


def test_groups_that_a_suite_has_not_are_said_in_the_preview(
    api: TestClient, tmp_path: Path
) -> None:
    for architecture, num_groups, words in (
        ("gpt2", 4, "has no unembedding of its own (the embedding serves as both)"),
        ("olmo", 4, "has no norm with weights; that is not planned."),
        ("mamba", 3, "has no attention and no MLP and no unembedding of its own"),
    ):
        write(tmp_path / architecture / "step1000", architecture, 1)
        register(api, tmp_path / architecture, f"some-{architecture}")
        preview = plan(api, f"some-{architecture}", by_group=True)
        assert preview["num_points"] == 1 + 1 + num_groups
        assert any(words in warning for warning in preview["warnings"]), preview["warnings"]
        assert plan(api, f"some-{architecture}")["num_points"] == 2


def test_names_that_no_table_explains_are_refused_before_a_worker_fails(
    api: TestClient, tmp_path: Path
) -> None:
    from sqlalchemy import text

    from db.session import open_session

    def tried(names: list[str]) -> dict[str, Any]:
        """Plan as if a worker's release of transformers had these names."""
        facts = json.dumps({"parameters": {name: [1] for name in names}})
        with open_session() as session:
            session.execute(
                text("""
                    UPDATE structures s SET facts = facts || CAST(:facts AS jsonb)
                    FROM checkpoints c WHERE c.structure = s.sha256 AND c.suite = 'later'"""),
                {"facts": facts},
            )
            session.commit()
        return plan(api, "later")

    write(tmp_path / "step1000", "gpt_neox", 7)
    register(api, tmp_path, "later")
    names = [name for name in NAMES["gpt_neox"]["library"] if name != "lm_head.weight"]
    assert "lm_head.weight" in NAMES["gpt_neox"]["library"]
    for known in ("lm_head.weight", "embed_out.weight"):
        assert tried([*names, known])["num_points"] == 2
    (error,) = tried([*names, "vocabulary_projection.weight"])["errors"]
    assert error["pointer"] == "/spec/suite"
    assert error["detail"].startswith("transformers calls a tensor vocabulary_projection.weight,")


def test_the_suites_of_the_package_keep_their_version_and_their_numbers(api: TestClient) -> None:
    from api.catalogue import DatabaseCatalogue
    from db.session import open_session
    from ucurve.experiments.gaussian_perturbation import GaussianPerturbation

    with open_session() as session:
        catalogue = DatabaseCatalogue(session)
        assert catalogue.suite("tiny").layouts, "read when the package is registered"
        spec = GaussianPerturbation(suite="tiny", by_group=True, draws=1)
        changes = [p.inputs["perturbation"] for p in spec.plan(catalogue)]
    assert {change["protocol"] for change in changes if change} == {"gaussian/1"}


def test_checkpoints_of_earlier_releases_and_of_workers_get_their_layout(
    api: TestClient, tmp_path: Path
) -> None:
    from sqlalchemy import text
    from test_suites import settled

    from db.session import open_session

    write(tmp_path / "step1000", "gpt_neox", 1)
    (first,) = register(api, tmp_path, "earlier")["checkpoints"]
    with open_session() as session:
        session.execute(text("UPDATE checkpoints SET layout_sha256 = NULL WHERE suite = 'earlier'"))
        session.commit()
    unknown = plan(api, "earlier", exclude=["*embed_ot*"])
    assert any(w.startswith("exclude: the names of the tensors") for w in unknown["warnings"])
    (again,) = settled(api, "earlier")["checkpoints"]
    assert again["layout_sha256"] == first["layout_sha256"]
    assert plan(api, "earlier", exclude=["*embed_ot*"])["status"] == 422


def test_files_that_do_not_tell_their_names_are_asked_once(api: TestClient, tmp_path: Path) -> None:
    from sqlalchemy import text
    from test_suites import settled

    from db.session import open_session

    write(tmp_path / "step1000", "gpt_neox", 1)
    register(api, tmp_path, "gone")
    (tmp_path / "step1000" / "model.safetensors").unlink()
    with open_session() as session:
        session.execute(text("UPDATE checkpoints SET layout_sha256 = NULL WHERE suite = 'gone'"))
        session.commit()
    (checkpoint,) = settled(api, "gone")["checkpoints"]
    assert checkpoint["layout_sha256"] == ""


def test_the_layout_of_a_hub_suite_is_read_without_its_weights(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_suites import settled

    branches = {}
    for step in (1000, 2000):
        write(tmp_path / f"step{step}", "gpt_neox", step)
        files = (tmp_path / f"step{step}").iterdir()
        branches[f"step{step}"] = {path.name: path.read_bytes() for path in files}
    with serving(FakeHub({"models/someone/model": branches})) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        body = {"name": "remote", "hub": "someone/model", "tokens_per_step": 1000}
        assert api.post("/v1/suites", json=body).status_code == 201
        suite = settled(api, "remote")
    assert len({c["layout_sha256"] for c in suite["checkpoints"]} - {None, ""}) == 1
    assert plan(api, "remote", exclude=["*embed_ot*"])["status"] == 422


def test_a_layout_names_what_the_files_of_the_package_hold() -> None:
    folder = next((BUILTIN / "suites" / "tiny").glob("seed0-step437-*"))
    layout = layout_in(folder)
    assert layout
    assert layout.spelled_by_library
    assert "embed_out.weight" in {tensor.canonical for tensor in layout.parameters}
    assert "lm_head.weight" in layout.tensors


def test_an_unembedding_with_other_numbers_is_not_tied_whatever_the_config_says(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for folder, factor in (("twins", 1), ("apart", 2)):
        write(tmp_path / folder, "gpt2", 1)
        shapes = NAMES["gpt2"]["file"]
        weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        weights["lm_head.weight"] = factor * weights["transformer.wte.weight"]
        save_file(weights, tmp_path / folder / "model.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_MODELS", str(tmp_path))
        twins, apart = (layout_in(tmp_path / folder) for folder in ("twins", "apart"))
    assert twins
    assert apart
    names = {tensor.canonical for tensor in twins.parameters}
    assert {tensor.canonical for tensor in apart.parameters} - names == {"lm_head.weight"}
    assert len(names) == len(NAMES["gpt2"]["file"])


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"model_type": 7, "tie_word_embeddings": "no"}, ["a.weight"]),
        ({}, ["a.weight"]),
        ({"model_type": "x" * 300}, "a.weight"),
        ({"model_type": "gpt2"}, None),
        ({"model_type": "gpt2"}, "lines\nand NUL\0"),
    ],
)
def test_odd_files_have_a_layout_or_none(
    tmp_path: Path, config: dict[str, Any], names: Any
) -> None:
    """What cannot be stored is not known; nothing here stops the background."""
    listed = names if isinstance(names, list) else [names] if names else []
    weights = {name: np.zeros(3, np.float32) for name in listed}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    location = Location(scheme="path", path=str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_MODELS", str(tmp_path))
        layout = layout_of(Checkpoint(suite="s", revision="r", location=location))
    known = names if isinstance(names, list) else None
    assert (list(layout.tensors) if layout else None) == known
