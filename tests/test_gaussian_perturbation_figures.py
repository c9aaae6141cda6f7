"""Figures and verdicts of Gaussian perturbation from tables whose truth is known."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from test_gaussian_perturbation import EXAMPLE, TOKENS, planned

from ucurve.analysis import gaussian_perturbation
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments.gaussian_perturbation import GaussianPerturbation
from ucurve.formatting import scope_title
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure, Point


def table_of(points: list[Point], loss: Callable[[dict[str, Any]], float | None]) -> pd.DataFrame:
    """The table when every point has this loss (None: open), with windows whose sums agree."""
    rows = []
    for i, point in enumerate(points):
        value = loss(dict(point.labels))
        finite = value is not None and math.isfinite(value)
        rows.append(
            MeasurementRow(
                id=100 + i,
                identity=point.identity,
                position=i,
                state="open" if value is None else "done",
                labels=dict(point.labels),
                metrics={}
                if value is None
                else {"nll_mean": value if finite else None, "rms_mlp": 0.1},
                nonfinite={} if value is None or finite else {"nll_mean": "pos_inf"},
                series={}
                if value is None
                else {"window_nll": [63 * value] * 40, "window_tokens": [63.0] * 40}
                if finite
                else {},
            )
        )
    return to_frame(rows)


def growth_of_weights(labels: dict[str, Any]) -> float:
    """A base that improves; a loss increase that grows under current_std, enough for a U."""
    tokens, gamma = labels["tokens"] / 1e6, labels["gamma"]
    base = 3.0 - 0.2 * math.log(tokens)
    if not gamma:
        return base
    wobble = 0.002 * math.sin(12.9 * labels["draw"] + tokens + 100 * gamma)
    return (
        base
        + gamma**2
        * (2.4 * tokens if labels["scale"] == "current_std" else 1.0)
        * (1 + 0.1 * labels["draw"])
        / 2
        + wobble
    )


def named(figure: Figure, what: str, **fields: Any) -> list[dict[str, Any]]:
    [rows] = figure.datasets.values()
    return [row for row in rows if row["what"] == what and fields.items() <= row.items()]


def test_figures_show_the_mean_of_the_loss_as_perplexity_before_and_after() -> None:
    figures = GaussianPerturbation(**EXAMPLE).figures(table_of(planned(), growth_of_weights))
    where = {"scale": "current_std", "replicate": 1, "gamma": 0.2, "tokens": 4_000_000}
    losses = [growth_of_weights({**where, "draw": draw}) for draw in range(5)]
    base = growth_of_weights({**where, "gamma": 0.0})
    for name, expected in {
        "perplexity": math.exp(np.mean(losses)),
        "perplexity_change": math.exp(np.mean(losses)) - math.exp(base),
        "loss": np.mean(losses),
        "loss_change": np.mean(losses) - base,
    }.items():
        [row] = named(figures[name], "mean", **where)
        assert row["y"] == pytest.approx(expected), name
        assert row["num_draws"] == 5
    [row] = named(figures["perplexity"], "mean", **{**where, "gamma": 0.0})
    assert row["y"] == pytest.approx(math.exp(base)), "the base is drawn in every panel"
    [cell] = [
        cell for cell in figures["heat_map"].datasets["cells"] if where.items() <= cell.items()
    ]
    assert cell["y"] == pytest.approx(np.mean(losses) - base)
    [cell] = [cell for cell in figures["table"].datasets["cells"] if where.items() <= cell.items()]
    assert re.fullmatch(rf"{math.exp(np.mean(losses)):.4g} ±0\.\d+", cell["label"]), (
        "with half its interval"
    )
    [row] = named(figures["perplexity"], "mean", **{**where, "gamma": 0.0})
    assert row["low"] < row["y"] < row["high"], "the base has the error of its evaluation text"
    assert len(named(figures["weights"], "mean", group="mlp")) == 8


def test_figures_mark_the_minimum_of_a_u_curve_from_its_verdict_and_none_elsewhere() -> None:
    spec, table = GaussianPerturbation(**EXAMPLE), table_of(planned(), growth_of_weights)
    figures = spec.figures(table, spec.verdicts(table))
    [bottom] = named(figures["perplexity"], "bottom", scale="current_std", replicate=0, gamma=0.2)
    assert bottom["tokens"] == 4_000_000
    assert bottom["x_low"] <= bottom["tokens"] <= bottom["x_high"] < 8_000_000
    assert not named(figures["perplexity"], "bottom", scale="init_std")
    assert not named(figures["perplexity"], "bottom", gamma=0.05), "it falls to the end"
    assert not named(spec.figures(table)["perplexity"], "bottom"), "no mark without verdicts"


def test_a_draw_that_is_not_finite_and_points_to_come_are_on_every_chart() -> None:
    def loss(labels: dict[str, Any]) -> float | None:
        if labels["tokens"] == 2_000_000 and labels["gamma"]:
            return None
        return (
            math.inf
            if labels["gamma"] == 0.3 and labels["draw"] == 4
            else growth_of_weights(labels)
        )

    figures = GaussianPerturbation(**EXAMPLE).figures(table_of(planned(), loss))
    where = {"scale": "init_std", "replicate": 0, "gamma": 0.3, "tokens": 8_000_000}
    for name in ("perplexity", "perplexity_change", "loss", "loss_change"):
        assert not named(figures[name], "mean", **where)
        [edge] = named(figures[name], "edge", **where)
        assert edge["label"] == "1×∞"
        assert len(named(figures[name], "draw", **where)) == 4
        assert len(named(figures[name], "waiting", scale="init_std", replicate=0)) == 4
    cells = {cell["label"] for cell in figures["heat_map"].datasets["cells"] if cell["y"] is None}
    assert cells == {"…", "1×∞"}


def test_charts_depend_on_the_spec_only_and_render_from_nothing_to_everything() -> None:
    spec, points = GaussianPerturbation(**EXAMPLE, by_group=True), planned(by_group=True)
    nothing, everything = table_of(points, lambda labels: None), table_of(points, growth_of_weights)
    tables = [nothing[:0], nothing, everything[::10], everything]  # each of all checkpoints or none
    made = [spec.figures(table, spec.verdicts(table)) for table in tables]
    names = (
        "perplexity loss perplexity_change loss_change heat_map table weights law law_residuals "
        "law_onset by_group"
    )
    assert list(made[0]) == names.split()
    for name in made[0]:
        assert len({json.dumps(figures[name].chart) for figures in made}) == 1, name
        for figures in made:
            json.dumps(figures[name].datasets, allow_nan=False)
            svg = vl_convert.vegalite_to_svg(figures[name].vega_lite())
        assert "current_std" in svg or name == "weights"
    assert [spec.verdicts(table) for table in tables[:1]] == [[]]
    assert all(verdict.answer == "undetermined" for verdict in spec.verdicts(nothing))


def test_a_claim_names_its_convention_and_needs_both() -> None:
    verdicts = GaussianPerturbation(**EXAMPLE).verdicts(
        table_of(planned(draws=8), growth_of_weights)
    )
    answers = {(verdict.claim, verdict.scope): verdict for verdict in verdicts}
    for claim in ("progressive sensitivity", "catastrophic overtraining"):
        assert answers[claim, "under current_std"].answer == "yes"
        assert answers[claim, "under init_std"].answer == "no"
        whole = answers[claim, ""]
        assert whole.answer == "undetermined"
        assert re.fullmatch(
            r"Yes with noise relative to current weights \(gamma .*\), no with noise relative to "
            r"initialisation: growth of the weights may explain the effect\.",
            whole.sentence,
        )
    assert verdicts[0] is answers["progressive sensitivity", ""], "the summary comes first"
    assert answers["unperturbed loss rises", "pre-training seed 1"].answer == "no"
    assert (
        answers["inflection point", "gamma 0.2 under current_std, pre-training seed 0"].effect
        == 4_000_000
    )
    growth = answers["growth of sensitivity", "gamma 0.2 under current_std, pre-training seed 0"]
    assert growth.effect == pytest.approx(8, rel=0.1)


def test_three_conventions_are_facets_in_a_fixed_order_and_named_wherever_they_are_read() -> None:
    def loss(labels: dict[str, Any]) -> float:
        known = labels["scale"] == "matched_displacement"
        return growth_of_weights({**labels, "scale": "current_std"} if known else labels)

    spec, points = GaussianPerturbation(**EXAMPLE, scale="all"), planned(draws=8, scale="all")
    table = table_of(points[::-1], loss)
    verdicts = spec.verdicts(table)
    whole = next(v for v in verdicts if v.claim == "catastrophic overtraining" and not v.scope)
    assert whole.answer == "undetermined"
    assert re.search(
        r"the effect\. Beside them, yes with noise at matched displacement \(gamma .*\)\.$",
        whole.sentence,
    )
    [third] = [
        v for v in verdicts if v.claim == whole.claim and v.scope == "under matched_displacement"
    ]
    assert scope_title(third.scope) == "noise at matched displacement (matched_displacement)"
    laws = {v.scope for v in verdicts if v.claim == "loss increase follows a power law"}
    assert "under matched_displacement" in laws
    for name, figure in spec.figures(table, verdicts).items():
        if name != "weights":
            svg = vl_convert.vegalite_to_svg(figure.vega_lite())
            found = re.findall(r"\((current_std|init_std|matched_displacement)\)", svg)
            order = list(dict.fromkeys(found))
            assert order == ["current_std", "init_std", "matched_displacement"], name


def test_base_losses_come_in_blocks_of_windows_in_the_order_of_tokens() -> None:
    table = table_of(planned(), growth_of_weights)
    [first, *_] = gaussian_perturbation.conditions(table)["init_std", 0]
    assert first.x.tolist() == TOKENS[1:]
    assert first.base.shape == (4, 8)
    expected = [growth_of_weights({"tokens": tokens, "gamma": 0.0}) for tokens in TOKENS[1:]]
    assert first.base_mean.tolist() == pytest.approx(expected)
