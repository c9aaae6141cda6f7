"""Pre-training: bit-exact resuming, built-in suites that match their recipes, plain refusals."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import make_suites
import numpy as np
import pandas as pd
import pytest
import torch
from in_process import Context
from pydantic import ValidationError

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments.pretraining import Pretraining
from ucurve.figures import pretraining
from ucurve.modeling import checkpoints
from ucurve.modeling.checkpoints import file_sha256, load
from ucurve.modeling.perplexity import window_losses
from ucurve.modeling.pretrain import (
    PretrainingConfig,
    build,
    learning_rate,
    loss_curve,
    phase,
)
from ucurve.modeling.token_data import END_OF_TEXT, tokens_of, train_tokenizer, training_data
from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.suites import Dataset, Location, Suite
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, PointInterrupted, Result, SpecError

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_layers": 1, "num_heads": 1, "intermediate_size": 32,
    "batch_rows": 4, "warmup_steps": 5,
}  # fmt: skip
BUILTIN_SETS = {
    d.name: d
    for d in map(Dataset.model_validate, json.loads((BUILTIN / "datasets.json").read_text()))
}
NOVELS = json.loads((BUILTIN / "suites" / "novels" / "text.json").read_text())  # is not shipped
TEXT_OF_NOVELS = Dataset(name=NOVELS["name"], kind="text", sha256=NOVELS["sha256"])


@dataclass
class Catalogue:
    datasets: dict[str, Dataset] = field(default_factory=lambda: dict(BUILTIN_SETS))
    suites: dict[str, Suite] = field(default_factory=dict)

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        if name not in self.datasets:
            raise SpecError(field, f"no dataset {name}")
        return self.datasets[name]

    def find_suite(self, name: str) -> Suite | None:
        return self.suites.get(name)

    def suite(self, name: str, field: str = "suite") -> Suite:
        raise SpecError(field, f"no suite {name}")


def planned(catalogue: Catalogue | None = None, **fields: Any) -> list[Point]:
    return list(Pretraining(**{**SMALL, **fields}).plan(catalogue or Catalogue()))


def weights(result: Result) -> dict[str, str | None]:
    assert result.suite
    return {
        checkpoint.revision: checkpoint.weights_sha256 for checkpoint in result.suite.checkpoints
    }


def row(position: int, point: Point, result: Result) -> MeasurementRow:
    """The row that a worker would leave, its NaN and inf as states."""
    metrics = {
        name: value if math.isfinite(value) else None for name, value in result.metrics.items()
    }
    return MeasurementRow(
        id=position,
        identity=point.identity,
        position=position,
        state="done",
        labels=dict(point.labels),
        metrics=metrics,
        nonfinite={name: "nan" for name, value in metrics.items() if value is None},
        series={
            name: [v if math.isfinite(v) else None for v in values]
            for name, values in result.series.items()
        },
    )


def test_a_run_stopped_within_a_step_continues_to_the_same_weights(tmp_path: Path) -> None:
    [point] = planned(protocol="one_run", steps=[10, 20, 30])
    whole = Pretraining.run(point, Context(tmp_path / "whole"))
    for stop_at in (0, 7, 20, 29):
        stopped = Context(tmp_path / "stopped", stop_at)
        with pytest.raises(PointInterrupted):
            Pretraining.run(point, stopped)
        assert stopped.calls[-1][0] == stop_at, "no step follows the one in which it was stopped"
    resumed = Context(tmp_path / "stopped")
    again = Pretraining.run(point, resumed)
    assert resumed.calls[0][0] == 29, "it goes on where it was, not from the start"
    assert weights(again) == weights(whole)
    assert len(set(weights(whole).values())) == 4
    assert again.series == whole.series
    assert (
        Pretraining.run(point, Context(tmp_path / "stopped")).metrics["nll_mean"]
        == whole.metrics["nll_mean"]
    )


def test_a_run_killed_in_the_middle_continues_to_the_same_weights(tmp_path: Path) -> None:
    [point] = planned(steps=[200], seeds=[3], keep_initial=False)
    whole = Pretraining.run(point, Context(tmp_path / "whole"))
    program = (
        "import sys; sys.path[:0] = [sys.argv[2], sys.argv[2] + '/../benchmarks']\n"
        "from pathlib import Path; from test_pretraining import *\n"
        "from ucurve.modeling import pretrain; pretrain.SAVE_EVERY_SECONDS = 0.1\n"
        "[point] = planned(steps=[200], seeds=[3], keep_initial=False)\n"
        "Pretraining.run(point, Context(Path(sys.argv[1])))"
    )
    state = tmp_path / "killed/state/state.pt"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "killed"), str(Path(__file__).parent)]
    )
    while process.poll() is None and not state.exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process was killed in the middle of its work"
    assert 0 < torch.load(state, weights_only=True)["step"] < 200
    assert weights(Pretraining.run(point, Context(tmp_path / "killed"))) == weights(whole)


@pytest.mark.parametrize("name", ["tiny", "tiny-constant", "tiny-seeds", "novels"])
def test_a_built_in_suite_is_what_its_recipe_asks_for(name: str, tmp_path: Path) -> None:
    folder = BUILTIN / "suites" / name
    catalogue = Catalogue({**BUILTIN_SETS, NOVELS["name"]: TEXT_OF_NOVELS})
    suite = Suite.model_validate_json((folder / "suite.json").read_text())
    points = list(
        Pretraining.model_validate_json((folder / "recipe.json").read_text()).plan(catalogue)
    )
    assert {point.artifacts["recipe"] for point in points} == {suite.recipe}
    asked = {(point.inputs["seed"], step) for point in points for step in point.inputs["keep"]}
    assert {(c.replicate, c.step) for c in suite.checkpoints} == asked
    for checkpoint in suite.checkpoints:
        assert checkpoint.tokens == (checkpoint.step or 0) * 2048
        load(checkpoint, "cpu", tmp_path)
    assert len({checkpoint.weights_sha256 for checkpoint in suite.checkpoints}) == len(asked)
    own = f"suites/{name}/"
    assert {entry.name for entry in folder.iterdir() if entry.is_dir()} == {
        c.revision for c in suite.checkpoints if c.location.path.startswith(own)
    }


def test_the_built_in_data_take_at_most_10_mb() -> None:
    assert sum(path.stat().st_size for path in BUILTIN.rglob("*") if path.is_file()) <= 10e6


def test_the_suite_of_real_text_takes_at_most_2_6_mb() -> None:
    files = [*(BUILTIN / "suites" / "novels").rglob("*"), *(BUILTIN / "texts").rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 2.6e6


def test_the_models_of_tiny_are_not_stored_again_for_tiny_seeds() -> None:
    path = BUILTIN / "suites/tiny-seeds/suite.json"
    checkpoints = Suite.model_validate_json(path.read_text()).checkpoints
    of_tiny = [c for c in checkpoints if c.replicate < 2]
    assert {c.location.path for c in of_tiny} == {f"suites/tiny/{c.revision}" for c in of_tiny}, (
        "seeds 0 and 1 are those of tiny"
    )
    places = {place.path for place in make_suites.stored_elsewhere("tiny").values()}
    assert not any(path.startswith("suites/tiny/") for path in places), "a rebuild stores its own"


@pytest.mark.parametrize(
    ("name", "seed", "steps"), [("tiny", 0, {0, 437}), ("tiny-seeds", 2, {437})]
)
def test_training_again_by_the_recipe_gives_the_shipped_weights(
    name: str, seed: int, steps: set[int], tmp_path: Path
) -> None:
    """The weights agree to the bit on a processor like the one that made them.

    Another one rounds sums differently: a change of 1e-7 in the initial weights moves these 437
    steps by 1.3e-4 of the weights' norm. The bound is far above that and far below 1.4, the
    distance to another seed.
    """
    folder = BUILTIN / "suites" / name
    recipe = Pretraining.model_validate_json((folder / "recipe.json").read_text())
    shipped = Suite.model_validate_json((folder / "suite.json").read_text())
    shortest = next(p for p in recipe.plan(Catalogue()) if p.inputs["seed"] == seed)
    made = Pretraining.run(shortest, Context(tmp_path)).suite
    assert made
    assert {checkpoint.step for checkpoint in made.checkpoints} == steps
    for ours in made.checkpoints:
        [theirs] = [
            checkpoint for checkpoint in shipped.checkpoints if checkpoint.revision == ours.revision
        ]
        assert (
            ours.model_copy(
                update={"location": theirs.location, "weights_sha256": theirs.weights_sha256}
            )
            == theirs
        )
        if ours.weights_sha256 != theirs.weights_sha256:
            a, b = (
                torch.nn.utils.parameters_to_vector(load(c, "cpu", tmp_path).model.parameters())
                for c in (ours, theirs)
            )
            assert (a - b).norm() < 0.02 * b.norm(), f"{ours.revision} is not what the recipe gives"


def test_a_text_gets_a_tokenizer_that_travels_with_every_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    words = np.random.default_rng(0).choice(
        ["ship", "sea", "the", "Käpt'n", "sails\n", "over", "a"], 20_000
    )
    text.write_text(END_OF_TEXT.join(" ".join(part) for part in np.array_split(words, 5)))
    dataset = Dataset(
        name="sea",
        kind="text",
        location=Location(scheme="path", path=str(text)),
        sha256=file_sha256(text),
    )
    catalogue = Catalogue({**BUILTIN_SETS, "sea": dataset})
    [point] = planned(
        catalogue, data="sea", vocabulary=300, steps=[30], context=32, learning_rate=0.02
    )
    result = Pretraining.run(point, Context(tmp_path / "artefacts"))
    assert result.suite
    last = result.suite.checkpoints[-1]
    assert last.tokenizer_sha256
    loaded = load(last, "cpu", tmp_path / "artefacts")
    assert loaded.tokenizer is not None
    unseen = "Käpt'n, naïve 東京"
    assert (
        loaded.tokenizer.decode(loaded.tokenizer.encode(unseen, add_special_tokens=False).ids)
        == unseen
    )
    tokens = tokens_of(dataset, loaded.tokenizer, tmp_path)
    assert window_losses(loaded.model, tokens, window=32, stride=32).nll_mean < math.log(300) - 1
    fresh = train_tokenizer(dataset, 300, tmp_path / "elsewhere")
    assert fresh.to_str() == loaded.tokenizer.to_str(), "the same text gives the same tokenizer"
    data = training_data(dataset, None, fresh, 32, tmp_path / "elsewhere")
    assert torch.equal(data.batches(0, 9, 8), data.batches(0, 9, 8))
    assert not torch.equal(data.batches(0, 9, 8), data.batches(0, 10, 8))


def test_divergence_is_a_result(tmp_path: Path) -> None:
    [point] = planned(
        steps=[60],
        learning_rate=1.0,
        grad_clip=1e6,
        init_std=1.0,
        schedule="constant",
        beta1=0.0,
        beta2=0.0,
    )
    point.inputs["recipe"]["learning_rate"] = 1e30
    result = Pretraining.run(point, Context(tmp_path))
    assert math.isnan(result.metrics["training_loss"])
    assert result.metrics["steps_done"] < 60
    assert list(weights(result)) == ["seed0-step0-tokens0"], "weights that broke are not kept"
    [broken, improving] = Pretraining(**SMALL).verdicts(to_frame([row(0, point, result)]))
    assert (broken.claim, broken.answer) == ("training is stable", "no")
    assert improving.answer == "undetermined"


def test_rates_and_phases_follow_the_schedule() -> None:
    common = {
        "vocab_size": 40,
        "context": 16,
        "init_std": 0.1,
        "num_steps": 100,
        "precision": "fp32",
        "weight_decay": 0.0,
    }
    fields = {
        name: value
        for name, value in Pretraining(**SMALL).model_dump().items()
        if name in PretrainingConfig.__dataclass_fields__
    }
    rates = {}
    for schedule in ("cosine", "linear", "constant"):
        recipe = PretrainingConfig(
            **{**fields, **common, "schedule": schedule, "learning_rate": 1.0, "warmup_steps": 10}
        )
        rates[schedule] = [learning_rate(recipe, step) for step in (0, 9, 10, 55, 99)]
        phases = [phase(recipe, step) for step in (0, 10, 11, 99, 100)]
        middle, end = ("constant", "constant") if schedule == "constant" else ("decay", "annealed")
        assert phases == ["warm-up", "warm-up", middle, middle, end]
    assert rates["constant"] == [0.1, 1.0, 1.0, 1.0, 1.0]
    assert rates["linear"] == pytest.approx([0.1, 1.0, 1.0, 0.5, 1 / 90])
    assert rates["cosine"] == pytest.approx(
        [0.1, 1.0, 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 89 / 90))]
    )
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    assert torch.equal(build(recipe, 0).lm_head.weight, build(recipe, 0).lm_head.weight)
    assert not torch.equal(build(recipe, 0).lm_head.weight, build(recipe, 1).lm_head.weight)
    assert torch.equal(torch.random.get_rng_state(), before), (
        "the process's own random numbers are left alone"
    )


def test_weight_decay_reaches_the_tensors_it_is_meant_for(tmp_path: Path) -> None:
    sizes = {}
    for decayed in ("matrices", "all"):
        [point] = planned(steps=[40], weight_decay=5.0, learning_rate=0.02, decayed=decayed)
        series = Pretraining.run(point, Context(tmp_path / decayed)).series
        sizes[decayed] = {
            group: series[f"rms_{group}"][-1] / series[f"rms_{group}"][0]
            for group in ("matrices", "gains")
        }
    assert max(sizes["matrices"]["matrices"], sizes["all"]["matrices"], sizes["all"]["gains"]) < 0.9
    assert sizes["matrices"]["gains"] > 0.97


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 36}, "multiple of 8 x num_heads"),
        ({"steps": [20, 10]}, "ascend"),
        ({"steps": [5, 10]}, "warmup_steps must be fewer than the 5"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"suite": "../up"}, "pattern"),
        (
            {
                "hidden_size": 4096,
                "num_layers": 48,
                "steps": list(range(10, 60)),
                "seeds": list(range(16)),
            },
            "TB",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Pretraining(**{**SMALL, **fields})


def test_plans_name_the_field_to_mend() -> None:
    text = Dataset(name="t", kind="text", sha256="00", location=Location(scheme="path", path="/t"))
    unresolved = text.model_copy(
        update={"name": "u", "sha256": None, "unresolved": "hashing: waiting"}
    )
    catalogue = Catalogue(
        {**BUILTIN_SETS, "t": text, "u": unresolved}, {"taken": Suite(name="taken", recipe="other")}
    )
    for fields, wrong in (
        ({"suite": "taken"}, "suite"),
        ({"data": "missing"}, "data"),
        ({"data": "u"}, "data"),
        ({"data": "tiny-held-out"}, "data"),
        ({"evaluation": "tiny-language"}, "evaluation"),
        ({"evaluation": "t"}, "evaluation"),
        ({"data": "t", "evaluation": "tiny-held-out"}, "evaluation"),
        ({"tokenizer": "t"}, "tokenizer"),
        ({"context": 32}, "context"),
    ):
        with pytest.raises(SpecError) as refused:
            planned(catalogue, **fields)
        assert refused.value.field == wrong, fields


def test_a_name_stands_for_one_recipe(tmp_path: Path) -> None:
    points = planned(steps=[10, 20], seeds=[0, 1])
    assert len({point.identity for point in points}) == 4
    again = Catalogue(
        suites={"my-suite": Suite(name="my-suite", recipe=points[0].artifacts["recipe"])}
    )
    assert [point.identity for point in planned(again, steps=[10, 20], seeds=[0, 1])] == [
        point.identity for point in points
    ]
    assert not {point.identity for point in planned(suite="other", steps=[10, 20])} & {
        point.identity for point in points
    }
    checkpoints.claim(tmp_path / "suites/my-suite", "another")
    with pytest.raises(checkpoints.CheckpointError, match="another recipe"):
        Pretraining.run(points[0], Context(tmp_path))


def test_the_loss_curve_keeps_the_mean() -> None:
    losses = list(np.random.default_rng(0).normal(3, 1, 14_000))
    tokens, means = loss_curve(losses, 2048)
    widths = np.diff([0, *tokens]) / 2048
    assert len(tokens) <= 80
    assert tokens[-1] == 14_000 * 2048
    assert np.dot(widths, means) == pytest.approx(sum(losses))
    assert loss_curve([], 2048) == ([], [])
    assert loss_curve([2.0], 10) == ([10.0], [2.0])


def test_figures_show_finished_and_running_runs_and_the_verdict_follows_the_held_out_loss(
    tmp_path: Path,
) -> None:
    spec = Pretraining(**SMALL, steps=[30, 60])
    points = list(spec.plan(Catalogue()))
    rows = [
        row(i, point, Pretraining.run(point, Context(tmp_path / str(i))))
        for i, point in enumerate(points)
    ]
    table = to_frame(rows)
    [verdict] = spec.verdicts(table)
    assert (verdict.answer, verdict.scope) == ("yes", "pre-training seed 0")
    held_out = pretraining.held_out_rows(table)
    assert 0 in [one["tokens"] for one in held_out]  # see ucurve/figures/zero_tick.py
    perplexities = [one["y"] for one in held_out if one["tokens"]]
    assert perplexities == pytest.approx([math.exp(one.metrics["nll_mean"] or 0) for one in rows])
    growth = {(one["group"], one["tokens"]): one["y"] for one in pretraining.growth_rows(table, 0)}
    [initial, after] = table.series[0]["rms_matrices"]
    assert growth["matrices", 30 * 256] == after / initial
    assert all(math.isfinite(size) for size in growth.values())
    live = {"done": 7, "total": 60, "series": {"loss": [5.0, None], "done": [6.0, 7.0]}}
    running = MeasurementRow(
        id=9, identity="", position=1, state="running", labels=dict(points[1].labels), live=live
    )
    drawn = pretraining.loss_rows(to_frame([rows[0], running]), 256)
    assert [(one["what"], one["tokens"]) for one in drawn if one["run"] == 60] == [
        ("mean", 1536.0),
        ("edge", 1792.0),
    ]
    charts = [
        spec.figures(some)
        for some in (table, to_frame([rows[0], running]), pd.DataFrame(table.iloc[:0]))
    ]
    assert set(charts[0]) == {"training", "held-out", "weights"}
    for name, figure in charts[0].items():
        assert figure.datasets["curves"], name
        assert all(other[name].chart == figure.chart for other in charts), (
            "the chart depends on the spec only"
        )
