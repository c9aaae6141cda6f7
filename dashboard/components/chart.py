"""The live chart: a Vega-Lite figure whose data is swapped in place.

    picked = live_chart(figure, key="experiment-7-fig1a")   # the measurement whose mark was clicked, or None

The browser's part is chart.js. Its libraries come out of vl-convert, so nothing is loaded from elsewhere.
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
from ucurve.spec import Figure

FORMS: dict[Form, str] = {  # and their media types
    "svg": "image/svg+xml",
    "png": "image/png",
    "pdf": "application/pdf",
    "csv": "text/csv",
}


@cache
def bundle() -> str:
    """Vega's libraries as one script; putting them together takes a second or two."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


@st.cache_resource(show_spinner=False)
def _library() -> Any:
    """Vega, Vega-Lite and vega-embed as an element of their own: sent once per session, not with every update."""
    return st.components.v2.component(
        "ucurve_vega",
        html="<i></i>",
        js=bundle() + "\nexport default function () {}",
    )


@st.cache_resource(show_spinner=False)
def _element() -> Any:
    return st.components.v2.component(
        "ucurve_chart",
        html='<div class="ucurve-chart"><div class="canvas"></div><div class="fault"></div></div>',
        css=".ucurve-chart, .canvas { width: 100%; } .canvas { min-height: 1px; overflow-x: auto; overflow-y: hidden; }"
        " .fault { color: var(--st-red-text-color); font: 0.9rem var(--st-font); }",
        js=Path(__file__).with_name("chart.js").read_text(),
    )


def chart_library() -> None:
    """Give the page the chart's JavaScript; call it once per run, outside of any fragment."""
    _library()(key="vega", height=1)


def live_chart(figure: Figure, key: str, focus: bool = False) -> int | None:
    """Draw the figure, or swap its data if it is there already; the measurement that was just clicked. focus: scroll to it."""
    datasets = finite(figure.datasets)
    result = _element()(
        key=key,
        data={
            "chart": {
                "description": f"{figure.title}. {figure.caption}",
                **figure.chart,
            },  # read to those who cannot see it
            "datasets": datasets,
            "dark": st.context.theme.type == "dark",
            "focus": focus,
            "version": hashlib.sha256(json.dumps(datasets).encode()).hexdigest()[:12],
        },
        on_picked_change=lambda: None,
    )
    return None if result.picked is None else int(result.picked)


def composed(figure: Figure) -> bool:
    """Whether it consists of several panels, and so needs a row for itself."""
    return any(key in figure.chart for key in ("hconcat", "vconcat", "concat", "facet", "repeat"))
