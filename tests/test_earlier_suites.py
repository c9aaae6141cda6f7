"""Suites that an earlier release read say so, until they are registered again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from db_helpers import claim, finish, pass_trials
from fake_hub import FakeHub, serving
from fastapi.testclient import TestClient
from sqlalchemy import text
from test_layouts import SPEC, write
from test_suites import settled

from api.imported_suites import read_again, untried
from db.session import open_session
from ucurve.registry.suites import Checkpoint

EARLIER = "read by an earlier release"
NAMED = ["step1000", "step2000", "extension_step250"]


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app
        from api.registration import register_builtin

        with open_session() as session:
            register_builtin(session)
            session.commit()
        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


def as_stored_by_an_earlier_release(suite: str) -> None:
    """Take from the rows of a suite what it did not know."""
    with open_session() as session:
        session.execute(
            text("""
                UPDATE checkpoints SET structure = NULL, architecture = NULL,
                    initializer_std = NULL, layout_sha256 = NULL, tokenizer_content = NULL,
                    position_source = NULL, training_phase = NULL, remarks = '[]',
                    tokens = coalesce(tokens, step * 1000)
                WHERE suite = :suite"""),
            {"suite": suite},
        )
        session.commit()


def warnings(api: TestClient, suite: str) -> list[str]:
    """What the list, the suite itself and a plan say of it; they agree."""
    (listed,) = [s for s in api.get("/v1/suites").json() if s["name"] == suite]
    spec = {**SPEC, "suite": suite, "checkpoints": NAMED[:2]}
    planned = api.post("/v1/plan", json={"spec": spec}).json()["warnings"]
    told: list[str] = api.get(f"/v1/suites/{suite}").json()["warnings"]
    assert listed["warnings"] == told
    assert {f"{suite}: {warning}" for warning in told} <= set(planned)
    return told


def measure_all(api: TestClient, spec: dict[str, Any]) -> None:
    assert api.post("/v1/experiments", json={"spec": spec}).status_code == 201
    while (taken := claim())[1]:
        for point in taken[1]:
            assert finish(taken[0], point.id)


def test_a_suite_of_an_earlier_release_says_so_and_keeps_its_results_when_registered_again(
    api: TestClient, tmp_path: Path
) -> None:
    for seed, name in enumerate(NAMED):
        write(tmp_path / name, "gpt_neox", seed)
    body: dict[str, Any] = {"name": "old", "path": str(tmp_path)}
    assert api.post("/v1/suites", json={**body, "tokens_per_step": 1000}).status_code == 201
    pass_trials()
    assert not any(EARLIER in warning for warning in warnings(api, "old"))

    as_stored_by_an_earlier_release("old")
    placed = {c["revision"]: c["tokens"] for c in settled(api, "old")["checkpoints"]}
    assert placed["extension_step250"] == 250_000, "as it was placed then"
    (warning,) = (w for w in warnings(api, "old") if EARLIER in w)
    assert warning.startswith("extension_step250, step1000 and step2000: ")
    assert "tried no model" in warning
    assert "Register the suite again" in warning
    spec = {**SPEC, "suite": "old", "checkpoints": NAMED}
    measure_all(api, spec)

    again = api.post("/v1/suites", json=body)  # without the tokens per step of then
    assert again.status_code == 200, again.text
    pass_trials()
    assert not any(EARLIER in w for w in warnings(api, "old"))
    checkpoints = {c["revision"]: c for c in settled(api, "old")["checkpoints"]}
    assert {n: (c["tokens"], c["training_phase"]) for n, c in checkpoints.items()} == {
        "step1000": (1_000_000, None),
        "step2000": (2_000_000, None),
        "extension_step250": (None, "extension"),
    }
    plan = api.post("/v1/plan", json={"spec": spec}).json()
    assert (plan["num_existing"], plan["num_new"]) == (2 * len(NAMED), 0)


def test_what_an_earlier_release_took_for_tokens_is_not_kept_where_names_count_words(
    api: TestClient, tmp_path: Path
) -> None:
    for seed, name in enumerate(("chck_10M", "chck_20M")):
        write(tmp_path / name, "gpt_neox", seed)
    body = {"name": "words", "path": str(tmp_path)}
    assert api.post("/v1/suites", json=body).status_code == 201
    as_stored_by_an_earlier_release("words")
    with open_session() as session:
        session.execute(
            text("UPDATE checkpoints SET words = NULL, tokens = words WHERE suite = 'words'")
        )
        session.commit()
    api.post("/v1/suites", json=body)
    counts = [(c["tokens"], c["words"]) for c in settled(api, "words")["checkpoints"]]
    assert counts == [(None, 10**7), (None, 2 * 10**7)]


def test_names_without_a_position_were_read_all_the_same(api: TestClient, tmp_path: Path) -> None:
    write(tmp_path / "odd", "gpt_neox", 1)
    body = {"name": "odd", "path": str(tmp_path)}
    preview = api.post("/v1/suites/preview", json=body).json()
    registered = api.post("/v1/suites", json=body).json()
    pass_trials()
    for told in (preview, registered, api.get("/v1/suites/odd").json()):
        assert not any(EARLIER in warning for warning in told["warnings"])


def test_files_of_a_hub_suite_of_an_earlier_release_are_read_again(
    api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = {}
    for step in (1000, 2000):
        write(tmp_path / f"step{step}", "gpt_neox", step)
        files = (tmp_path / f"step{step}").iterdir()
        branches[f"step{step}"] = {path.name: path.read_bytes() for path in files}
        branches[f"step{step}"]["model-00001-of-00001.safetensors"] = b"of an older save"
    with serving(FakeHub({"models/someone/older": branches})) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        body = {"name": "older", "hub": "someone/older", "tokens_per_step": 1000}
        api.post("/v1/suites", json=body)
        remarks = settled(api, "older")["remarks"]
        assert [remark["kind"] for remark in remarks] == ["files"]
        as_stored_by_an_earlier_release("older")
        old = api.get("/v1/suites/older").json()
        assert old["remarks"] == []
        assert any(EARLIER in warning for warning in old["warnings"])
        api.post("/v1/suites", json=body)
        new = settled(api, "older")
    assert new["remarks"] == remarks
    assert not any(EARLIER in warning for warning in new["warnings"])


# ---- suites of another lab


def exchanged(api: TestClient, suite: str, folder: Path | str, **changes: Any) -> dict[str, Any]:
    """Import a registered suite under another name, as if it came from another lab."""
    names = ("revision", "step", "tokens", "replicate", "position_source", "num_parameters",
             "context", "weights_sha256", "config_sha256", "size_bytes", "unresolved")  # fmt: skip
    checkpoints = [
        {
            **{name: c[name] for name in names},
            "suite": f"{suite}-there",
            "location": {"scheme": "path", "path": f"{folder}/{c['revision']}"},
            **changes,
        }
        for c in api.get(f"/v1/suites/{suite}").json()["checkpoints"]
    ]
    described = {"name": f"{suite}-there", "description": "", "evaluation": None, "recipe": None}
    body = {"origin": "lab A", "suites": [{**described, "checkpoints": checkpoints}]}
    answer = api.post("/v1/import/catalogue", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def reasons(api: TestClient, suite: str) -> set[str | None]:
    return {c["unresolved"] for c in api.get(f"/v1/suites/{suite}").json()["checkpoints"]}


@pytest.mark.parametrize("there", [None, "being tried: waiting for a worker of lab A"])
def test_an_imported_suite_is_tried_where_its_files_are(
    api: TestClient, tmp_path: Path, there: str | None
) -> None:
    for step in (1000, 2000):
        write(tmp_path / f"step{step}", "gpt2", step + bool(there))
    name = f"shared-{bool(there)}".lower()
    api.post("/v1/suites", json={"name": name, "path": str(tmp_path), "tokens_per_step": 1000})
    with open_session() as session:
        session.execute(text("DELETE FROM structures"))  # as if this lab had never seen it
        session.commit()
    assert exchanged(api, name, tmp_path, unresolved=there)["warnings"] == []
    (reason,) = reasons(api, f"{name}-there")
    assert str(reason).startswith("being tried: waiting for a worker to build the model")
    pass_trials()
    assert reasons(api, f"{name}-there") == {None}
    assert not any("not tried" in w for w in warnings(api, f"{name}-there"))


@pytest.mark.parametrize("case", ["elsewhere", "changed"])
def test_an_imported_suite_without_its_files_says_that_it_was_not_tried(
    api: TestClient, tmp_path: Path, case: str
) -> None:
    for step in (1000, 2000):
        write(tmp_path / "here" / f"step{step}", "gpt2", step)
    body = {"name": case, "path": str(tmp_path / "here"), "tokens_per_step": 1000}
    api.post("/v1/suites", json=body)
    pass_trials()
    there = tmp_path / "there"
    if case == "changed":
        for step in (1000, 2000):
            write(there / f"step{step}", "gpt_neox", step)
    result = exchanged(api, case, there)
    expected = "are others" if case == "changed" else f"their files are not in {there}"
    (warning,) = (w for w in warnings(api, f"{case}-there") if "not tried" in w)
    assert warning.startswith("step1000 and step2000: imported from lab A, and not tried: ")
    assert expected in warning
    assert result["warnings"] == [f"suite {case}-there: {warning}"]
    assert reasons(api, f"{case}-there") == {None}, "finished points can be planned"
    assert api.get(f"/v1/suites/{case}-there").json()["remarks"] == [], "not beside each number"

    for step in (1000, 2000):
        shutil.copytree(
            tmp_path / "here" / f"step{step}", there / f"step{step}", dirs_exist_ok=True
        )
    assert exchanged(api, case, there)["kept"] == [f"suite {case}-there"]
    assert not any("not tried" in w for w in warnings(api, f"{case}-there"))
    with open_session() as session:
        query = text("SELECT count(structure) FROM checkpoints WHERE suite = :suite")
        assert session.scalar(query, {"suite": f"{case}-there"}) == 2


@pytest.mark.parametrize(
    "location",
    [
        {"scheme": "hub", "path": "someone/model", "commit": None},
        {"scheme": "hub", "path": "no name", "commit": "0" * 40},
        {"scheme": "path", "path": "/nowhere/step1000"},
        {"scheme": "artefacts", "path": "suites/other/step1000"},
        {"scheme": "artefacts", "path": "../outside/step1000"},
    ],
)
def test_a_place_that_leads_nowhere_is_a_reason_and_no_fault(location: dict[str, Any]) -> None:
    described = Checkpoint.model_validate(
        {"suite": "s", "revision": "r", "location": location, "remarks": ["x"] * 100,
         "structure": "s" * 64, "architecture": "Claimed"}
    )  # fmt: skip
    read = read_again(described, "lab A")
    assert (read.structure, read.architecture, read.unresolved) == (None, None, None)
    (warning,) = untried([read])
    assert warning.startswith("r: imported from lab A, and not tried: ")
    assert Checkpoint.model_validate(read.model_dump()) == read
