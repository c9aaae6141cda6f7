"""A figure as a file: SVG, PNG or PDF without a browser, Vega-Lite, or its rows as CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

from ucurve.csv_cells import plain_row
from ucurve.figures.zero_tick import with_zero
from ucurve.schemas.measurements import finite_or_none
from ucurve.spec import Figure

Form = Literal["svg", "png", "pdf", "json", "csv"]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def figure_file(figure: Figure, form: Form) -> bytes:
    """The bytes of the file, on white; the same figure always gives the same SVG."""
    if form == "csv":
        return _rows_csv(figure.datasets)
    drawn = {"$schema": SCHEMA, **finite(with_zero(figure).vega_lite()), "background": "white"}
    if form == "json":
        texts = {"title": figure.title, "description": figure.caption}
        return f"{json.dumps({**texts, **drawn}, indent=1)}\n".encode()
    import vl_convert

    chart = json.dumps(drawn)
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(chart)).encode()
    if form == "png":
        return bytes(vl_convert.vegalite_to_png(chart, scale=3))
    return bytes(vl_convert.vegalite_to_pdf(chart))


def finite(value: Any) -> Any:
    """The same JSON with null for inf and NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return finite_or_none(value) if isinstance(value, float) else value


def _rows_csv(datasets: dict[str, list[dict[str, Any]]]) -> bytes:
    """All datasets below one another, the first column naming the dataset."""
    columns = [
        "dataset",
        *dict.fromkeys(name for rows in datasets.values() for row in rows for name in row),
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(plain_row(columns))
    for dataset, rows in datasets.items():
        for row in rows:
            cells = {"dataset": dataset, **row}
            writer.writerow(plain_row(cells.get(name, "") for name in columns))
    return text.getvalue().encode()
