"""The live chart: a Vega-Lite figure whose data is swapped in place, and the same figure as a file.

    picked = live_chart(figure, key="experiment-7-fig1a")   # the measurement whose mark was clicked, or None

The browser's part is chart.js. Its libraries come out of vl-convert, so nothing is loaded from elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from pathlib import Path
from typing import Any, Literal

import streamlit as st
import vl_convert

from ucurve.spec import Figure

Form = Literal["svg", "png", "pdf", "csv"]
FORMS: dict[Form, str] = {  # and their media types
    "svg": "image/svg+xml",
    "png": "image/png",
    "pdf": "application/pdf",
    "csv": "text/csv",
}


@st.cache_resource(show_spinner=False)
def _library() -> Any:
    """Vega, Vega-Lite and vega-embed as an element of their own: sent once per session, not with every update."""
    return st.components.v2.component(
        "ucurve_vega",
        html="<i></i>",
        js=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;") + "\nexport default function () {}",
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


def live_chart(figure: Figure, key: str) -> int | None:
    """Draw the figure, or swap its data if it is there already; the measurement that was just clicked."""
    datasets = finite(figure.datasets)
    result = _element()(
        key=key,
        data={
            "chart": {"description": f"{figure.title}. {figure.caption}", **figure.chart},  # read to those who cannot see it
            "datasets": datasets,
            "dark": st.context.theme.type == "dark",
            "version": hashlib.sha256(json.dumps(datasets).encode()).hexdigest()[:12],
        },
        on_picked_change=lambda: None,
    )
    return None if result.picked is None else int(result.picked)


def finite(value: Any) -> Any:
    """The same JSON with null for inf and NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@st.cache_data(show_spinner=False, max_entries=64)
def _converted(chart: str, form: Form) -> bytes:
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(chart)).encode()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(chart, scale=3))
    return bytes(vl_convert.vegalite_to_pdf(chart))


def composed(figure: Figure) -> bool:
    """Whether it consists of several panels, and so needs a row for itself."""
    return any(key in figure.chart for key in ("hconcat", "vconcat", "concat", "facet", "repeat"))


def figure_file(figure: Figure, form: Form) -> bytes:
    """The figure as a file on white, or the rows behind it."""
    if form == "csv":
        return _rows_csv(figure.datasets)
    return _converted(json.dumps({"background": "white", **finite(figure.vega_lite())}), form)


def _rows_csv(datasets: dict[str, list[dict[str, Any]]]) -> bytes:
    """All datasets below one another, the first column naming the dataset."""
    columns = ["dataset", *dict.fromkeys(name for rows in datasets.values() for row in rows for name in row)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    for dataset, rows in datasets.items():
        writer.writerows({"dataset": dataset, **row} for row in rows)
    return text.getvalue().encode()
