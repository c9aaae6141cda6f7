"""Results leave the lab for MLflow, Weights & Biases, Vega-Lite and the Hugging Face Hub."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import altair
import pytest
import vl_convert
from conftest import Lab

from ucurve.cli import main
from ucurve.figures.embedded_citation import citation_in
from ucurve.import_export.parquet import FolderError
from ucurve.import_export.tracked_curves import curves_of
from ucurve.import_export.writer import export
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import canonical

SHARED_LAB = True
TIME = "2026-02-03T04:05:06Z"
PLACES = (0, 1_000_000, 2_000_000)
LOSSES = {0: 6.0, 1_000_000: 3.0, 2_000_000: 2.5}


def planned(gamma: float, tokens: int, draw: int) -> dict[str, Any]:
    """The labels of a point; without noise there are no draws."""
    labels = {"revision": f"r{tokens}", "tokens": tokens, "replicate": 0, "phase": None}
    noise = {"scale": "init_std", "draw": draw, "group": "all"} if gamma else {"scale": None}
    return {**labels, "gamma": gamma, **noise}


def measured(labels: dict[str, Any], loss: float, name: str) -> dict[str, Any]:
    finite = math.isfinite(loss)
    inputs = {"test": name, **labels}
    attempt = {
        "worker": "elsewhere",
        "device": "cpu",
        "versions": {"torch": "2.13.0"},
        "outcome": "done",
        "started_at": TIME,
        "finished_at": TIME,
        "metrics": {"nll_mean": loss if finite else None},
        "nonfinite": {} if finite else {"nll_mean": "pos_inf"},
        "series": {"window_nll": [8 * loss] * 40, "window_tokens": [8] * 40} if finite else {},
        "shown": True,
    }
    return {
        "identity": hashlib.sha256(canonical(inputs).encode()).hexdigest(),
        "repeat": 0,
        "kind": "gaussian_perturbation",
        "inputs": inputs,
        "source": {},
        "labels": labels,
        "group_key": name,
        "seconds": 1.0,
        "requires_device": "any",
        "requires_memory_gb": 0.1,
        "state": "done",
        "finished_at": TIME,
        "attempts": [attempt],
    }


def rows(name: str, num_draws: int) -> list[dict[str, Any]]:
    every = [measured(planned(0.0, at, 0), LOSSES[at], name) for at in PLACES]
    every += [
        measured(
            planned(0.2, at, draw),
            math.inf if at == 0 and draw == 1 else LOSSES[at] + 0.5 + 0.01 * draw,
            name,
        )
        for at in PLACES
        for draw in range(num_draws)
    ]
    return every


def add(lab: Lab, name: str, num_draws: int, created_at: str = TIME) -> int:
    made = rows(name, num_draws)
    lab.client.import_measurements("elsewhere", made)
    points = [{**{k: r[k] for k in ("identity", "repeat", "labels")}, "stage": 0} for r in made]
    spec = {"kind": "gaussian_perturbation", "suite": "tiny", "gammas": [0.2], "draws": num_draws}
    fields = {"origin": "elsewhere", "id": 1, "name": name, "kind": spec["kind"], "owner": "ann"}
    fields |= {"tags": ["leaving"], "notes": "", "priority": 0, "created_at": created_at}
    times = {"started_at": TIME, "finished_at": TIME}
    return lab.client.import_experiment({**fields, **times, "spec": spec, "points": points}).id


@pytest.fixture(scope="module")
def id(lab: Lab) -> int:
    return add(lab, "it's leaving, =1+1", 3)


def run(lab: Lab, *words: object) -> int:
    return main(["--url", lab.url, *map(str, words)])


# ---- MLflow


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A tracking database, which MLflow's own code makes and migrates."""
    return f"sqlite:///{tmp_path}/mlflow.db"


def runs_of(store: str, name: str = "ucurve") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(name)
    return sorted(
        client.search_runs([experiment.experiment_id]), key=lambda one: one.info.start_time
    )


def history(store: str, run_id: str, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=store).get_metric_history(run_id, metric)
    return sorted((one.step, one.value) for one in found)


def test_mlflow_gets_curves_verdicts_and_provenance_and_is_updated_not_doubled(
    lab: Lab, id: int, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)  # a database without a server keeps files beside the program
    words = ("export", "--mlflow", store, "--experiment", id, "--origin", "lab's A")
    assert run(lab, *words) == 0
    assert "1 experiment in ucurve: 3 new runs, 0 updated" in capsys.readouterr().out
    parent, base, noise = runs_of(store)
    assert parent.info.run_name == "it's leaving, =1+1"
    assert {base.data.tags["mlflow.parentRunId"], noise.data.tags["mlflow.parentRunId"]} == {
        parent.info.run_id
    }
    assert history(store, base.info.run_id, "nll_mean") == sorted(LOSSES.items())
    finite = [(at, pytest.approx(LOSSES[at] + 0.51)) for at in PLACES[1:]]
    assert history(store, noise.info.run_id, "nll_mean") == finite
    assert history(store, noise.info.run_id, "nll_mean/not_finite") == [(0, 1.0)]
    assert noise.data.params["gamma"] == "0.2"
    tags = parent.data.tags
    assert tags["ucurve.suite"] == "tiny"
    assert tags["ucurve.versions.torch"] == "2.13.0"
    assert len(tags["ucurve.identities_sha256"]) == 64
    assert any("undetermined: " in text for name, text in tags.items() if "verdict." in name)
    assert "[Experiment" in tags["mlflow.note.content"]

    assert run(lab, *words) == 0
    assert "0 new runs, 3 updated, 0 new values" in capsys.readouterr().out
    again = runs_of(store)
    assert [one.info.run_id for one in again] == [one.info.run_id for one in (parent, base, noise)]
    assert history(store, base.info.run_id, "nll_mean") == sorted(LOSSES.items())
    from mlflow import MlflowClient

    files = MlflowClient(tracking_uri=store).list_artifacts(parent.info.run_id, "ucurve/figures")
    assert {Path(one.path).stem for one in files} >= {"perplexity", "loss_change"}


def test_a_curve_with_other_values_replaces_its_run(
    lab: Lab, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ucurve.import_export.mlflow_runs import Tracker
    from ucurve.import_export.tracked_experiment import collect

    monkeypatch.chdir(tmp_path)
    few = collect(lab.client, add(lab, "few", 2, "2026-02-03T04:05:07Z"), "A")
    many = collect(lab.client, add(lab, "many", 4, "2026-02-03T04:05:08Z"), "A")
    tracker = Tracker.connect(store, "mine")
    tracker.write(few)
    before = {one.info.run_id for one in runs_of(store, "mine")}
    few.curves[:] = many.curves  # seeds were added
    tracker.write(few)
    after = runs_of(store, "mine")
    assert len(after) == 3
    assert len(before & {one.info.run_id for one in after}) == 2
    [noise] = [one for one in after if one.data.params.get("gamma") == "0.2"]
    assert history(store, noise.info.run_id, "num_seeds")[1:] == [(10**6, 4.0), (2 * 10**6, 4.0)]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://127.0.0.1:9", "cannot reach an MLflow server at http://127.0.0.1:9"),
        ("nowhere://x", "nowhere://x is no tracking address of MLflow: use http(s)://"),
        ("mlruns", "use a database such as sqlite:///mlflow.db"),
    ],
)
def test_a_wrong_address_is_one_line_with_a_remedy(
    lab: Lab, uri: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lab, "export", "--mlflow", uri) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert [said in line for line in lines] == [True]


def test_another_program_at_the_address_is_named(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lab, "export", "--mlflow", lab.url) != 0
    assert "answers, but is not an MLflow server" in capsys.readouterr().err


def test_an_export_needs_a_place(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lab, "export") != 0
    assert "give a folder to create, --mlflow URI or --wandb-csv FILE" in capsys.readouterr().err


# ---- Weights & Biases


def test_the_csv_for_weights_and_biases_has_a_row_per_step_and_stable_runs(
    lab: Lab, id: int, tmp_path: Path
) -> None:
    tables = []
    for name in ("one.csv", "two.csv"):
        path = tmp_path / name
        words = ("export", "--wandb-csv", path, "--experiment", id, "--origin", "A")
        assert run(lab, *words) == 0
        tables.append(list(csv.DictReader(path.read_text().splitlines())))
    first, second = tables
    assert first == second
    assert {row["run_id"] for row in first} == {row["run_id"] for row in second}
    noise = [row for row in first if row["config.gamma"] == "0.2"]
    assert [int(row["_step"]) for row in noise] == list(PLACES)
    assert noise[0]["nll_mean"] == ""
    assert float(noise[0]["nll_mean/not_finite"]) == 1.0
    assert float(noise[1]["nll_mean"]) == pytest.approx(3.51)
    assert noise[0]["config.ucurve.suite"] == "tiny"
    assert any(name.startswith("summary.") and row for name, row in noise[0].items())


def test_other_steps_than_tokens_are_used_where_there_are_none() -> None:
    made = [
        MeasurementRow(
            id=i,
            identity=str(i),
            position=i,
            state="done",
            labels={"features": 1 + i % 3, "gamma": i // 3},
            metrics={"mse_mean": float(i)},
        )
        for i in range(6)
    ]
    curves = curves_of(made)
    assert [curve.step_name for curve in curves] == ["features"] * 2
    assert [list(curve.points) for curve in curves] == [[1, 2, 3]] * 2
    run = MeasurementRow(
        id=9,
        identity="9",
        position=9,
        state="done",
        labels={"replicate": 0, "step": 10},
        metrics={"training_loss": 2.0},
        series={"training_tokens": [0.0, 100.0], "training_loss": [6.0, 2.0]},
    )
    [trained] = curves_of([run])
    assert trained.points == {0: {"training_loss": 6.0}, 100: {"training_loss": 2.0}}


# ---- Vega-Lite


def test_figures_are_written_as_vega_lite_that_is_valid_and_draws_itself(
    lab: Lab, id: int, tmp_path: Path
) -> None:
    assert run(lab, "figures", id, "-o", tmp_path, "--format", "json") == 0
    names = {path.stem for path in tmp_path.glob("*.json")}
    assert {"perplexity", "loss_change", "heat_map"} <= names
    for path in tmp_path.glob("*.json"):
        content = path.read_bytes()
        chart = json.loads(content)
        altair.Chart.from_dict(chart)  # against the schema of Vega-Lite
        assert "/vega-lite/v6" in chart["$schema"]
        assert chart["title"]
        assert vl_convert.vegalite_to_svg(content.decode()).startswith("<svg")
        assert citation_in(content).experiments == [id] or citation_in(content).experiments == (id,)
    assert run(lab, "cite", tmp_path / "perplexity.json") == 0


# ---- Hugging Face


def test_a_dataset_card_with_its_tables_is_loaded_by_datasets(
    lab: Lab, id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import yaml

    folder = tmp_path / "out"
    words = ("export", folder, "--experiment", id, "--no-site", "--dataset-card", "cc-by-4.0")
    assert run(lab, *words, "--origin", 'lab "A": ours') == 0
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert [one["config_name"] for one in front["configs"]] == ["measurements", "verdicts"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"README.md", "data/measurements.parquet"} <= set(manifest["files"])
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=cache)
    assert len(loaded) == front["dataset_info"][0]["splits"][0]["num_examples"] == 12
    by_place = {(row["tokens"], row["gamma"], row["draw"]): row["nll_mean"] for row in loaded}
    assert by_place[0, 0.2, 1] == math.inf
    assert by_place[1_000_000, 0.0, None] == 3.0
    verdicts = datasets.load_dataset(str(folder), "verdicts", split="train", cache_dir=cache)
    assert "progressive sensitivity" in set(verdicts["claim"])


def test_a_licence_that_is_none_is_refused(lab: Lab, id: int, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no identifier of a licence"):
        export(
            lab.client,
            tmp_path / "out",
            {"experiment": [id]},
            "A",
            lambda *_: None,
            site=False,
            force=False,
            licence="my own!",
        )
    assert not (tmp_path / "out").exists()
