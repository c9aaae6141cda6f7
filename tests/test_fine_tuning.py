"""Fine-tuning from spec to verdict: what is shared and what is new, one point by an independent road, figures and claims."""

import itertools
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert
from pydantic import ValidationError
from test_finetune import model_of

from ucurve import published, tuning_numbers
from ucurve.checkpoints import BUILTIN, save
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.language import Lang
from ucurve.records import Live, MeasurementRow, frame
from ucurve.spec import Figure, Point, SpecError, Stopped
from ucurve.suites import Checkpoint, Dataset, Location, Suite

SETS = {d.name: d for d in map(Dataset.model_validate, json.loads((BUILTIN / "datasets.json").read_text()))}
HELD_OUT = SETS["tiny-held-out"]
SETS["few"] = HELD_OUT.model_copy(update={"name": "few", "parameters": {**HELD_OUT.parameters, "rows": 20}, "sha256": "f" * 64})
SETS["sst2"] = Dataset(
    name="sst2", kind="examples", sha256="d" * 64, parameters={"classes": 2, "train_rows": 67349}, size_bytes=3_800_000
)
SETS["wikitext-2"] = Dataset(name="wikitext-2", kind="text", sha256="e" * 64, size_bytes=1_290_590)
TOKENS = [0, 1_000_000, 2_000_000, 4_000_000, 8_000_000]
EXAMPLE: dict[str, Any] = {"suite": "paper", "learning_rates": [3e-4, 1e-3, 3e-3, 1e-2], "seeds": [0, 1, 2, 3, 4]}


def paper(name: str = "paper", replicates: tuple[int, ...] = (0, 1), tokenizer: str | None = None, **changes: Any) -> Suite:
    checkpoints = [
        Checkpoint(
            suite=name, revision=f"seed{replicate}-tokens{tokens}", location=Location(scheme="path", path="/nowhere"),
            step=tokens // 1000, tokens=tokens, replicate=replicate, num_parameters=46_592, tokenizer_sha256=tokenizer,
            weights_sha256=f"{replicate}-{tokens}", config_sha256="c",
        )
        for replicate, tokens in itertools.product(replicates, TOKENS)
    ]  # fmt: skip
    return Suite(name=name, checkpoints=checkpoints, evaluation="tiny-held-out").model_copy(update=changes)


@dataclass
class Catalogue:
    suites: list[Suite]

    def suite(self, name: str, field: str = "suite") -> Suite:
        return next(suite for suite in self.suites if suite.name == name)

    def find_suite(self, name: str) -> Suite | None:
        return None

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        return SETS[name]


@dataclass
class Context:
    """The runtime that run() sees, in this process."""

    artefacts: Path
    stop_at: float = math.inf
    kept: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    device: str = "cpu"

    @property
    def state_dir(self) -> Path:
        return self.artefacts / "state"

    def progress(self, done: float, total: float, **metrics: float) -> None:
        self.calls.append((done, total))
        self.losses += metrics.values()
        if done >= self.stop_at:
            raise Stopped

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


def planned(suite: Suite | None = None, **fields: Any) -> list[Point]:
    suite = suite or paper()
    return list(FineTuning(**{**EXAMPLE, "suite": suite.name, **fields}).plan(Catalogue([suite])))


def identities(points: list[Point]) -> set[str]:
    return {point.identity for point in points}


# ---- the plan


def test_a_sweep_after_a_fixed_rate_measures_only_the_rates_that_are_new() -> None:
    one, sweep = planned(learning_rates=[1e-3]), planned()
    assert len(identities(sweep)) == len(sweep) == 2 * 4 * (1 + 4 * 5)
    assert identities(one) < identities(sweep)
    new = [point for point in sweep if point.identity not in identities(one)]
    assert {point.labels["learning_rate"] for point in new} == {3e-4, 3e-3, 1e-2}
    for smaller in ({"seeds": [3]}, {"checkpoints": {"log_spaced": 2}}):
        assert identities(planned(**smaller)) < identities(sweep)
    wider = planned(methods=["full", "lora", "l2_sp", "ewc", "head"], alphas=[0.5], evaluations=["tiny-held-out", "few"])
    assert identities(sweep) < identities(wider), "methods, interpolations and sets add points and change none"


def test_the_base_is_the_very_measurement_of_gaussian_perturbation() -> None:
    suite = paper()
    noise = GaussianPerturbation(suite="paper", gammas=[0.1], draws=1).plan(Catalogue([suite]))
    theirs = {point.identity for point in noise if point.labels["gamma"] == 0}
    assert {point.identity for point in planned(suite) if point.labels["method"] == "base"} == theirs
    assert len(theirs) == 8


def test_all_measurements_on_the_same_fine_tuned_weights_share_their_training() -> None:
    points = planned(alphas=[0.25, 0.75], evaluations=["tiny-held-out", "few"], learning_rates=[1e-3], seeds=[0])
    changes: dict[str, list[Any]] = {}
    for point in points:
        if point.labels["method"] != "base":
            change = {**point.inputs["perturbation"]}
            changes.setdefault(point.group, []).append((change.pop("interpolation"), json.dumps(change, sort_keys=True)))
    assert {len(found) for found in changes.values()} == {2 * 3}
    assert {len({training for _, training in found}) for found in changes.values()} == {1}


def test_at_a_tenth_of_the_budget_every_curve_has_both_ends() -> None:
    points = sorted(planned(), key=lambda point: point.stage)
    first = [point for point in points[: len(points) // 5] if point.labels["method"] == "full"]
    ends = {(p.labels["replicate"], p.labels["learning_rate"], p.labels["tokens"]) for p in first}
    assert set(itertools.product((0, 1), (3e-4, 1e-2), (TOKENS[1], TOKENS[-1]))) <= ends
    assert {point.labels["seed"] for point in first} == {0}
    extra = planned(alphas=[0.5])
    latest = max(point.stage for point in extra if point.labels["alpha"] == 1)
    assert all(point.stage >= latest - 20 for point in extra if point.labels["alpha"] == 0.5), "after what they share is trained"


def test_defaults_are_those_of_the_task() -> None:
    change = planned(learning_rates=[])[-1].inputs["perturbation"]
    assert change["recipe"]["learning_rate"] == 1e-3
    assert (change["recipe"]["length"], change["recipe"]["batch_rows"]) == ({"steps": 200}, 16)
    assert change["task"]["data"] == SETS["tiny-redrawn"].sha256
    pythia = {"task": "label_words", "evaluations": ["wikitext-2"], "learning_rates": [], "seeds": [0]}
    change = planned(paper(tokenizer="t"), **pythia)[-1].inputs["perturbation"]
    recipe = {
        "optimiser": "adamw", "learning_rate": 2e-5, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "batch_rows": 32,
        "length": {"epochs": 3.0}, "schedule": "linear", "warmup": 0.06, "grad_clip": 1.0, "precision": "fp32",
    }  # fmt: skip
    assert change["recipe"] == recipe
    assert change["task"]["prompt"] == "Review: {sentence}\nSentiment:"
    assert change["task"]["label_words"] == ["negative", "positive"]


def test_what_cannot_be_planned_is_refused_with_field_and_remedy() -> None:
    def refusal(suite: Suite | None = None, **fields: Any) -> str:
        with pytest.raises(SpecError) as error:
            planned(suite, **fields)
        return error.value.field

    text = {"evaluations": ["wikitext-2"]}
    read = paper(tokenizer="t")
    assert refusal(paper(evaluation=None)) == "evaluations"
    assert refusal(**text) == "evaluations"
    assert refusal(evaluations=["tiny-language"]) == "evaluations"
    assert refusal(evaluations=["sst2"]) == "evaluations"
    assert refusal(data="sst2", task="label_words") == "data"
    assert refusal(read, data="tiny-redrawn", **text) == "data"
    assert refusal(task="label_words", data="tiny-redrawn") == "data"
    assert refusal(data="tiny-sentiment") == "data"
    assert refusal(read, data="sst2", task="label_words", label_words=["a", "b", "c"], **text) == "label_words"
    assert refusal(read, data="sst2", methods=["ewc"], **text) == "ewc_data"
    assert refusal(epochs=2) == "epochs"
    assert planned(task="label_words")[-1].inputs["perturbation"]["task"]["data"] == SETS["tiny-sentiment"].sha256
    for wrong in (
        {"learning_rates": [-1]}, {"methods": []}, {"epochs": 1, "steps": 1}, {"prompt": "no place"}, {"alphas": [1.0]},
        {"methods": ["lora"], "alphas": [0.5]}, {"window": 8, "stride": 9}, {"seeds": []}, {"warmup": 1.0},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            FineTuning(**wrong)


# ---- one point


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Path]:
    artefacts = tmp_path_factory.mktemp("artefacts")
    checkpoints = []
    for step in (10, 20):
        location = Location(scheme="artefacts", path=f"suites/real/step{step}")
        saved = save(model_of(step), artefacts / location.path)
        place = {"suite": "real", "revision": f"step{step}", "step": step, "tokens": step * 1000}
        checkpoints.append(Checkpoint(location=location, **place, **asdict(saved)))
    return Suite(name="real", checkpoints=checkpoints, evaluation="few"), artefacts


FAST = {"learning_rates": [1e-3], "seeds": [0], "steps": 10, "batch_rows": 4}


def points_of(suite: Suite, revision: str = "step20", **fields: Any) -> dict[tuple[str, float], Point]:
    points = planned(suite, **{**FAST, **fields})
    return {(p.labels["method"], p.labels["alpha"]): p for p in points if p.labels["revision"] == revision}


def plain_loss(model: torch.nn.Module, rows: torch.Tensor) -> float:
    with torch.no_grad():
        logits = model(rows).logits[:, :-1].double()
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()))


def test_a_point_is_what_a_plain_loop_of_torch_gives(real: tuple[Suite, Path], tmp_path: Path) -> None:
    """Trained with torch's own AdamW and scheduler, evaluated row by row: nothing of the measured path is used."""
    suite, artefacts = real
    context = Context(artefacts)
    points = points_of(suite, alphas=[0.5])
    found = {key: FineTuning.run(point, context) for key, point in points.items()}
    model, base = model_of(20), model_of(20)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 if step < 1 else (10 - step) / 9)
    losses = []
    for step in range(10):
        rows = torch.from_numpy(Lang(1).documents(4, 64, split="fine-tuning", seed=0, step=step).rows.astype(np.int64))
        loss = torch.nn.functional.cross_entropy(model(rows).logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    held_out = torch.from_numpy(Lang(0).documents(20, 64, split="held-out").rows.astype(np.int64))
    new = torch.from_numpy(Lang(1).documents(512, 64, split="fine-tuning validation").rows.astype(np.int64))
    after = found["full", 1.0]
    assert found["base", 0.0].metrics["nll_mean"] == pytest.approx(plain_loss(base, held_out), rel=1e-5)
    assert after.metrics["nll_mean"] == pytest.approx(plain_loss(model, held_out), rel=1e-5)
    assert after.metrics["id_loss"] == pytest.approx(plain_loss(model, new), rel=1e-5)
    assert after.series["training_loss"][0] == pytest.approx(losses[0], rel=1e-5)
    assert (after.metrics["steps_done"], after.metrics["tokens_read"]) == (10, 10 * 4 * 64)
    flat, origin = (torch.nn.utils.parameters_to_vector(m.parameters()).detach().double() for m in (model, base))
    assert after.metrics["displacement"] == pytest.approx(float((flat - origin).norm() / origin.norm()), rel=1e-4)
    with torch.no_grad():
        for a, b in zip(model.parameters(), base.parameters(), strict=True):
            a.copy_((a + b) / 2)
    assert found["full", 0.5].metrics["nll_mean"] == pytest.approx(plain_loss(model, held_out), rel=1e-5)
    assert found["full", 0.5].metrics["id_loss"] == pytest.approx(plain_loss(model, new), rel=1e-5)
    assert sum(len(list(folder.glob("*.safetensors"))) for folder in (artefacts / "tuned").iterdir()) == 1, "trained once"


def test_the_same_point_gives_the_same_number_and_leaves_the_base_as_it_was(real: tuple[Suite, Path], tmp_path: Path) -> None:
    suite, artefacts = real
    points = points_of(suite, "step10", methods=["full", "lora", "head"])
    context = Context(artefacts)
    base = FineTuning.run(points["base", 0.0], context)
    first = {key: FineTuning.run(point, context) for key, point in points.items()}
    assert first["base", 0.0] == base == GaussianPerturbation.run(points["base", 0.0], Context(artefacts))
    for folder in (artefacts / "tuned").iterdir():
        (folder / "weights.safetensors").unlink()  # as if the disk had been wanted for something else
    again = {key: FineTuning.run(point, context) for key, point in points.items()}
    for key, result in first.items():
        timeless = [{k: v for k, v in one.metrics.items() if k != "seconds_training"} for one in (result, again[key])]
        assert timeless[0] == timeless[1]
        assert result.series == again[key].series


def test_a_point_stopped_anywhere_goes_on_where_it_stopped(real: tuple[Suite, Path], tmp_path: Path) -> None:
    suite, artefacts = real
    point = points_of(suite, seeds=[5])["full", 1.0]
    shutil.copytree(artefacts / "suites", tmp_path / "suites")
    whole = FineTuning.run(point, Context(artefacts))
    for stop_at in (0, 4, 9, 10.2):
        with pytest.raises(Stopped):
            FineTuning.run(point, Context(tmp_path, stop_at))
    context = Context(tmp_path)
    again = FineTuning.run(point, context)
    assert again.metrics["nll_mean"] == whole.metrics["nll_mean"]
    assert again.series == whole.series
    assert context.calls[0][0] > 0, "nothing is trained twice"
    assert all(done <= total for done, total in context.calls)


def test_divergence_is_a_result_with_a_state_and_the_base_stays_usable(real: tuple[Suite, Path]) -> None:
    suite, artefacts = real
    points = points_of(suite, learning_rates=[10.0], optimiser="sgd", grad_clip=1e6, warmup=0.0, steps=30)
    points["full", 1.0].inputs["perturbation"]["recipe"]["learning_rate"] = 1e25
    context = Context(artefacts)
    before = FineTuning.run(points["base", 0.0], context)
    result = FineTuning.run(points["full", 1.0], context)
    assert math.isnan(result.metrics["nll_mean"])
    assert result.metrics["steps_done"] < 30
    assert FineTuning.run(points["base", 0.0], context) == before


def test_the_training_loss_is_told_while_it_runs(real: tuple[Suite, Path], tmp_path: Path) -> None:
    suite, artefacts = real
    shutil.copytree(artefacts / "suites", tmp_path / "suites")
    context = Context(tmp_path)
    result = FineTuning.run(points_of(suite)["full", 1.0], context)
    assert len(context.losses) == 10
    widths = np.diff([0, *result.series["training_steps"]])
    assert np.mean(context.losses) == pytest.approx(np.average(result.series["training_loss"], weights=widths))


# ---- figures and verdicts


def table_of(points: list[Point], values: Callable[[dict[str, Any]], dict[str, float] | None]) -> pd.DataFrame:
    """The table when every point has these metrics (None: open), with windows whose sums agree."""
    rows = []
    for i, point in enumerate(points):
        found = values(dict(point.labels))
        metrics = {name: value if math.isfinite(value) else None for name, value in (found or {}).items()}
        nll = metrics.get("nll_mean")
        rows.append(
            MeasurementRow(
                id=100 + i, identity=point.identity, position=i, state="open" if found is None else "done",
                labels=dict(point.labels), metrics=metrics, nonfinite={name: "nan" for name, v in metrics.items() if v is None},
                series={"window_nll": [63 * nll] * 40, "window_tokens": [63.0] * 40} if nll else {},
            )
        )  # fmt: skip
    return frame(rows)


def sensitive(labels: dict[str, Any]) -> dict[str, float]:
    """A base that improves; forgetting ~ lr^1 tokens^0.8, a U at high rates; an ID loss with its best rate at 2e-3, which falls
    as tokens^-0.3."""
    tokens, rate = labels["tokens"] / 1e6, labels["learning_rate"]
    base = 3.0 - 0.2 * math.log(tokens)
    if not rate:
        return {"nll_mean": base}
    wobble = 1 + 0.02 * (labels["seed"] - 2) + 0.002 * math.sin(99 * labels["seed"] + tokens)
    best = math.log(2e-3) - 0.3 * math.log(tokens)
    learned = 2.5 - 0.05 * math.log(tokens) + 0.05 * (math.log(rate) - best) ** 2 + 0.001 * math.sin(7 * labels["seed"] + tokens)
    alpha = labels["alpha"]
    forgetting = 60 * rate * tokens**0.8 * wobble * alpha**2 * (0.5 if labels["method"] == "l2_sp" else 1.0)
    displacement = 50 * alpha * rate / tokens**0.2
    return {"nll_mean": base + forgetting, "id_loss": learned + 0.1 * (1 - alpha), "displacement": displacement}


def named(figure: Figure, what: str, **fields: Any) -> list[dict[str, Any]]:
    [rows] = figure.datasets.values()
    return [row for row in rows if row["what"] == what and fields.items() <= row.items()]


def test_figures_show_what_was_forgotten_and_learned() -> None:
    figures = FineTuning(**EXAMPLE).figures(table_of(planned(), sensitive))
    where = {"replicate": 1, "tokens": 4_000_000}
    runs = [sensitive({**where, "learning_rate": 3e-3, "seed": seed, "alpha": 1.0, "method": "full"}) for seed in range(5)]
    base = sensitive({**where, "learning_rate": 0.0})["nll_mean"]
    after, learned = np.mean([run["nll_mean"] for run in runs]), np.mean([run["id_loss"] for run in runs])
    change = math.exp(after) - math.exp(base)
    expected = {"perplexity": math.exp(after), "forgetting": change, "forgetting_nats": after - base, "learned": learned}
    for name, value in expected.items():
        [row] = named(figures[name], "mean", **where, learning_rate=3e-3)
        assert row["y"] == pytest.approx(value), name
    [row] = named(figures["perplexity"], "mean", **where, learning_rate=0.0)
    assert row["y"] == pytest.approx(math.exp(base))
    [row] = named(figures["forgetting_by_rate"], "mean", **where, learning_rate=3e-3)
    assert (row["x"], row["y"]) == pytest.approx((3e-3, after - base))
    [row] = named(figures["trade_off"], "dominated", **where, learning_rate=3e-3)
    assert (row["x"], row["y"], row["order"]) == pytest.approx((learned, after - base, 3e-3))
    front = [row["learning_rate"] for row in named(figures["trade_off"], "mean", **where)]
    assert front == [3e-4, 1e-3], "larger rates forget more and learn less"
    cells = {cell["column"]: cell["label"] for cell in named(figures["table_1"], "cell", **where, learning_rate=3e-3)}
    assert (cells["before"], cells["seeds"]) == (f"{math.exp(base):.2f}", "5")
    told = {"after": f"{math.exp(after):.2f} (", "change": f"{change:+.2f} (+", "task loss": f"{learned:.3f} ± 0.0"}
    assert all(cells[column].startswith(text) for column, text in told.items()), cells
    best = {row["tokens"]: row["y"] for row in named(figures["best_rate"], "mean", replicate=0)}
    assert best == {1_000_000: 3e-3, 2_000_000: 1e-3, 4_000_000: 1e-3, 8_000_000: 1e-3}
    assert not named(figures["best_rate"], "open bottom")
    reach = [row["tokens"] for row in named(figures["matched"], "mean", replicate=0)]
    assert reach == TOKENS[1:4], "the last is below that loss at the smallest rate already: nothing is made up for it"
    [bound] = named(figures["matched"], "open bottom", replicate=0)
    [smallest] = named(
        figures["forgetting_by_rate"], "mean", **{**where, "tokens": 8_000_000, "learning_rate": 3e-4, "replicate": 0}
    )
    assert (bound["tokens"], bound["y"]) == (8_000_000, pytest.approx(smallest["y"])), "but a bound"
    assert any(row["label"].endswith("1 of 4 are bounds") for row in named(figures["matched"], "note"))
    [bottom] = named(figures["perplexity"], "bottom", replicate=0, learning_rate=1e-2)
    assert bottom["tokens"] < 8_000_000


def test_forgetting_is_matched_at_the_loss_that_every_checkpoint_reaches() -> None:
    spec = FineTuning(**EXAMPLE)
    rows = tuning_numbers.matched(tuning_numbers.prepared(table_of(planned(), sensitive)), spec)
    [target] = {row["target"] for row in rows if row["what"] == "mean"}
    common = {"tokens": 1e6, "alpha": 1, "method": "full"}
    losses = [[sensitive({**common, "learning_rate": rate, "seed": seed})["id_loss"] for seed in range(5)] for rate in spec.rates]
    assert target == pytest.approx(min(np.mean(losses, axis=1)))


def test_a_running_point_s_training_loss_is_drawn_as_far_as_it_is() -> None:
    point = next(point for point in planned() if point.labels["learning_rate"] == 1e-3)
    live = Live(done=2, total=200, series={"done": [0.0, 1.0, 2.0], "loss": [3.5, 3.4]})
    labels = dict(point.labels)
    row = MeasurementRow(id=1, identity=point.identity, position=0, state="running", labels=labels, live=live)
    drawn = FineTuning(**EXAMPLE).figures(frame([row]))["training"]
    assert [(one["x"], one["y"], one["line"]) for one in named(drawn, "mean", learning_rate=1e-3)] == [(1.0, 3.5, 1), (2.0, 3.4, 1)]


def test_the_best_rate_at_the_grid_s_edge_is_marked_so() -> None:
    spec = FineTuning(**{**EXAMPLE, "learning_rates": [3e-3, 1e-2, 3e-2]})
    points = planned(learning_rates=[3e-3, 1e-2, 3e-2])
    table = table_of(points, sensitive)
    edges = named(spec.figures(table)["best_rate"], "open bottom", replicate=0)
    assert len(edges) == 4
    [verdict] = [v for v in spec.verdicts(table) if v.claim.startswith("best") and v.scope == "full, replicate 0"]
    assert verdict.answer == "undetermined"
    assert "edge of the grid" in verdict.sentence


def test_a_seed_that_diverged_is_on_every_chart_and_never_averaged_away() -> None:
    def broken(labels: dict[str, Any]) -> dict[str, float] | None:
        if labels["tokens"] == 2_000_000 and labels["learning_rate"]:
            return None
        diverged = labels["learning_rate"] == 1e-2 and labels["seed"] == 4
        return {"nll_mean": math.nan, "id_loss": math.nan} if diverged else sensitive(labels)

    figures = FineTuning(**EXAMPLE).figures(table_of(planned(), broken))
    where = {"replicate": 0, "learning_rate": 1e-2, "tokens": 8_000_000}
    for name in ("perplexity", "forgetting", "learned", "forgetting_by_rate", "learned_by_rate"):
        assert not named(figures[name], "mean", **where), name
        [edge] = named(figures[name], "edge", **where)
        assert edge["label"] == "1×∞"
        assert len(named(figures[name], "draw", **where)) == 4, name
    assert not named(figures["trade_off"], "mean", **where)


def test_methods_are_compared_in_one_figure_and_interpolations_at_the_best_rate() -> None:
    fields = {"methods": ["full", "l2_sp"], "alphas": [0.25, 0.5]}
    figures = FineTuning(**EXAMPLE, **fields).figures(table_of(planned(**fields), sensitive))
    where = {"replicate": 0, "tokens": 2_000_000}
    assert [row["learning_rate"] for row in named(figures["methods"], "mean", method="l2_sp", **where)] == [3e-4, 1e-3, 3e-3, 1e-2]
    interpolated = named(figures["methods"], "mean", method="wise_ft", **where)
    assert [(row["alpha"], row["learning_rate"], row["order"]) for row in interpolated] == [(a, 1e-3, a) for a in (0.25, 0.5, 1.0)]
    drawn = {row["learning_rate"] for row in named(figures["perplexity"], "draw", **where)}
    assert drawn == {0.0, 3e-4, 1e-3, 3e-3, 1e-2}
    assert len(named(figures["perplexity"], "draw", **where)) == 1 + 4 * 5, "of the first method only"


def test_charts_depend_on_the_spec_only_and_render_from_nothing_to_everything() -> None:
    fields = {"methods": ["full", "lora"], "alphas": [0.5], "seeds": [0, 1], "evaluations": ["tiny-held-out", "few"]}
    spec, points = FineTuning(**{**EXAMPLE, **fields}), planned(**fields)
    nothing, everything = table_of(points, lambda labels: None), table_of(points, sensitive)
    tables = [nothing[:0], nothing, everything[: len(everything) // 10], everything]
    made = [spec.figures(table) for table in tables]
    names = "table_1 perplexity forgetting forgetting_nats learned best_rate forgetting_by_rate learned_by_rate trade_off matched"
    assert list(made[0]) == [*names.split(), "displacement", "methods", "training"]
    for name in made[0]:
        assert len({json.dumps(figures[name].chart) for figures in made}) == 1, name
        for figures in made:
            json.dumps(figures[name].datasets, allow_nan=False)
        assert vl_convert.vegalite_to_svg(made[-1][name].vega_lite()).startswith("<svg")
    assert "best_rate" not in FineTuning(**{**EXAMPLE, "learning_rates": [1e-3]}).figures(nothing[:0])
    assert spec.verdicts(tables[0]) == []
    assert {verdict.answer for verdict in spec.verdicts(nothing)} == {"undetermined"}


def test_verdicts_find_what_the_table_was_made_with() -> None:
    verdicts = {(v.claim, v.scope): v for v in FineTuning(**EXAMPLE).verdicts(table_of(planned(), sensitive))}
    assert verdicts["progressive sensitivity", "full"].answer == "yes"
    assert verdicts["catastrophic overtraining", "full"].answer == "yes"
    assert verdicts["base degrades", "replicate 0"].answer == "no"
    growth = verdicts["growth of sensitivity", "learning rate 0.01, full, replicate 1"]
    assert growth.effect == pytest.approx(8**0.8, rel=0.02)
    best = verdicts["best learning rate falls with pre-training", "full, replicate 0"]
    assert best.answer == "yes"
    assert best.effect == pytest.approx(0.3, abs=0.06)
    assert best.evidence["speed"] == "slowly falling", "b p = 0.3 is less than q = 0.8"
    assert (best.evidence["b"], best.evidence["q"]) == pytest.approx((1.0, 0.8), abs=0.03)
    law = verdicts["forgetting grows exponentially with the learning rate", "full, replicate 0"]
    assert law.answer == "no"
    assert law.evidence["exponent"] == pytest.approx(1.0, abs=0.02)


# ---- published numbers


def pythia(labels: dict[str, Any]) -> dict[str, float]:
    """What the report found, with a little spread over seeds."""
    base, after = (reported("perplexity", bool(rate))[labels["tokens"]] for rate in (0, 1))
    if not labels["learning_rate"]:
        return {"nll_mean": math.log(base)}
    spread = 1 + 0.003 * (labels["seed"] - 1) * (after - base) / after
    learned = {"id_loss": 0.5, "accuracy": reported("accuracy")[labels["tokens"]], "accuracy_se": 0.005}
    return {"nll_mean": math.log(after * spread), "displacement": 0.1, **learned}


def reported(metric: str, tuned: bool = True) -> dict[float, float]:
    """The report's numbers by tokens."""
    mine = published.builtin("pythia-70m", "wikitext-2")
    return {
        one.tokens: one.value
        for one in mine
        if (one.metric, "learning_rate" in one.labels) == (metric, tuned) and (tuned or not one.labels)
    }


def report_points() -> tuple[FineTuning, list[Point]]:
    spec = FineTuning(**FineTuning.presets["Experiment II: Pythia-70M on SST-2"])
    checkpoints = [
        Checkpoint(
            suite="pythia-70m", revision=f"step{tokens // 2097152}", location=Location(scheme="path", path="/nowhere"),
            tokens=tokens, weights_sha256=str(tokens), config_sha256="c", tokenizer_sha256="t", num_parameters=70_426_624,
        )
        for tokens in map(int, reported("accuracy"))
    ]  # fmt: skip
    return spec, list(spec.plan(Catalogue([Suite(name="pythia-70m", checkpoints=checkpoints)])))


def test_published_numbers_lie_on_the_figures_of_their_suite_and_nowhere_else() -> None:
    spec, points = report_points()
    figures = spec.figures(table_of(points, pythia))
    for name, metric in (("perplexity", "perplexity"), ("forgetting", "perplexity_change"), ("learned", "accuracy")):
        marks = named(figures[name], "reference", learning_rate=2e-5)
        assert [row["y"] for row in marks] == list(reported(metric).values())
        measured = [row["y"] for row in named(figures[name], "mean", learning_rate=2e-5)]
        assert measured == pytest.approx([row["y"] for row in marks], rel=0.01)
    assert "published" not in FineTuning(**EXAMPLE).figures(table_of(planned(), sensitive))
    bases = named(figures["perplexity"], "reference", learning_rate=0.0)
    assert [round(row["y"], 1) for row in bases] == [245.8, 111.1, 88.8, 85.4, 86.6]


def test_reproduced_not_reproduced_and_not_comparable_are_told_apart() -> None:
    spec, points = report_points()

    def verdict(change: Callable[[dict[str, Any]], dict[str, float]]) -> Any:
        return next(v for v in spec.verdicts(table_of(points, change)) if v.claim == "published numbers reproduced")

    assert verdict(pythia).answer == "yes"
    assert "reproduced within" in verdict(pythia).sentence
    few = verdict(lambda labels: {**pythia(labels), "accuracy_se": 0.02})
    assert few.answer == "undetermined", "460 examples cannot tell 0.05 of accuracy from none"
    off = verdict(lambda labels: {**pythia(labels), "nll_mean": pythia(labels)["nll_mean"] + math.log(1.06)})
    assert off.answer == "undetermined"
    assert off.sentence.count("not comparable: the evaluation protocol differs") == 5

    def weaker(labels: dict[str, Any]) -> dict[str, float]:
        found = pythia(labels)
        last = labels["revision"] == "step143000" and labels["learning_rate"]
        return {**found, "nll_mean": found["nll_mean"] - 0.5} if last else found

    assert verdict(weaker).answer == "no"
    assert "not reproduced because of the forgetting" in verdict(weaker).sentence
    rows = spec.figures(table_of(points, weaker))["published"].datasets["cells"]
    cells = {row["column"]: row["label"] for row in rows if row["tokens"] > 2e11}
    assert cells["outcome"] == "not reproduced"
    assert cells["base perplexity"] == "86.56 (86.56)"
    assert cells["change of perplexity"].endswith("(+305.4)")
