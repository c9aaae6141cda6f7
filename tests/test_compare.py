"""Comparisons: differences with known answers, missing evaluations, and the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser_helpers import PATIENCE, chart, labels, marks, until
from conftest import Lab
from playwright.sync_api import Browser, Page, expect
from scipy import stats

from ucurve.analysis.comparison import (
    ComparedExperiment,
    align_experiments,
    axes,
    completing_spec,
    constants,
    missing,
    quantities,
    setting_differences,
)
from ucurve.analysis.differences import difference_at, differences, interpolated
from ucurve.experiments import parse
from ucurve.figures.citation import fingerprint
from ucurve.figures.comparison import (
    PlotOptions,
    available_references,
    figures,
    resolve_options,
)
from ucurve.registry.suites import Checkpoint, Location, Suite
from ucurve.schemas.measurements import MeasurementRow
from ucurve.schemas.references import ReferenceCurve

SHARED_LAB = True
TOKENS = (1000, 2000, 4000)
BASES = (3.0, 2.5, 2.0)
Loss = Callable[[float, int, int], float]  # of gamma, tokens, draw


def suite(name: str, tokens: tuple[int, ...] = TOKENS, size: int = 100) -> Suite:
    made = [
        Checkpoint(
            suite=name,
            revision=f"{name}-{at}",
            location=Location(scheme="path", path="/"),
            tokens=at,
            num_parameters=size,
        )
        for at in tokens
    ]
    return Suite(name=name, checkpoints=made)


def noise(
    id: int,
    loss: Loss,
    *,
    name: str = "s",
    tokens: tuple[int, ...] = TOKENS,
    state: str = "done",
    **fields: Any,
) -> ComparedExperiment:
    """An experiment of noise on the weights, measured: base losses fall, `loss` says the rest."""
    spec = parse(
        {
            "kind": "gaussian_perturbation",
            "suite": name,
            "gammas": [0.1, 0.2],
            "draws": 3,
            "scale": "init_std",
            **fields,
        }
    )
    rows: list[MeasurementRow] = []
    for at, base in zip(tokens, BASES, strict=False):
        cells = [(0.0, None)] + [
            (gamma, draw) for gamma in spec.gammas for draw in range(spec.draws)
        ]  # type: ignore[attr-defined]
        for gamma, draw in cells:
            labels = {
                "suite": name,
                "revision": f"{name}-{at}",
                "tokens": at,
                "replicate": 0,
                "phase": None,
                "step": None,
            }
            labels |= {
                "gamma": gamma,
                "draw": draw,
                "scale": spec.scale if gamma else None,
                "group": "all" if gamma else None,
            }  # type: ignore[attr-defined]
            value = base if draw is None else base + loss(gamma, at, draw + spec.seed)  # type: ignore[attr-defined]
            windows = {
                "window_nll": [value * 9, value * 10, value * 11],
                "window_tokens": [10.0, 10.0, 10.0],
            }
            number = len(rows) + 1
            rows.append(
                MeasurementRow(
                    id=1000 * id + number,
                    identity="",
                    position=number,
                    state=state,  # type: ignore[arg-type]
                    labels=labels,
                    metrics={"nll_mean": value} if state == "done" else {},
                    series=windows if draw is None else {},  # type: ignore[arg-type]
                )
            )
    return ComparedExperiment(id, f"noise {id}", spec, rows, suite(name, tokens))


def test_the_same_draws_are_subtracted_pair_by_pair_and_other_draws_by_welch() -> None:
    rng = np.random.default_rng(0)
    a, shift = rng.normal(0, 1, 6), rng.normal(0.3, 0.01, 6)
    one, two = dict(zip("abcdef", a, strict=True)), dict(zip("abcdef", a - shift, strict=True))
    difference, low, high, num, how = difference_at(one, two)
    expected = stats.ttest_rel(a, a - shift).confidence_interval()
    assert (difference, num, how) == (pytest.approx(shift.mean()), 6, "paired by draw, n = 6")
    assert (low, high) == (pytest.approx(expected.low), pytest.approx(expected.high))

    others = dict(zip("uvwx", rng.normal(0, 3, 4), strict=True))
    difference, low, high, _, how = difference_at(one, others)
    expected = stats.ttest_ind(a, list(others.values()), equal_var=False).confidence_interval()
    assert how == "unpaired (Welch), n = 6 and 4"
    assert (low, high) == (pytest.approx(expected.low), pytest.approx(expected.high))

    assert difference_at({"a": 3.0}, {"b": 1.0}) == (2.0, None, None, 1, "one draw: no interval")
    assert difference_at(one, {"a": one["a"] - 1, "b": one["b"] - 1, "z": 50.0})[3:] == (
        2,
        "paired by draw, n = 2",
    )


def test_loss_increase_uses_the_same_checkpoint_and_pairs_share_random_numbers() -> None:
    a = noise(1, lambda gamma, at, draw: gamma * at / 1000 + draw / 100)
    b = noise(2, lambda gamma, at, draw: gamma * at / 2000 + draw / 100, tensors="matrices")
    other = noise(3, lambda gamma, at, draw: gamma * at / 2000 + draw / 100, seed=7)
    table = align_experiments([a, b, other])
    assert list(axes([a, b, other], table)) == ["tokens", "tokens_per_parameter", "base_loss"]
    assert list(quantities([a, b, other], table))[:3] == ["loss", "perplexity", "damage"]
    row = table[
        (table["side"] == "1")
        & (table["change"] == "gamma 0.2")
        & (table["tokens"] == 4000)
        & (table["draw"] == "2")
    ].iloc[0]
    assert (row["damage"], row["base_loss"], row["tokens_per_parameter"]) == (
        pytest.approx(0.82),
        2.0,
        40.0,
    )

    found = {
        row["tokens"]: row
        for row in differences(table, "side", "1", "2", x="tokens", value="damage")
        if row["change"] == "gamma 0.2"
    }
    assert [found[at]["y"] for at in TOKENS] == [pytest.approx(0.2 * at / 2000) for at in TOKENS]
    assert found[1000]["how"] == "paired by draw, n = 3"
    assert found[1000]["high"] - found[1000]["low"] == pytest.approx(
        0, abs=1e-9
    )  # common noise cancels
    unpaired = differences(table, "side", "1", "3", x="tokens", value="damage")
    assert {row["how"] for row in unpaired if row["change"] != "base"} == {
        "unpaired (Welch), n = 3 and 3"
    }
    base = [
        row
        for row in differences(table, "side", "1", "2", x="tokens", value="nll_mean")
        if row["change"] == "base"
    ]
    assert [(row["y"], row["how"]) for row in base] == [(0.0, "paired by 3 blocks of windows")] * 3


def test_curves_without_a_common_checkpoint_are_interpolated_inside_their_reach_only() -> None:
    assert interpolated({10.0: {"a": 1.0, "b": 5.0}, 1000.0: {"a": 3.0}}, 100.0, log=True) == {
        "a": pytest.approx(2.0)
    }
    assert interpolated({10.0: {"a": 1.0}}, 100.0, log=True) == {}
    a, b = noise(1, lambda *_: 0.5), noise(2, lambda *_: 0.2, name="t", tokens=(1500, 3000))
    rows = differences(align_experiments([a, b]), "side", "1", "2", x="tokens", value="damage")
    rows = [row for row in rows if row["change"] == "gamma 0.1"]
    assert [(row["tokens"], row["y"]) for row in rows] == [
        (1500.0, pytest.approx(0.3)),
        (3000.0, pytest.approx(0.3)),
    ]
    assert {row["how"] for row in rows} == {"paired by draw, n = 3; A interpolated"}


def test_a_loss_that_is_not_finite_is_marked_and_never_averaged_away() -> None:
    a = noise(
        1, lambda gamma, at, draw: float("inf") if (gamma, at, draw) == (0.2, 4000, 1) else 0.1
    )
    made = figures(
        [a, b := noise(2, lambda *_: 0.1)],
        align_experiments([a, b]),
        PlotOptions(y="damage", changes=("gamma 0.2",)),
    )
    edges = [row for row in made["curves"].datasets["curves"] if row["what"] == "edge"]
    assert [(row["tokens"], row["label"]) for row in edges] == [(4000.0, "1×∞")]
    assert [
        row["tokens"] for row in made["difference"].datasets["curves"] if row["what"] == "edge"
    ] == [4000.0]


def test_what_is_missing_is_planned_by_the_other_ones_spec_at_exactly_those_points() -> None:
    a, b = (
        noise(1, lambda *_: 0.1, draws=4),
        noise(2, lambda *_: 0.1, gammas=[0.2], tensors="matrices"),
    )
    lacking = missing(a, b)
    assert len(lacking.points) == 3 * (4 + 1)  # gamma 0.1 with all draws, gamma 0.2 with the fourth
    assert lacking.sentence == (
        "Experiment 2 lacks 15 evaluations of experiment 1: 3 checkpoints, "
        "2 modifications, 4 seeds."
    )
    spec = completing_spec(lacking)
    assert spec is not None
    assert spec.model_dump(include={"gammas", "draws", "tensors"}) == {
        "gammas": [0.1, 0.2],
        "draws": 4,
        "tensors": "matrices",
    }
    assert (b.spec.model_dump()["looks"], spec.model_dump()["looks"]) == (1, 2), (
        "more draws are a further look"
    )
    assert completing_spec(missing(b, a)) is None
    assert setting_differences([a, b]) == {"tensors": ["all", "matrices"]}

    elsewhere = noise(3, lambda *_: 0.1, name="t", tokens=(2000, 4000, 8000))
    lacking = missing(a, elsewhere)
    assert (len(lacking.points), len(lacking.without_checkpoint)) == (2 * 2, 9)
    spec = completing_spec(lacking)
    assert spec is not None
    assert spec.model_dump(include={"suite", "checkpoints"}) == {
        "suite": "t",
        "checkpoints": ["t-2000", "t-4000"],
    }
    assert "t has no checkpoint at 1 of their pre-training lengths" in lacking.sentence


def test_reference_curves_are_crosses_and_perplexities_become_losses() -> None:
    rows = [
        {"revision": f"s-{at}", "tokens": at, "metric": "perplexity", "value": np.exp(at / 1000)}
        for at in TOKENS
    ]
    about = {"id": 5, "name": "paper", "suite": "s", "origin": {"importer": "csv"}, "owner": "x"}
    curve = ReferenceCurve.model_validate(
        {**about, "rows": rows, "created_at": "2026-01-01T00:00Z"}
    )
    side = noise(1, lambda *_: 0.1)
    table, shown = align_experiments([side]), PlotOptions("tokens", "loss", beside=("paper",))
    assert available_references([side], shown, [curve]) == {"paper": (5, "perplexity", True)}
    assert available_references([side], PlotOptions("tokens", "damage"), [curve]) == {}
    drawn = figures([side], table, shown, [curve])["curves"]
    marks = [row for row in drawn.datasets["curves"] if row["what"] == "reference"]
    assert [(row["tokens"], row["y"]) for row in marks] == [
        (at, pytest.approx(at / 1000)) for at in TOKENS
    ]
    assert "Crosses (not measured here): paper." in drawn.caption
    measured = [row for row in drawn.datasets["curves"] if row not in marks]
    assert fingerprint(drawn) == fingerprint(replace(drawn, datasets={"curves": measured}))


def test_what_nobody_chose_is_chosen_and_a_chart_does_not_depend_on_results() -> None:
    a, b = noise(1, lambda *_: 0.1), noise(2, lambda *_: 0.2, gammas=[0.2, 0.3])
    table = align_experiments([a, b])
    assert resolve_options([a, b], table, PlotOptions(changes=("gone",))) == PlotOptions(
        "tokens", "damage", "side", ("gamma 0.2",), ("1", "2")
    )
    assert constants([a, b]) == {("scale", "init_std"), ("group", "all")}
    asked = PlotOptions("tokens", "loss", "side", ("gamma 0.2",), ("1", "2"))
    few = ComparedExperiment(
        2,
        b.name,
        b.spec,
        [
            row.model_copy(update={"state": "open", "metrics": {}}) if row.position > 3 else row
            for row in b.rows
        ],
    )
    before, after = (figures([a, side], align_experiments([a, side]), asked) for side in (few, b))
    for name in ("curves", "difference"):
        assert (before[name].chart, before[name].caption) == (
            after[name].chart,
            after[name].caption,
        )
    assert before["curves"].datasets != after["curves"].datasets


def test_experiments_of_a_custom_type_are_compared_and_completed(
    page: Page, lab: Lab, tmp_path: Path
) -> None:
    ids = [
        lab.client.submit({"kind": "slow_count", "to": to, "step_seconds": 0.01}).id
        for to in ([2, 3, 4], [3, 4, 5])
    ]
    for id in ids:
        assert lab.client.wait(id, timeout=60).state == "done"
    command = [
        sys.executable,
        "-m",
        "ucurve.cli",
        "compare",
        *map(str, ids),
        "-o",
        str(tmp_path),
        "--format",
        "csv",
    ]
    said = subprocess.run(
        command,
        env={**os.environ, "UCURVE_URL": lab.url},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Counted of" in said.stdout
    for a, b in (ids, ids[::-1]):
        assert f"Experiment {b} lacks 1 evaluation of experiment {a}: 1 checkpoint" in said.stdout
    difference = pd.read_csv(tmp_path / f"compare-{ids[0]}-{ids[1]}-difference.csv")
    means = difference[difference["what"] == "mean"]
    assert (means["to"].tolist(), means["y"].tolist()) == ([3, 4], [0, 0])
    page.goto(f"/compare?ids={ids[0]},{ids[1]}")
    until(lambda: marks(chart(page)) > 0)
    page.get_by_role("button", name="Add 1 missing evaluation").first.click()
    page.wait_for_url(re.compile(rf"ids={ids[0]}(,|%2C){ids[1] + 1}"), timeout=PATIENCE)
    made = lab.client.wait(ids[1] + 1, timeout=60)
    assert (made.spec["to"], made.progress.total, made.progress.reused) == ([2, 3, 4], 3, 3)


NOISE = {
    "kind": "gaussian_perturbation",
    "suite": "tiny",
    "checkpoints": {"log_spaced": 2},
    "gammas": [0.2],
    "scale": "init_std",
}


def test_two_experiments_are_compared_in_the_browser_and_completed_with_one_click(
    page: Page, lab: Lab
) -> None:
    a = lab.client.submit({**NOISE, "draws": 3}, name="all tensors").id
    b = lab.client.submit({**NOISE, "draws": 2, "exclude": ["*embed*"]}, name="no embeddings").id
    for id in (a, b):
        assert lab.client.wait(id, timeout=240).state == "done"
    page.goto("/compare")
    expect(page.get_by_text("Nothing to compare yet")).to_be_visible(timeout=PATIENCE)
    for name in ("all tensors", "no embeddings"):
        page.get_by_text(name).first.click()
    page.wait_for_url(re.compile(rf"ids={a}(,|%2C){b}"), timeout=PATIENCE)
    figure = chart(page)
    until(lambda: marks(figure) > 0)
    expect(page.get_by_text("paired by draw, n = 2").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Settings differ in exclude")).to_be_visible(timeout=PATIENCE)
    expect(
        page.get_by_text(
            f"Experiment {b} lacks 4 evaluations of experiment {a}: 4 checkpoints, "
            "1 modification, 1 seed."
        )
    ).to_be_visible()
    whole, where = labels(figure), figure.locator("svg").bounding_box()
    assert where
    figure.locator("svg").evaluate("svg => { svg.met = true; }")
    page.mouse.move(where["x"] + where["width"] / 4, where["y"] + where["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    until(lambda: labels(figure) != whole)
    zoomed = labels(figure)
    page.wait_for_timeout(2500)  # ticks of the page
    assert labels(figure) == zoomed
    assert figure.locator("svg").evaluate("svg => svg.met")
    page.get_by_role("button", name="Add 4 missing evaluations").click()
    page.wait_for_url(re.compile(rf"ids={a}(,|%2C){b + 1}"), timeout=PATIENCE)
    made = lab.client.wait(b + 1, timeout=240)
    assert (made.progress.total, made.progress.reused, made.spec["exclude"]) == (
        16,
        12,
        ["*embed*"],
    )
    expect(page.get_by_text("paired by draw, n = 3").first).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("Nothing is missing: both have the same evaluations.")).to_be_visible(
        timeout=PATIENCE
    )


def test_the_address_holds_the_options_of_the_comparison(
    page: Page, lab: Lab, browser: Browser
) -> None:
    spec = {
        "kind": "linear_model",
        "width": 8,
        "num_features": 8,
        "draws": 5,
        "relative_gammas": [],
        "l2_sp": [],
    }
    ids = [
        lab.client.submit(
            {**spec, "fixed_gammas": [0.1, 0.2], "seed": seed}, name=f"linear {seed}"
        ).id
        for seed in (0, 1)
    ]
    for id in ids:
        lab.client.wait(id, timeout=60)
    page.goto(
        f"/compare?ids={ids[0]},{ids[1]}&change=gamma 0.1&a={ids[1]}&b={ids[0]}&figure=difference"
    )
    chart(page, 1)
    expect(
        page.get_by_text(re.compile(rf"A = #{ids[1]} linear 1, B = #{ids[0]} linear 0"))
    ).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("unpaired (Welch), n = 5 and 5").first).to_be_visible(
        timeout=PATIENCE
    )  # other seeds, other noise
    page.locator("[data-testid=stPopover] button").filter(
        has_text="ios_share", visible=True
    ).last.click()
    link = page.locator("[data-testid=stCode]").last
    expect(link).to_contain_text("change=gamma+0.1")
    expect(link).to_contain_text("figure=difference")
