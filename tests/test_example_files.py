"""Fine-tuning examples: parsed, registered, rebuilt from the hub, used by a worker."""

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from fake_hub import FakeHub, serving

from ucurve.cli import main
from ucurve.client import RequestRejectedError
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.registry import presets
from ucurve.registry.datasets import example_files, hub_datasets
from ucurve.registry.datasets.example_files import Examples, ExamplesError
from ucurve.registry.hub_cache import HubError
from ucurve.spec import Point

SHARED_LAB = True

SST2 = Path(__file__).parents[2] / "shared/data/sst2"
TSV = 'idx\tsentence\tlabel\n0\tgood \t1\n1\ta "bad" film\t0\n'


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_tsv_and_json_lines_are_parsed_and_other_columns_ignored(tmp_path: Path) -> None:
    labelled, prompted = ("sentence", "label"), ("prompt", "completion")
    assert example_files.read(written(tmp_path / "a.tsv", TSV)) == Examples(
        labelled, [("good ", "1"), ('a "bad" film', "0")]
    )
    lines = '{"completion": "4", "prompt": "2 + 2 =\\n"}\n{"prompt": "x", "completion": 5}\n'
    assert example_files.read(written(tmp_path / "a.jsonl", lines)) == Examples(
        prompted, [("2 + 2 =\n", "4"), ("x", "5")]
    )
    labels = Examples(labelled, [("", label) for label in ("10", "9", "10")])
    assert example_files.classes(labels) == ["9", "10"]
    assert example_files.classes(Examples(labelled, [("", "pos"), ("", "neg")])) == ["neg", "pos"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "text\tlabel\nx\t1\n", "neither sentence and label"),
        ("a.tsv", "sentence\tlabel\nx\t1\nno label\n", "line 3"),
        ("a.tsv", "sentence\tlabel\n", "no examples"),
        ("a.tsv", "", "neither sentence and label"),
        ("a.jsonl", '{"prompt": "x", "completion": "y"}\n{"prompt": "x"}\n', "line 2"),
        ("a.jsonl", "[1]\n", "line 1"),
    ],
)
def test_a_file_without_examples_is_rejected_with_the_line(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExamplesError, match=message):
        example_files.read(written(tmp_path / name, text))


@pytest.mark.skipif(not SST2.is_dir(), reason="needs ../shared/data")
def test_sst2_is_rebuilt_byte_for_byte_from_hub_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    preset = next(dataset for dataset in presets.datasets() if dataset.name == "sst2")
    assert preset.location is not None
    files = {}
    for split, name in (("train", "train.tsv"), ("validation", "dev.tsv")):
        rows = [line.split("\t") for line in (SST2 / name).read_text().splitlines()[1:]]
        columns = {
            "idx": list(range(len(rows))),
            "sentence": [row[0] for row in rows],
            "label": [int(row[1]) for row in rows],
        }
        parquet.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
        files[str(preset.parameters[split])] = (tmp_path / f"{split}.parquet").read_bytes()
    server = FakeHub({"datasets/stanfordnlp/sst2": {"main": files}})
    server.commits = {str(preset.location.commit): ("datasets/stanfordnlp/sst2", "main")}
    with serving(server) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = hub_datasets.example_files(preset, tmp_path)
        with pytest.raises(HubError, match="sha256"):
            hub_datasets.example_files(preset.model_copy(update={"sha256": "0" * 64}), tmp_path)
    assert found["train"].read_bytes() == (SST2 / "train.tsv").read_bytes()
    assert found["validation"].read_bytes() == (SST2 / "dev.tsv").read_bytes()
    assert hub_datasets.example_files(preset, tmp_path) == found, "without a hub from now on"


# ---- in a lab

TUNING: dict[str, Any] = {
    "kind": "fine_tuning", "suite": "tiny",
    "checkpoints": ["seed0-step437-tokens894976", "seed0-step7000-tokens14336000"],
    "learning_rates": [1e-3], "seeds": [0], "steps": 20, "batch_rows": 4,
}  # fmt: skip


def test_two_files_are_registered_as_a_dataset_and_errors_are_named(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, dev = (
        written(tmp_path / "train.tsv", TSV),
        written(tmp_path / "dev.tsv", "sentence\tlabel\nfine\t1\n"),
    )
    add = ["--url", lab.url, "datasets", "add", "films", "--train", str(train)]
    assert main([*add, "--validation", str(dev)]) == 0
    [films] = [dataset for dataset in lab.client.datasets() if dataset.name == "films"]
    names = {"train": "train.tsv", "validation": "dev.tsv", "columns": "sentence,label"}
    counts = {"train_rows": 2, "validation_rows": 1, "classes": 2}
    preview = {"preview": '{"sentence": "good ", "label": "1"}'}
    assert films.parameters == {**names, **counts, **preview}
    assert films.sha256
    assert main(add) == 2
    assert "--validation" in capsys.readouterr().err
    written(dev, "sentence\tlabel\nfine\t7\n")
    with pytest.raises(RequestRejectedError, match="labels that the train file does not have"):
        lab.client.add_dataset("others", train=str(train), validation=str(dev))
    with pytest.raises(RequestRejectedError, match="not a file"):
        lab.client.add_dataset("others", train=str(train), validation=str(tmp_path / "nothing"))
    with pytest.raises(RequestRejectedError, match="cannot read"):
        lab.client.plan({**TUNING, "task": "label_words", "data": "films"})


def test_a_sweep_after_a_fixed_rate_reports_what_is_new(lab: Lab) -> None:
    first = lab.client.submit(TUNING)
    assert lab.client.wait(first.id, timeout=200).progress.done == 4
    sweep = {**TUNING, "learning_rates": [5e-4, 1e-3]}
    preview = lab.client.plan(sweep)
    assert (preview.num_points, preview.num_existing, preview.num_new) == (6, 4, 2)
    noise = {
        "kind": "gaussian_perturbation",
        "suite": "tiny",
        "checkpoints": TUNING["checkpoints"],
        "gammas": [0.11],
        "draws": 1,
    }
    assert lab.client.plan(noise).num_existing == 2, "the bases"
    second = lab.client.wait(lab.client.submit(sweep).id, timeout=200)
    assert (second.progress.done, second.progress.reused) == (6, 4)
    table = lab.client.table(second.id)
    assert set(table["learning_rate"]) == {0.0, 5e-4, 1e-3}
    assert table["nll_mean"].notna().all()
    assert set(lab.client.figures(second.id)) >= {"table_1", "best_rate", "trade_off"}
    assert lab.client.verdicts(second.id)


def test_a_worker_killed_during_fine_tuning_resumes_without_loss(lab: Lab, tmp_path: Path) -> None:
    spec = {**TUNING, "checkpoints": TUNING["checkpoints"][:1], "steps": 2000, "seeds": [7]}
    experiment = lab.client.submit(spec)
    deadline = time.monotonic() + 120
    while not any(
        row.live and row.live.done > 5
        for row in lab.client.rows(experiment.id)
        if row.labels["method"] == "full"
    ):
        assert time.monotonic() < deadline, "the training never showed itself"
        time.sleep(0.05)
    [worker] = lab.workers
    worker.kill()
    lab.start_worker(worker.name)
    assert lab.client.wait(experiment.id, timeout=200).progress.done == 2
    [killed] = [row for row in lab.client.rows(experiment.id) if row.labels["method"] == "full"]
    whole = lab.client.provenance(killed.id)
    assert [attempt.outcome for attempt in whole.attempts] == ["lost", "done"]
    undisturbed = FineTuning.run(Point(whole.inputs, {}, whole.source), Alone(tmp_path))
    assert killed.metrics["nll_mean"] == undisturbed.metrics["nll_mean"]
    assert killed.series["training_loss"] == undisturbed.series["training_loss"]


class Alone:
    """The runtime that run() sees, in this process."""

    device = "cpu"

    def __init__(self, artefacts: Path) -> None:
        self.artefacts = artefacts
        self.state_dir = artefacts / "state"

    def progress(self, done: float, total: float, **metrics: float) -> None: ...

    def cached(self, key: str, make: Any) -> Any:
        return make()


def test_labels_that_only_look_like_numbers_are_sorted_as_text() -> None:
    rows = [("a", "²"), ("b", "10"), ("c", "9")]
    assert example_files.classes(Examples(("sentence", "label"), rows)) == ["10", "9", "²"]
    assert example_files.classes(Examples(("sentence", "label"), rows[1:])) == ["9", "10"]
