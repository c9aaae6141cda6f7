"""What registration understands of a suite is shown first, and corrected by a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub, serving
from fastapi.testclient import TestClient
from test_suites import settled, write_model

from ucurve.registry import presets
from ucurve.registry.datasets.token_counts import count_text, why_uncounted
from ucurve.registry.discover import Discovered, number_repositories
from ucurve.registry.names.token_batches import parse_batches, tokens_at
from ucurve.registry.position_tables import TableError, corrected, table_text
from ucurve.registry.suite_warnings import suite_warnings
from ucurve.registry.suites import Checkpoint, Dataset, Location, sort_checkpoints
from ucurve.settings import settings


def checkpoint(revision: str, position_source: str = "", **fields: Any) -> Checkpoint:
    """A checkpoint of this release: of earlier ones `position_source` is null."""
    return Checkpoint(
        suite="s",
        revision=revision,
        location=Location(scheme="path", path="/x"),
        position_source=position_source,
        **fields,
    )


# The table


def test_the_table_is_read_as_it_is_written_and_corrects_what_it_names() -> None:
    before = [
        checkpoint("step1000", step=1000, position_source="step: step1000"),
        checkpoint("=odd", words=7),
        checkpoint("sft-step5", step=5, training_phase="sft"),
    ]
    found = Discovered(list(before), left_out=[checkpoint("main")], reasons={"main": "no step"})
    assert corrected(found, table_text(before)).checkpoints == sort_checkpoints(before)
    table = (
        "\ufeffrevision;tokens;training_phase;replicate_name\nstep1000;2e9;;b\nmain;3000000000;;\n"
    )
    after = {c.revision: c for c in corrected(found, table).checkpoints}
    assert (after["step1000"].tokens, after["step1000"].step) == (2 * 10**9, 1000)
    assert after["step1000"].replicate_name == "b"
    assert after["step1000"].position_source == "table of positions"
    assert after["main"].tokens == 3 * 10**9  # was left out
    assert after["sft-step5"].training_phase == "sft"  # has no line


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("revision,tokens\nstep1,ten\n", "line 2, column tokens: 'ten'"),
        ("revision,tokens\nstep1,1.5\n", "line 2, column tokens: '1.5'"),
        ("revision,replicate\nstep1,-1\n", "line 2, column replicate"),
        ("revision,tokens\nstep2,1\n", "column revision: the source has no revision 'step2'"),
        ("revision,tokens\nstep1,1\nstep1,2\n", "line 3, column revision: 'step1' is in line 2"),
        ("revision,token\nstep1,1\n", "no column 'token'"),
        ("tokens\n1\n", "the column revision is missing"),
        ("revision,tokens\nstep1\n", "line 2: 1 cells, but 2 columns"),
        ("", "revision is missing"),
        ("revision,step\nstep1,1e400\n", "line 2, column step"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_names_line_and_column(table: str, message: str) -> None:
    with pytest.raises(TableError, match=message.replace("(", r"\(")):
        corrected(Discovered([checkpoint("step1")]), table)


def test_phases_stand_after_pre_training_and_a_warning_says_what_they_mean() -> None:
    mixed = [
        checkpoint("sft-step5", step=5, training_phase="sft"),
        checkpoint("lc-step9", step=9, training_phase="lc"),
        checkpoint("step4", step=4, tokens=400),
        checkpoint("lc-step10", step=10, training_phase="lc"),
    ]
    assert [c.revision for c in sort_checkpoints(mixed)] == [
        "step4",
        "lc-step9",
        "lc-step10",
        "sft-step5",
    ]
    (warning,) = suite_warnings(mixed)
    assert "lc-step9, lc-step10 and sft-step5" in warning
    assert "Charts and verdicts over pre-training tokens leave these out" in warning
    same = [checkpoint(n, step=1, tokens=9, weights_sha256=n) for n in ("a-step1", "b-step1")]
    assert "same position" in suite_warnings(same)[0]


# Presets


def test_the_presets_know_all_runs_of_polypythias() -> None:
    groups = {preset.name: preset for preset in presets.replicated()}
    assert len(groups) == 7
    group = groups["polypythias-160m"]
    assert number_repositories(group.repositories) == {
        "EleutherAI/pythia-160m": 0,
        **{f"EleutherAI/pythia-160m-seed{n}": n for n in range(1, 10)},
    }
    assert groups["polypythias-160m-data-seed"].repositories == [
        f"EleutherAI/pythia-160m-data-seed{n}" for n in (1, 2, 3)
    ]
    assert presets.for_hub("eleutherai/pythia-31m-seed4").tokens_per_step == 2_097_152


def test_the_batch_of_lucie_grew_to_the_published_number_of_samples() -> None:
    per_step = presets.for_hub("OpenLLM-France/Lucie-7B").tokens_per_step
    samples = tokens_at(parse_batches(per_step or 0), 753_851) // 4096
    assert abs(samples - 762_144_586) < 1024  # of the model's card; a batch


# Through the API


@pytest.fixture(scope="module")
def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UCURVE_ARTEFACTS", str(tmp_path_factory.mktemp("artefacts")))
        patch.setenv("UCURVE_ACCESS", "open")
        from api.main import app

        yield TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))


@pytest.fixture
def polypythias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Three runs of one model, with two revisions and a main each."""
    repositories = {}
    for seed, name in enumerate(("pythia-14m", "pythia-14m-seed1", "pythia-14m-seed2")):
        revisions = {}
        for step in (1000, 143_000):
            write_model(tmp_path / f"{name}-{step}", 1000 * seed + step % 997)
            files = (tmp_path / f"{name}-{step}").iterdir()
            revisions[f"step{step}"] = {file.name: file.read_bytes() for file in files}
        repositories[f"models/EleutherAI/{name}"] = {**revisions, "main": revisions["step143000"]}
    server = FakeHub(repositories)
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


def test_several_repositories_are_replicates_of_one_suite(
    api: TestClient, polypythias: FakeHub
) -> None:
    names = [f"EleutherAI/pythia-14m{seed}" for seed in ("", "-seed1", "-seed2")]
    body = {"name": "runs", "repositories": names}
    preview = api.post("/v1/suites/preview", json=body)
    assert preview.status_code == 200, preview.text
    assert api.get("/v1/suites/runs").status_code == 404  # only shown
    answer = api.post("/v1/suites", json=body)
    assert answer.status_code == 201, answer.text
    assert [
        (c["revision"], c["replicate"], c["replicate_name"], c["tokens"], c["phase"])
        for c in answer.json()["checkpoints"]
    ] == [
        (f"{name}@step{step}", seed, name, step * 2_097_152, phase)
        for seed, name in enumerate(("pythia-14m", "pythia-14m-seed1", "pythia-14m-seed2"))
        for step, phase in ((1000, "warm-up"), (143_000, "annealed"))
    ]
    assert "PolyPythias" in answer.json()["description"]
    assert all(c["weights_sha256"] for c in settled(api, "runs")["checkpoints"])
    polypythias.requests.clear()
    again = api.post("/v1/suites", json=body)
    assert (again.status_code, len(polypythias.requests)) == (200, 3)  # refs; no file again
    assert all(c["weights_sha256"] for c in again.json()["checkpoints"])
    fewer = api.post("/v1/suites", json={**body, "repositories": names[:2]})
    assert fewer.status_code == 409


def test_the_tokenizer_of_a_hub_suite_counts_texts_before_the_weights_are_downloaded(
    api: TestClient, polypythias: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UCURVE_MODELS", str(tmp_path))
    api.post("/v1/suites", json={"name": "counted", "hub": "EleutherAI/pythia-14m"})
    first = Checkpoint.model_validate(settled(api, "counted")["checkpoints"][0])
    text = tmp_path / "text.txt"
    text.write_text("a a a")
    here = Dataset(
        name="text", kind="text", sha256="t", location=Location(scheme="path", path=str(text))
    )
    assert not [*(settings().artefacts / "hub").rglob("model.safetensors")]
    count = count_text(here, first)
    assert count is not None
    assert count.num_bytes == len("a a a")
    remote = Location(scheme="hub", path="someone/text", commit="0" * 40)
    away = here.model_copy(update={"location": remote, "sha256": "u"})
    assert count_text(away, first) is None
    assert "the text is downloaded when" in why_uncounted(away, first)
    moved = first.location.model_copy(update={"commit": "1" * 40})
    gone = first.model_copy(update={"location": moved, "tokenizer_sha256": "gone"})
    assert count_text(here, gone) is None
    assert "the tokenizer is downloaded again" in why_uncounted(here, gone)


@pytest.mark.parametrize(
    ("revision", "remedies"),
    [
        ("step7", ["model card", "--tokens-per-step", "table of positions"]),
        ("odd", ["model card", "table of positions"]),
    ],
)
def test_a_repository_without_tokens_gets_remedies_that_its_user_can_follow(
    revision: str, remedies: list[str]
) -> None:
    place = Location(scheme="hub", path="someone/model", commit="0" * 40)
    unplaced = checkpoint(revision, step=7 if revision == "step7" else None)
    (warning,) = suite_warnings([unplaced.model_copy(update={"location": place})])
    assert all(remedy in warning for remedy in remedies)
    assert "suite.json" not in warning, "there are no folders to put it beside"
    (beside,) = suite_warnings([unplaced])
    assert "model card" not in beside


def test_a_preset_is_named_and_an_unknown_one_gets_the_list(
    api: TestClient, polypythias: FakeHub
) -> None:
    answer = api.post("/v1/suites/preview", json={"name": "p", "preset": "polypythias-14m"})
    assert answer.status_code == 422  # the hub of this test has no seed3
    assert "EleutherAI/pythia-14m-seed3" in answer.json()["errors"][0]["detail"]
    one = api.post("/v1/suites/preview", json={"name": "p", "preset": "pythia-14m"})
    assert [c["revision"] for c in one.json()["checkpoints"]] == ["step1000", "step143000"]
    wrong = api.post("/v1/suites/preview", json={"name": "p", "preset": "polypythia"})
    assert wrong.json()["errors"][0]["pointer"] == "/preset"
    assert "polypythias-160m-weight-seed" in wrong.json()["errors"][0]["detail"]


def test_what_is_understood_is_shown_corrected_and_kept(api: TestClient, tmp_path: Path) -> None:
    for seed, name in enumerate(("step753851", "extension_step0000250", "odd")):
        write_model(tmp_path / name, seed)
    body = {"name": "shown", "path": str(tmp_path), "tokens_per_step": "0:1,1000:2"}
    preview = api.post("/v1/suites/preview", json=body).json()
    shown = {c["revision"]: c for c in preview["checkpoints"]}
    assert shown["step753851"]["tokens"] == 1000 + 2 * 752_851
    assert shown["step753851"]["position_source"] == "step: step753851"
    extension = shown["extension_step0000250"]
    assert (extension["tokens"], extension["step"], extension["training_phase"]) == (
        None, 250, "extension",
    )  # fmt: skip
    assert any("extension_step0000250" in warning for warning in preview["warnings"])
    rows = list(csv.DictReader(io.StringIO(preview["table"])))
    for row in rows:
        if row["revision"] == "odd":
            row |= {"tokens": "5000", "replicate": "3"}
    edited = io.StringIO()
    writer = csv.DictWriter(edited, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    sent = {**body, "positions": edited.getvalue()}
    wrong = api.post("/v1/suites", json={**sent, "positions": sent["positions"] + "x,1\n"})
    assert wrong.status_code == 422
    assert wrong.json()["errors"][0]["pointer"] == "/positions"
    assert "line 5" in wrong.json()["errors"][0]["detail"]
    assert api.post("/v1/suites", json=sent).status_code == 201
    for again in (body, {"name": "shown", "path": str(tmp_path)}):
        suite = api.post("/v1/suites", json=again).json()  # keeps what the table said
        kept = {c["revision"]: c for c in suite["checkpoints"]}
        assert (kept["odd"]["tokens"], kept["odd"]["replicate"]) == (5000, 3)
        assert kept["odd"]["weights_sha256"]
        assert kept["step753851"]["tokens"] == 1000 + 2 * 752_851


def test_ranges_of_tokens_per_step_that_cannot_be_read_are_refused_by_name(
    api: TestClient, tmp_path: Path
) -> None:
    write_model(tmp_path / "step1", 1)
    for ranges in ("5", "1000:5", "0:5,1000=6", "0:0", "0:5,9:6,9:7"):
        body = {"name": "bad", "path": str(tmp_path), "tokens_per_step": ranges}
        answer = api.post("/v1/suites", json=body)
        assert answer.status_code == 422, ranges
        assert answer.json()["errors"][0]["pointer"].startswith("/tokens_per_step"), answer.text
