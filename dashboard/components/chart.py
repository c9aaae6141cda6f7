"""The live chart: a Vega-Lite figure whose data is replaced in place.

    clicked = live_chart(figure, key="experiment-7-fig1a")   # a measurement's id, or None

The browser's part is chart.js. Its libraries come from vl-convert, so no network is needed.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
import vl_convert

from ucurve.figures.files import Form, finite
from ucurve.figures.zero_tick import with_zero
from ucurve.spec import Figure

FORMS: dict[Form, str] = {  # file formats with their media types; json is Vega-Lite
    "svg": "image/svg+xml",
    "png": "image/png",
    "pdf": "application/pdf",
    "json": "application/json",
    "csv": "text/csv",
}


@cache
def bundle() -> str:
    """Return Vega's libraries as one script; bundling takes a second or two."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


@st.cache_resource(show_spinner=False)
def _library() -> Any:
    """Return Vega, Vega-Lite and vega-embed as a component: sent once per session."""
    return st.components.v2.component(
        "ucurve_vega",
        html="<i></i>",
        js=bundle() + "\nexport default function () {}",
    )


@st.cache_resource(show_spinner=False)
def _chart() -> Any:
    return st.components.v2.component(
        "ucurve_chart",
        html='<div class="ucurve-chart"><button class="reset" hidden>Reset zoom</button>'
        '<div class="canvas"></div><div class="fault"></div></div>',
        css=".ucurve-chart, .canvas { width: 100%; } .ucurve-chart { position: relative; }"
        " .reset { position: absolute; right: 0; top: -1.9rem; cursor: pointer;"
        " font: 0.8rem var(--st-font); color: var(--st-text-color); border-radius: 0.4rem;"
        " background: var(--st-background-color); border: 1px solid var(--st-border-color); }"
        " .canvas { min-height: 1px; overflow-x: auto; overflow-y: hidden; }"
        " .fault { color: var(--st-red-text-color); font: 0.9rem var(--st-font); }",
        js=Path(__file__).with_name("chart.js").read_text(),
    )


def chart_library() -> None:
    """Load the charts' JavaScript; call it once per run, outside any fragment."""
    _library()(key="vega", height=1)


def live_chart(figure: Figure, key: str, focus: bool = False) -> int | None:
    """Draw the figure, or replace its data if it is drawn already.

    Returns the id of the measurement whose mark was just clicked. focus: scroll to the figure.
    """
    datasets = finite(figure.datasets)
    figure = with_zero(figure)
    result = _chart()(
        key=key,
        data={
            "chart": {
                "description": f"{figure.title}. {figure.caption}",  # for screen readers
                **figure.chart,
            },
            "datasets": datasets,
            "dark": st.context.theme.type == "dark",
            "focus": focus,
            "version": hashlib.sha256(json.dumps(datasets).encode()).hexdigest()[:12],
        },
        on_picked_change=lambda: None,
    )
    return None if result.picked is None else int(result.picked)
