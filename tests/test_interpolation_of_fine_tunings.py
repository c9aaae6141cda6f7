"""Lines from and between fine-tuned models: their identities, weights, verdicts and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import Context
from safetensors.torch import load_file
from test_interpolation import LONG, SHORT, loss_by_torch
from test_kinds import Catalogue
from test_quantisation import measured

from ucurve.analysis.interpolation import lines
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import parse
from ucurve.experiments.interpolation import Interpolation
from ucurve.modeling import finetuned_weights
from ucurve.registry.artifacts import BUILTIN
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Point, SpecError

BOTH = ["fine_tuning", "fine_tuning_seeds"]
SHORT_TRAINING = {"learning_rate": 3e-3, "tuning_steps": 6, "batch_rows": 8}
SAME_TRAINING = {"learning_rates": [3e-3], "steps": 6, "batch_rows": 8}


def planned(**fields: Any) -> list[Point]:
    spec = {"kind": "interpolation", "pairs": BOTH, **SHORT_TRAINING, **fields}
    return list(parse(spec).plan(Catalogue()))


def fine_tuned(**fields: Any) -> list[Point]:
    spec = {"kind": "fine_tuning", **SAME_TRAINING, **fields}
    return list(parse(spec).plan(Catalogue()))


# ---- plans


@pytest.mark.parametrize("task", ["language_modelling", "label_words", "linear_head"])
@pytest.mark.parametrize("method", ["full", "lora", "ewc"])
def test_ends_and_the_line_from_a_checkpoint_are_those_of_fine_tuning_experiments(
    task: str, method: str
) -> None:
    fields = {"task": task, "checkpoints": [SHORT, LONG]}
    alphas = [0.25, 0.5, 0.75] if method == "full" else []
    tuning = fine_tuned(seeds=[2, 5], methods=[method], alphas=alphas, **fields)
    points = planned(steps=4, method=method, tuning_seeds=[2, 5], **fields)
    inside = [p for p in points if p.labels["between"]]
    ends = {p.identity for p in points} - {p.identity for p in inside}
    assert ends == {p.identity for p in tuning if p.labels["alpha"] in (0.0, 1.0)}
    if alphas:
        from_checkpoint = {p.identity for p in inside if p.labels["seed"] is None}
        assert from_checkpoint == {p.identity for p in tuning if 0 < p.labels["alpha"] < 1}


def test_a_line_between_two_fine_tunings_names_the_training_of_both_ends() -> None:
    points = planned(steps=2, tuning_seeds=[0, 1], checkpoints=[LONG])
    ends = [p.inputs["perturbation"] for p in points if p.labels["between"] is None][1:]
    (point,) = (p for p in points if p.labels["seed"] == 0 and p.labels["to_seed"] == 1)
    first = dict(point.inputs["perturbation"])
    assert first.pop("interpolation") == {
        "protocol": "interpolation/1",
        "second": {name: value for name, value in ends[1].items() if name != "interpolation"},
        "t": 0.5,
        "arithmetic": "fp64",
        "buffers": "first",
    }
    assert first == {name: value for name, value in ends[0].items() if name != "interpolation"}
    assert point.labels["between"] == "fine-tuning seeds 0 and 1, pre-training seed 0"


@pytest.mark.parametrize(
    "pairs", [BOTH, BOTH[:1], BOTH[1:], ["checkpoints", *BOTH], ["seeds", *BOTH]]
)
@pytest.mark.parametrize("seeds", [[0, 1], [3, 1, 3, 2]])
def test_the_count_is_that_of_the_plan(pairs: list[str], seeds: list[int]) -> None:
    spec = parse({"kind": "interpolation", "pairs": pairs, "tuning_seeds": seeds, "steps": 4})
    points = list(spec.plan(Catalogue()))
    assert spec.count(Catalogue()) == len(points) == len({p.identity for p in points})
    assert not spec.warnings(Catalogue())


def test_plans_between_checkpoints_have_no_columns_of_fine_tuning() -> None:
    labels = {name for p in parse({"kind": "interpolation"}).plan(Catalogue()) for name in p.labels}
    assert not labels & {"seed", "to_seed", "learning_rate", "method"}


def test_fields_of_fine_tuning_without_such_a_line_are_named_as_unused() -> None:
    spec = parse({"kind": "interpolation", "learning_rate": 1e-3})
    (warning,) = spec.warnings(Catalogue())
    assert warning.startswith("learning_rate: not used")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"data": "tiny-sentiment"}, "data", "has classes"),
        ({"epochs": 3, "tuning_steps": None}, "epochs", "give tuning_steps"),
        ({"data": "nowhere"}, "data", "nowhere"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_at_a_field_of_this_type(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        planned(**fields)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"epochs": 1}, "epochs or tuning_steps"),
        ({"tuning_seeds": [4, 4]}, "needs two tuning_seeds"),
        ({"learning_rate": 0}, "greater than 0"),
    ],
)
def test_a_fine_tuning_that_makes_no_line_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned(**fields)


# ---- numbers


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="module")
def rows(artefacts: Path) -> list[MeasurementRow]:
    spec = Interpolation(
        pairs=["seeds", *BOTH],
        steps=2,
        checkpoints=[SHORT, LONG, SHORT.replace("seed0", "seed1")],
        **SHORT_TRAINING,
    )  # type: ignore[arg-type]
    return measured(spec, Context(artefacts))  # type: ignore[arg-type]


def inside(rows: list[MeasurementRow], **labels: Any) -> MeasurementRow:
    (row,) = (r for r in rows if r.labels["between"] and labels.items() <= r.labels.items())
    return row


def tuned_weights(artefacts: Path, revision: str, rows: list[MeasurementRow]) -> list[Any]:
    """The weights of the fine-tunings of a checkpoint, by seed, from the folders of the product."""
    context = Context(artefacts)
    found = []
    for point in planned(steps=2, checkpoints=[revision]):
        if point.labels["between"] is None and point.labels["seed"] is not None:
            from ucurve.experiments.fine_tuning_run import _folder

            tuned = finetuned_weights.read(_folder(point, context))
            assert tuned
            found.append(tuned.weights)
    return found


@pytest.mark.parametrize("revision", [SHORT, LONG])
def test_losses_on_lines_of_fine_tuned_models_equal_those_of_plain_torch(
    revision: str, rows: list[MeasurementRow], artefacts: Path
) -> None:
    folder = BUILTIN / "suites" / "tiny" / revision
    start = load_file(folder / "model.safetensors")
    first, second = tuned_weights(artefacts, revision, rows)
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    for a, b, labels in (
        (start, first, {"seed": None, "to_seed": 0}),
        (start, second, {"seed": None, "to_seed": 1}),
        (first, second, {"seed": 0, "to_seed": 1}),
    ):
        average = {name: (0.5 * a[name].double() + 0.5 * b[name].double()).float() for name in a}
        found = inside(rows, revision=revision, **labels).metrics["nll_mean"]
        assert found == pytest.approx(loss_by_torch(average, folder), abs=1e-6)


def test_the_two_ends_of_a_line_between_fine_tunings_have_the_bits_of_their_weights(
    rows: list[MeasurementRow], artefacts: Path
) -> None:
    first, second = tuned_weights(artefacts, LONG, rows)
    rules = {"protocol": "interpolation/1", "arithmetic": "fp64", "buffers": "first"}
    for t, expected in ((0.0, first), (1.0, second)):
        weights, distance = finetuned_weights.between(first, first, second, {**rules, "t": t})
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    moved = sum(float((second[n].double() - first[n].double()).square().sum()) for n in first)
    size = sum(float(w.double().square().sum()) for w in first.values())
    assert distance == pytest.approx((moved / size) ** 0.5)
    assert inside(rows, revision=LONG, seed=0, to_seed=1).metrics["distance"] == pytest.approx(
        distance
    )


def test_a_tensor_that_one_fine_tuning_did_not_train_has_its_pre_trained_weights_there() -> None:
    parameters = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([2.0])}
    line = {"protocol": "interpolation/1", "arithmetic": "fp64", "buffers": "first", "t": 0.5}
    weights, distance = finetuned_weights.between(
        parameters, {"a": torch.tensor([2.0, 3.0])}, {"b": torch.tensor([4.0])}, line
    )
    assert {name: w.tolist() for name, w in weights.items()} == {"a": [1.5, 3.0], "b": [3.0]}
    assert distance == pytest.approx((5 / 17) ** 0.5)


def test_lines_of_both_kinds_are_told_apart_by_their_seeds(rows: list[MeasurementRow]) -> None:
    every = {
        (line.between, line.first, line.seed, line.to_seed): line for line in lines(to_frame(rows))
    }
    assert len(every) == 1 + 3 * 3
    for (between, revision, seed, to_seed), line in every.items():
        if between.startswith("pre-training"):
            assert (seed, to_seed) == (None, None)
            continue
        ends = [
            next(r for r in rows if r.labels["revision"] == revision and r.labels["between"] is None
                 and r.labels["seed"] == end)
            for end in (seed, to_seed)
        ]  # fmt: skip
        measured_at = [
            ends[0],
            inside(rows, between=between, revision=revision, seed=seed, to_seed=to_seed),
            ends[1],
        ]
        assert line.losses.mean(axis=1) == pytest.approx(
            [row.metrics["nll_mean"] for row in measured_at], abs=1e-12
        )
        assert line.t.tolist() == [0, 0.5, 1]


def test_verdicts_name_the_seeds_of_a_line_and_are_summarized_by_what_lines_are_between(
    rows: list[MeasurementRow],
) -> None:
    verdicts = Interpolation(pairs=["seeds", *BOTH]).verdicts(to_frame(rows))  # type: ignore[list-item]
    single = [v for v in verdicts if not v.is_summary]
    assert len(single) == 2 * 10
    assert len({(v.claim, v.scope) for v in single}) == 20
    scopes = {v.scope for v in single}
    assert (
        "14.3M tokens, before and after fine-tuning, pre-training seed 0, fine-tuning seed 1"
        in scopes
    )
    assert "14.3M tokens, fine-tuning seeds 0 and 1, pre-training seed 0" in scopes
    assert {v.scope for v in verdicts if v.is_summary} == {
        "between pre-training seeds 0 and 1",
        "before and after fine-tuning",
        "between fine-tuning seeds",
    }


def test_the_loss_on_the_new_task_is_drawn_along_lines_where_it_is_measured(
    rows: list[MeasurementRow],
) -> None:
    figures = Interpolation(pairs=["seeds", *BOTH]).figures(to_frame(rows))  # type: ignore[list-item]
    means = [r for r in figures["task_loss"].datasets["curves"] if r["what"] == "mean"]
    assert {r["between"].split(",")[0] for r in means} == {
        "before and after fine-tuning",
        "fine-tuning seeds 0 and 1",
    }
    ends = [r["t"] for r in means if r["seed"] == 0 and r["revision"] == LONG]
    assert ends == [0, 0.5, 1]
    assert "task_loss" not in Interpolation().figures(to_frame(rows[:0]))
    json.dumps([figure.vega_lite() for figure in figures.values()], allow_nan=False)


def test_lines_of_one_panel_are_not_joined_over_tokens(rows: list[MeasurementRow]) -> None:
    figures = Interpolation(pairs=["seeds", *BOTH]).figures(to_frame(rows))  # type: ignore[list-item]
    heights = figures["barrier"].datasets["curves"]
    tuned = [
        r for r in heights if r["between"] == "before and after fine-tuning, pre-training seed 0"
    ]
    assert {(r["curve"][-1], r["to_seed"], r["tokens"]) for r in tuned} == {
        (str(seed), seed, tokens) for seed in (0, 1) for tokens in (894976, 14336000)
    }
    lines_of_chart = figures["barrier"].chart["layer"][0]["encoding"]
    assert lines_of_chart["detail"]["field"] == "curve"
