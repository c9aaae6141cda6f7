"""Notebook display of experiments, figures and verdicts."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from ucurve import spec
from ucurve.client.display import (
    Experiment,
    ExperimentPage,
    Figure,
    Figures,
    Verdict,
    Verdicts,
)
from ucurve.schemas import experiments as schemas

RECORD: dict[str, Any] = {
    "id": 7,
    "name": "noise <on> tiny & more",
    "kind": "gaussian_perturbation",
    "owner": "ada",
    "tags": [],
    "notes": "",
    "priority": 0,
    "state": "running",
    "progress": {"total": 1130, "done": 564, "failed": 2, "running": 1, "reused": 16},
    "eta_seconds": 7800,
    "waits_for": None,
    "created_at": "2026-02-03T04:05:00Z",
    "started_at": None,
    "finished_at": None,
    "url": "http://lab:8501/experiment?id=7",
    "spec": {},
}
CHART = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.4.1.json",
    "data": {"name": "curves"},
    "mark": "line",
    "encoding": {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative"},
    },
}
FIGURE = spec.Figure("Loss", "After noise.", CHART, {"curves": [{"x": 1, "y": float("inf")}]})
VEGA_LITE = "application/vnd.vegalite.v6.json"


def experiment(**changes: Any) -> Experiment:
    return Experiment.model_validate({**RECORD, **changes})


def verdict(answer: str = "yes", scope: str = "gamma 0.1") -> Verdict:
    return Verdict.model_validate(
        {
            "claim": "progressive sensitivity",
            "scope": scope,
            "answer": answer,
            "sentence": "The loss increase grows <with> tokens.",
            "effect": 0.21,
            "p_value": 0.0001,
        }
    )


def test_an_experiment_displays_state_progress_and_link() -> None:
    html = experiment()._repr_html_()
    for part in (
        "#7 noise &lt;on&gt; tiny &amp; more",
        "running",
        '<progress value="566" max="1130">',
        "564 of 1,130 evaluations, 16 cached, 2 failed, 2 h 10 min left",
        "3 February 2026, 04:05 UTC",
        'href="http://lab:8501/experiment?id=7"',
    ):
        assert part in html


def test_an_experiment_without_evaluations_has_a_valid_progress_bar() -> None:
    progress = {"total": 0, "done": 0, "failed": 0, "running": 0, "reused": 0}
    html = experiment(progress=progress, eta_seconds=None)._repr_html_()
    assert '<progress value="0" max="1"></progress> 0 of 0 evaluations' in html


def test_a_page_of_experiments_displays_a_table() -> None:
    page = ExperimentPage.model_validate({"experiments": [RECORD], "total": 41})
    assert "1 of 41 experiments" in page._repr_html_()
    assert "noise &lt;on&gt; tiny" in page._repr_html_()


def test_displayed_records_are_the_schemas_records() -> None:
    shown = experiment()
    assert isinstance(shown, schemas.Experiment)
    assert shown.model_dump() == schemas.Experiment.model_validate(RECORD).model_dump()
    assert repr(shown).startswith("Experiment(id=7")
    assert pickle.loads(pickle.dumps(shown)) == shown


def test_a_verdict_displays_answer_sentence_and_statistics() -> None:
    html = verdict()._repr_html_()
    for part in ("progressive sensitivity", ">yes</span>", "gamma 0.1", "p &lt; 0.001"):
        assert part in html
    assert "The loss increase grows &lt;with&gt; tokens." in html


def test_a_list_of_verdicts_displays_a_table_per_claim() -> None:
    verdicts = Verdicts([verdict(), verdict("no", "gamma 0.2")])
    html = verdicts._repr_html_()
    assert html.count("progressive sensitivity") == 1
    assert html.count("<tr>") == 3
    assert verdicts == [verdict(), verdict("no", "gamma 0.2")]
    assert "No verdicts" in Verdicts()._repr_html_()


def test_a_figure_displays_as_vega_lite_with_its_data_and_as_svg() -> None:
    bundle = Figure.of(FIGURE)._repr_mimebundle_()
    assert set(bundle) == {VEGA_LITE, "image/svg+xml", "text/plain"}
    assert bundle[VEGA_LITE]["datasets"] == {"curves": [{"x": 1, "y": None}]}
    json.dumps(bundle, allow_nan=False)
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["text/plain"] == "Loss\nAfter noise."


@pytest.mark.parametrize(
    ("include", "exclude", "mime_types"),
    [
        (["text/plain"], None, {"text/plain"}),
        (None, ["image/svg+xml"], {VEGA_LITE, "text/plain"}),
        ([VEGA_LITE, "image/svg+xml"], [VEGA_LITE], {"image/svg+xml"}),
    ],
)
def test_mime_types_can_be_included_and_excluded(
    include: list[str] | None, exclude: list[str] | None, mime_types: set[str]
) -> None:
    assert set(Figure.of(FIGURE)._repr_mimebundle_(include, exclude)) == mime_types


def test_the_mime_type_is_that_of_altair() -> None:
    from altair.vegalite.v6.display import VEGALITE_MIME_TYPE

    assert VEGALITE_MIME_TYPE in Figure.of(FIGURE)._repr_mimebundle_()


def test_figures_by_name_display_titles_and_captions() -> None:
    figures = Figures.of({"loss": FIGURE})
    assert "<code>loss</code>" in figures._repr_html_()
    assert "After noise." in figures._repr_html_()
    assert isinstance(figures["loss"], Figure)


def test_importing_the_client_loads_neither_torch_nor_a_chart_library() -> None:
    code = "import sys, ucurve.client; print({'torch', 'altair', 'vl_convert'} & set(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout == "set()\n"
