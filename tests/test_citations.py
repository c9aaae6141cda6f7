"""Citations in figure files: what is embedded, and how the numbers have changed since."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Lab
from PIL import Image

from ucurve.cli import main
from ucurve.figures.annotated_files import cited_file
from ucurve.figures.citation import Citation, FigureSource, citation, compared, fingerprint
from ucurve.figures.embedded_citation import UnmarkedError, citation_in, marked
from ucurve.figures.files import Form
from ucurve.spec import Figure

SHARED_LAB = True

NOW = datetime(2026, 2, 3, 4, 5, tzinfo=UTC)
ORIGIN = FigureSource(
    "loss",
    (7,),
    ("noise & more",),
    ({"kind": "x"},),
    "http://lab:8000",
    "http://lab/experiment?id=7&figure=loss",
)
CHART: dict[str, Any] = {
    "data": {"name": "curves"},
    "mark": "line",
    "encoding": {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative"},
    },
}


def figure(*ys: float) -> Figure:
    rows = [
        {"what": "mean", "x": x, "y": y, "low": y - 1, "high": y + 1, "num_draws": 5 + x}
        for x, y in enumerate(ys)
    ]
    return Figure("Loss <after> noise", "What γ does to “it”.", CHART, {"curves": rows})


@pytest.mark.parametrize("form", ["svg", "png", "pdf", "csv"])
def test_every_file_format_embeds_the_citation_and_stays_valid(form: Form, tmp_path: Path) -> None:
    content = cited_file(figure(1.0, 2.5, float("inf")), form, ORIGIN, NOW)
    said = citation_in(content)
    assert (said.figure, said.experiments, said.lab, said.made_at) == (
        "loss",
        [7],
        "http://lab:8000",
        NOW,
    )
    assert said.hash == fingerprint(figure(1.0, 2.5, float("inf")))
    if form == "csv":
        table = pd.read_csv(io.BytesIO(content))
        assert table["y"].tolist() == [1.0, 2.5, float("inf")]
        assert table["cite"].nunique() == 1
        return
    assert (said.title, said.caption, said.draws) == (
        "Loss <after> noise",
        "What γ does to “it”.",
        "5 to 7 seeds",
    )
    assert said.intervals == "bands: 95% t intervals of the mean over seeds"
    if form == "png":
        image = Image.open(io.BytesIO(content))
        image.load()
        assert image.info["Title"] == said.title
        assert said.short in image.info["Source"]
    if form == "svg":
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", content.decode())
        assert "ucurve experiment 7, figure loss · 5 to 7 seeds · 3 February 2026" in " ".join(
            texts
        )
        assert said.short in " ".join(texts)
    if form == "pdf":
        start = int(re.findall(rb"startxref\s+(\d+)", content)[-1])
        assert content[start:].startswith(b"xref")
        (offset,) = re.findall(rb"xref\n\d+ 1\n(\d{10}) ", content[start:])
        assert re.match(rb"\d+ 0 obj\n<<\n/Title <FEFF", content[int(offset) :])


def test_a_file_without_a_citation_is_reported() -> None:
    for content in (
        b"a,b\n1,2\n",
        b"<svg></svg>",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfe",
        b"",
    ):
        with pytest.raises(UnmarkedError, match="this file"):
            citation_in(content)
    later = marked(
        cited_file(figure(1.0), "pdf", ORIGIN, NOW), "pdf", citation(figure(2.0), ORIGIN, NOW)
    )
    assert citation_in(later).hash == fingerprint(figure(2.0))  # of several the last counts


def test_the_fingerprint_depends_on_numbers_and_chart_only() -> None:
    one = figure(1.0, 2.0)
    assert fingerprint(one) == fingerprint(figure(1.0 - 1e-15, 2.0))  # low is -1e-15, not 0
    assert fingerprint(one) != fingerprint(figure(1.0 + 1e-6, 2.0))
    turned = Figure("other", "words", one.chart, {"curves": one.datasets["curves"][::-1]})
    assert fingerprint(one) == fingerprint(turned)
    assert fingerprint(one) != fingerprint(Figure("", "", {**CHART, "mark": "point"}, one.datasets))


def test_changes_are_counted_row_by_row() -> None:
    then = citation(figure(1.0, 2.0, 3.0), ORIGIN, NOW)
    when = "since 3 February 2026, 04:05 UTC"
    assert compared(then, figure(1.0, 2.0, 3.0)) == f"unchanged {when}"
    assert (
        compared(then, figure(1.0, 2.0, 4.0, 5.0))
        == f"2 rows have changed {when} (1 changed, 1 new; 3 then, 4 now)"
    )
    assert compared(then, figure(1.0)) == f"2 rows have changed {when} (2 gone; 3 then, 1 now)"
    redrawn = Figure("", "", {**CHART, "mark": "point"}, figure(1.0, 2.0, 3.0).datasets)
    assert "3 rows are unchanged" in compared(then, redrawn)
    assert "the drawing differs" in compared(then, redrawn)
    asked = FigureSource(
        "curves",
        (3, 4),
        ("a", "b"),
        asked={"x": "tokens", "changes": ["gamma 0.2, init_std", "base"]},
        lab="http://l",
    )
    again = Citation.from_uri(citation(figure(1.0), asked, NOW).uri)
    assert (again.experiments, again.asked["changes"]) == ([3, 4], ["gamma 0.2, init_std", "base"])


def test_cite_recognises_files_of_the_lab_and_reports_changes(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ucurve(*words: str, status: int = 0) -> str:
        assert main(["--url", lab.url, *words]) == status
        said = capsys.readouterr()
        return said.out + said.err

    spec = {
        "kind": "linear_model",
        "width": 8,
        "num_features": 8,
        "relative_gammas": [],
        "l2_sp": [],
        "fixed_gammas": [0.1],
    }
    worker = lab.children["worker-1"]
    ids = [
        lab.client.submit({**spec, "draws": draws}, name=f"{draws} draws").id for draws in (5, 6)
    ]
    for id in ids:
        lab.client.wait(id, timeout=60)
    for form in ("svg", "png", "pdf", "csv"):
        ucurve("figures", str(ids[0]), "-o", str(tmp_path), "--format", form)
        (path, *_) = tmp_path.glob(f"*.{form}")
        assert f"experiment {ids[0]}, figure {path.stem} (5 draws): unchanged since" in ucurve(
            "cite", str(path)
        )
    ucurve("compare", *map(str, ids), "-o", str(tmp_path / "compare"), "--format", "pdf")
    for path in (tmp_path / "compare").glob("*.pdf"):
        assert "(5 draws and 6 draws): unchanged since" in ucurve("cite", str(path))

    worker.stop()
    open_id = lab.client.submit({**spec, "draws": 7, "seed": 1}).id
    ucurve("figures", str(open_id), "-o", str(tmp_path / "open"), "--format", "svg")
    lab.start_worker("worker-1")
    lab.client.wait(open_id, timeout=60)
    (path, *_) = (tmp_path / "open").glob("*loss*.svg")
    assert re.search(r"[1-9]\d* rows have changed since", ucurve("cite", str(path)))

    stray = tmp_path / "stray.svg"
    stray.write_bytes(
        cited_file(
            lab.client.figures(ids[0])[path.stem],
            "svg",
            FigureSource(path.stem, (ids[0],), ("other",), ({},), "http://other"),
        )
    )
    assert "the file was made by the lab at http://other, and the specs of #" in ucurve(
        "cite", str(stray), status=2
    )
    assert "this file has no citation" in ucurve("cite", __file__, status=2)
