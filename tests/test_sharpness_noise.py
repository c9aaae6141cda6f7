"""Sharpness beside measured noise: the scaled trace against the exact Hessian, and the compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import Context
from judge_every_kind import sharpness_rows
from pydantic import ValidationError
from safetensors.torch import load_file
from test_kinds import BUILTIN, Catalogue
from test_sharpness import LAST, exact_hessian, landscape

from ucurve.analysis.measurement_table import to_frame
from ucurve.analysis.sharpness import Departure, departures, growth, regimes
from ucurve.analysis.sharpness_noise import estimates, first_windows, noise_costs
from ucurve.analysis.sharpness_rows import regime_rows
from ucurve.analysis.statistics import blocks
from ucurve.experiments import evaluation_points, parse
from ucurve.experiments.sharpness import Sharpness
from ucurve.modeling import perturb
from ucurve.modeling.curvature import Directions, Text, hessian_product, signs
from ucurve.modeling.landscape import Landscape
from ucurve.schemas.measurements import MeasurementRow
from ucurve.schemas.results import Verdict

SHARED_LAB = True

SIZES = {"init_std": 0.02, "current_std": 0.1}  # sigma^2 of the made-up rows, over the trace
NUM_WINDOWS, HESSIAN_WINDOWS, LENGTH = 64, 8, 63
GAMMAS = [0.05, 0.2]
NOISE = Sharpness(sigmas=[0.01, 0.1], noise_gammas=GAMMAS)

# ---- the scaled trace


@pytest.mark.parametrize("name", ["untied", "tied", "llama", "gpt2"])
def test_the_scaled_trace_weighs_every_tensor_of_the_exact_hessian(name: str) -> None:
    scene = landscape(name)
    exact = exact_hessian(scene.model)
    current = perturb.current_std({n: p.detach() for n, p in scene.parameters.items()})
    stds = {"current_std": current, "init_std": perturb.init_std(scene.parameters, 0.5)}
    found = scene.quadratic_form(Directions(3), stds=stds)
    vector = signs(Directions(3), scene.parameters)
    along = exact @ torch.cat([part.flatten() for part in vector.values()])
    parts = torch.split(along, [part.numel() for part in vector.values()])
    assert len({round(std, 6) for std in current.values()}) > 5, "tensors differ in their sigma"
    for scale, of in stds.items():
        expected = sum(
            of[n] ** 2 * float(v.flatten() @ part)
            for (n, v), part in zip(vector.items(), parts, strict=True)
        )
        assert found[f"scaled_trace_{scale}"] == pytest.approx(expected, rel=1e-6)
    plain = scene.quadratic_form(Directions(3))
    assert plain == {name: number for name, number in found.items() if "scaled" not in name}


def test_a_worker_weighs_tensors_by_the_sigma_of_noise_experiments(tmp_path: Path) -> None:
    context = Context(tmp_path)
    fields = {"checkpoints": [LAST], "draws": 1, "sigmas": [], "windows": 2, "by_group": False}
    found = {}
    for gammas in ([], [0.1]):
        spec = parse({"kind": "sharpness", "noise_gammas": gammas, **fields})
        (point,) = (p for p in spec.plan(Catalogue()) if p.labels["part"] == "trace")
        found[bool(gammas)] = spec.run(point, context).metrics
    assert found[True].items() > found[False].items(), "the trace is that of hessian_trace/1"
    loaded = evaluation_points.loaded_for(point, context)
    held_out = evaluation_points.tokens_for(point, context, loaded)
    scene = Landscape.of(loaded.model, held_out[: 2 * 64], 64)
    text = Text.of(scene.tokens, 64, 512)
    vector = signs(Directions(0), scene.parameters)
    forms = hessian_product(scene.model, scene.parameters, text, vector).forms
    for scale, revision in (("init_std", "seed0-step0-tokens0"), ("current_std", LAST)):
        stored = load_file(BUILTIN / "suites" / "tiny" / revision / "model.safetensors")
        expected = math.fsum(
            float(stored[name.replace("embed_out", "lm_head")].double().var(correction=0)) * form
            for name, form in forms.items()
        )
        assert found[True][f"scaled_trace_{scale}"] == pytest.approx(expected, rel=1e-5)


# ---- plans


def test_noise_beside_it_is_that_of_noise_experiments() -> None:
    noise = parse({"kind": "gaussian_perturbation", "gammas": GAMMAS, "draws": 3})
    spec = parse({"kind": "sharpness", "draws": 3, "noise_gammas": GAMMAS})
    points = list(spec.plan(Catalogue()))
    beside = [p for p in points if p.labels["part"] in ("gaussian", "unperturbed")]
    assert {p.identity for p in beside} == {p.identity for p in noise.plan(Catalogue())}
    assert spec.count(Catalogue()) == len(points) == len({p.identity for p in points})
    without = list(parse({"kind": "sharpness", "draws": 3}).plan(Catalogue()))
    kept = {p.identity for p in points if p.labels["part"] in ("noise", "eigenvalue")}
    assert kept == {p.identity for p in without if p.labels["part"] != "trace"}
    assert all("scale" not in p.labels for p in without)


def test_the_probes_beside_noise_name_the_weights_whose_sigma_they_use() -> None:
    fields: dict[str, Any] = {"kind": "sharpness", "checkpoints": [LAST], "draws": 1}
    plain, scaled = (
        next(p for p in parse(spec).plan(Catalogue()) if p.labels["part"] == "trace")
        for spec in (fields, {**fields, "noise_gammas": [0.05]})
    )
    step0 = next(
        c for c in Catalogue().suite("tiny").checkpoints if c.revision == "seed0-step0-tokens0"
    )
    assert scaled.inputs["curvature"] == {
        **plain.inputs["curvature"],
        "protocol": "hessian_trace/2",
        "initial": step0.weights_sha256,
    }
    assert (plain.inputs["curvature"]["protocol"]) == "hessian_trace/1"
    again = parse({**fields, "noise_gammas": [0.05, 0.1]}).plan(Catalogue())
    assert scaled.identity in {p.identity for p in again}, "whatever the gammas"
    assert scaled.identity[:12] == "54b248e5a5f2"


def test_a_spec_with_one_gamma_is_read_as_a_list_of_one() -> None:
    assert parse({"kind": "sharpness", "noise_gamma": 0.05}) == parse(
        {"kind": "sharpness", "noise_gammas": [0.05]}
    )
    assert parse({"kind": "sharpness", "noise_gamma": None}) == parse({"kind": "sharpness"})
    for fields, place in (
        ({"noise_gammas": [0]}, "noise_gammas"),
        ({"noise_gamma": -1}, "noise_gammas"),
        ({"noise_gamma": 0.1, "noise_gammas": [0.2]}, "noise_gamma"),
    ):
        with pytest.raises(ValidationError) as refused:
            parse({"kind": "sharpness", **fields})
        assert refused.value.errors()[0]["loc"][0] == place


def test_a_worker_measures_the_noise_as_a_noise_experiment_does(tmp_path: Path) -> None:
    context = Context(tmp_path)
    found = {}
    for kind, fields in (
        ("gaussian_perturbation", {"gammas": [0.1]}),
        ("sharpness", {"noise_gammas": [0.1], "sigmas": []}),
    ):
        spec = parse({"kind": kind, "checkpoints": [LAST], "draws": 1, **fields})
        (point,) = (p for p in spec.plan(Catalogue()) if p.labels.get("scale") == "init_std")
        found[kind] = spec.run(point, context)
    assert found["sharpness"] == found["gaussian_perturbation"]


# ---- predicted beside measured, on a made-up table


def series_of(loss: float, first: float) -> dict[str, list[float]]:
    """Losses of all windows, of which the first ones are those of the Hessian."""
    nll = np.full(NUM_WINDOWS, loss * LENGTH)
    nll[:HESSIAN_WINDOWS] = first * LENGTH
    scored = np.full(NUM_WINDOWS, float(LENGTH))
    found = {"window_nll": nll.tolist(), "window_tokens": scored.tolist()}
    return {**found, "block_loss": blocks(nll[None], scored)[0].tolist()}


def with_noise(
    rows: list[MeasurementRow],
    gammas: list[float] = GAMMAS,
    excess: float = 5.0,
    spread: float = 0.0,
    windows: int = HESSIAN_WINDOWS,
) -> list[MeasurementRow]:
    """The rows with noise that costs as the Hessian predicts on its windows, twice elsewhere.

    But for a share of `excess` gamma^2, and of `spread` that differs between draws.
    """
    added: list[MeasurementRow] = []

    def append(row: MeasurementRow, labels: dict[str, Any], loss: float, first: float) -> None:
        series = series_of(loss, first)
        if labels["part"] == "gaussian":  # as the API delivers them
            series = {"block_loss": series["block_loss"]}
        id = 10_000 + len(added)
        update = {"id": id, "position": id, "identity": str(id), "labels": labels}
        metrics = {"nll_mean": float(np.mean(series["block_loss"]))}
        added.append(row.model_copy(update={**update, "metrics": metrics, "series": series}))

    probes = []
    for row in rows:
        if row.labels["part"] != "trace":
            probes.append(row)
            continue
        trace = row.metrics["trace"]
        forms = {f"scaled_trace_{scale}": trace * size for scale, size in SIZES.items()}
        num = {"num_tokens": float(windows * LENGTH)}
        probes.append(row.model_copy(update={"metrics": {**row.metrics, **num, **forms}}))
        place = {**row.labels, "sigma": 0.0, "scale": None, "gamma": 0.0}
        if row.labels["draw"] == 0:
            append(row, {**place, "part": "unperturbed", "draw": None}, 2.0, 1.5)
        for scale, size in SIZES.items():
            for gamma in gammas:
                share = 1 + excess * gamma**2 + spread * (row.labels["draw"] - 2)
                cost = trace * size * gamma**2 / 2 * share
                labels = {**place, "part": "gaussian", "scale": scale, "gamma": gamma}
                append(row, labels, 2 + 2 * cost, 1.5 + cost)
    return [*probes, *added]


def of_noise(verdicts: list[Verdict], scale: str = "init_std") -> Verdict:
    return next(v for v in verdicts if v.labels.get("scale") == scale)


def test_predicted_and_measured_cost_are_compared_on_the_windows_of_the_hessian() -> None:
    table = to_frame(with_noise(sharpness_rows()))
    costs = noise_costs(estimates(table, GAMMAS))
    assert [cost.scale for cost in costs] == ["current_std", "init_std"]
    for cost in costs:
        assert cost.problem == ""
        assert cost.curve.forms[0, 0] == pytest.approx(200 * SIZES[cost.scale])
        for gamma in GAMMAS:
            found = [one for one in departures(cost.curve) if one.sigma == gamma]
            assert [one.value for one in found] == pytest.approx([5 * gamma**2] * 4)
            assert all(one.high - one.low < 1e-9 for one in found), "the same seeds cancel"
    figures = NOISE.figures(table)
    rows = [r for r in figures["noise_cost"].datasets["curves"] if r["what"] == "mean"]
    last = {(r["scale"], r["estimate"]): r for r in rows if r["tokens"] == 8e6}
    predicted = 500 * 1.04 * 0.02
    assert last["init_std", "Hessian"]["y"] == pytest.approx(predicted)
    assert last["init_std", "γ 0.05"]["y"] == pytest.approx(predicted * 1.0125)
    assert last["current_std", "γ 0.2"]["y"] == pytest.approx(5 * predicted * 1.2)
    assert all(row["low"] < row["y"] < row["high"] for row in rows)
    rows = figures["noise_departure"].datasets["curves"]
    assert {(r["gamma"], round(r["y"], 6)) for r in rows} == {(0.05, 0.0125), (0.2, 0.2)}
    (ends,) = {round(r["y"], 6) for r in figures["noise_regime"].datasets["curves"]}
    share = math.log(0.1 / 0.0125) / math.log(0.2 / 0.0125)
    assert ends == pytest.approx(0.05 * 4**share, abs=1e-6)


def test_the_verdict_compares_absolute_numbers_and_is_undecided_where_the_interval_is() -> None:
    for excess, spread, answer in ((5, 0, "yes"), (100, 0, "no"), (5, 0.1, "undetermined")):
        table = to_frame(with_noise(sharpness_rows(), excess=excess, spread=spread))
        verdicts = NOISE.verdicts(table)
        found = of_noise(verdicts)
        assert found.answer == answer
        assert found.claim == "curvature predicts the cost of noise"
        assert found.scope == "γ 0.05 under init_std, pre-training seed 0"
        share = 1 + excess * 0.05**2
        assert found.effect == pytest.approx(share - 1, abs=0.01)
        predicted, measured = found.evidence["predicted"], found.evidence["measured"]
        assert predicted == pytest.approx([1.04 * 0.02 * t for t in (200, 300, 400, 500)])
        assert measured == pytest.approx([share * one for one in predicted], rel=0.01)
        assert found.interval is not None
        width = found.interval[1] - found.interval[0]
        assert (width > 0.2) == (spread > 0)
        summary = next(v for v in verdicts if v.scope == "under init_std")
        assert summary.answer == answer
        assert summary.is_summary
        table_of_sets = [table.assign(evaluation=name) for name in ("a", "b")]
        judged = NOISE.verdicts(pd.concat(table_of_sets, ignore_index=True))
        over = next(v for v in judged if v.scope == "under init_std, 2 evaluation sets")
        assert over.answer == answer
        assert verdicts[:2] == Sharpness(sigmas=[0.01, 0.1]).verdicts(table)[:2]


def test_traces_of_an_earlier_release_leave_the_question_open_and_figures_say_so() -> None:
    rows = with_noise(sharpness_rows(), gammas=[0.05])
    old = [
        row.model_copy(
            update={
                "metrics": {n: x for n, x in row.metrics.items() if "scaled" not in n},
                "labels": {n: x for n, x in row.labels.items() if n != "gamma"},
            }
        )
        for row in rows
    ]
    spec = Sharpness(sigmas=[0.01, 0.1], noise_gammas=[0.05])
    found = of_noise(spec.verdicts(to_frame(old)))
    assert found.answer == "undetermined"
    assert "run the experiment again" in found.sentence
    figures = spec.figures(to_frame(old))
    assert "run the experiment again" in figures["noise_cost"].caption
    drawn = figures["noise_cost"].datasets["curves"]
    assert {r["estimate"] for r in drawn if r["what"] == "mean"} == {"γ 0.05"}
    assert not any("not finite" in r.get("label", "") for r in drawn)
    assert figures["noise_departure"].datasets["curves"] == []
    new = spec.figures(to_frame(rows))
    assert new["growth"].datasets == figures["growth"].datasets, "it needs none of that"
    assert "run the experiment again" not in new["noise_cost"].caption


def test_windows_that_end_inside_a_block_are_named_with_those_to_choose() -> None:
    table = to_frame(with_noise(sharpness_rows(), windows=7))
    found = of_noise(NOISE.verdicts(table))
    assert found.answer == "undetermined"
    assert "7 windows end inside one: set windows to 6 or 8" in found.sentence


def test_noise_that_breaks_the_model_leaves_the_question_open() -> None:
    rows = with_noise(sharpness_rows())
    for i, row in enumerate(rows):
        if row.labels["part"] == "gaussian" and row.labels["draw"] == 1:
            update = {"metrics": {"nll_mean": None}, "nonfinite": {"nll_mean": "nan"}}
            rows[i] = row.model_copy(update={**update, "series": {"block_loss": [None] * 32}})
    table = to_frame(rows)
    found = of_noise(NOISE.verdicts(table))
    assert found.answer == "undetermined"
    assert "4 of 4 checkpoints lack 2 noise seeds with finite losses" in found.sentence
    drawn = NOISE.figures(table)["noise_cost"].datasets["curves"]
    assert any(row["what"] == "edge" for row in drawn)


def test_an_experiment_that_has_measured_nothing_or_little_draws_its_figures() -> None:
    rows = with_noise(sharpness_rows())
    for keep in ((), ("trace",), ("gaussian",), ("unperturbed", "gaussian")):
        some = [
            row
            if row.labels["part"] in keep
            else row.model_copy(update={"state": "planned", "metrics": {}, "series": {}})
            for row in rows
        ]
        table = to_frame(some)
        assert NOISE.figures(table).keys() == NOISE.figures(to_frame(rows)).keys()
        assert of_noise(NOISE.verdicts(table)).answer == "undetermined"
    assert NOISE.figures(to_frame([])).keys() == NOISE.figures(to_frame(rows)).keys()


def test_the_loss_of_the_first_windows_is_that_of_their_blocks() -> None:
    generator = np.random.default_rng(0)
    scored = np.full(100, 63.0)
    scored[-1] = 20
    nll = generator.uniform(50, 200, 100)
    found = blocks(nll[None], scored)[0]
    ends = np.cumsum([4] * 4 + [3] * 28)
    for num in range(1, 101):
        expected = nll[:num].sum() / scored[:num].sum()
        loss = first_windows(found, scored, scored[:num].sum())
        assert loss == (pytest.approx(expected) if num in ends else None)


def test_an_end_below_the_smallest_gamma_is_claimed_only_where_its_interval_says_so() -> None:
    def label(value: float, half: float) -> str:
        found = [Departure(1e6, g, value, value - half, value + half, 8) for g in GAMMAS]
        (row,) = regime_rows(regimes(found), "γ", {})
        return str(row["label"])

    assert label(0.3, 0.1) == "below the smallest γ"
    assert label(0.3, 0.5) == "open"
    assert label(0.05, 0.5) == "above the largest γ"


# ---- growth


def test_noise_that_costs_as_the_trace_says_grows_as_the_trace_does() -> None:
    table = to_frame(with_noise(sharpness_rows()))
    rows = NOISE.figures(table)["growth"].datasets["curves"]
    by_name: dict[str, list[float]] = {}
    for row in rows:
        by_name.setdefault(row["estimate"], []).append(row["y"])
    assert by_name.keys() == {"Hessian", "σ 0.01", "γ 0.05, init_std", "γ 0.05, current_std"}
    for values in by_name.values():
        assert values == pytest.approx([1, 1.5, 2, 2.5])
    assert "growth" not in Sharpness().figures(to_frame(sharpness_rows()))


def test_a_growth_has_the_interval_of_a_ratio_over_the_same_draws() -> None:
    first, last = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.1, 3.9, 6.2, 7.8])
    found = growth(np.array([1e6, 2e6]), np.stack([first, last]))
    assert (found[0].value, found[0].low, found[0].high) == (1, 1, 1)
    rest = (last - 2 * first) / 2.5
    half = 3.1824 * rest.std(ddof=1) / 2
    assert found[1].value == pytest.approx(2.0)
    assert found[1].high - 2 == pytest.approx(half, rel=1e-3)
    assert growth(np.array([1e6]), np.array([[0.0, -1.0]])) == [], "nothing to compare with"
    gap = growth(np.array([1e6, 2e6]), np.array([[1.0, 2.0, np.nan], [2.0, 4.0, 9.0]]))
    assert gap[1].num_draws == 2
