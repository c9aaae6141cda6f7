"""The report: one file, opened offline in a browser, with commands that reproduce it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from playwright.sync_api import Browser

from ucurve.cli import main
from ucurve.import_export.report import Report, collect, html

SHARED_LAB = True

NOISE = {
    "kind": "gaussian_perturbation",
    "checkpoints": ["seed0-step437-tokens894976", "seed0-step7000-tokens14336000"],
    "gammas": [0.2],
    "scale": "init_std",
    "draws": 2,
}
LINEAR = {"kind": "linear_model", "num_features": 6, "width": 8, "draws": 4, "targets": 2}
NAMES = {"Noise <on> tiny & more": NOISE, "The linear model": LINEAR}


@pytest.fixture(scope="module")
def ids(lab: Lab) -> list[int]:
    made = [
        lab.client.submit(spec, name=name, notes="Why & what\nto <expect>")
        for name, spec in NAMES.items()
    ]
    assert all(lab.client.wait(one.id, timeout=120).state == "done" for one in made)
    return [one.id for one in made]


@pytest.fixture(scope="module")
def report(lab: Lab, ids: list[int]) -> Report:
    return collect(lab.client, ids)


@pytest.fixture(scope="module")
def read(
    browser: Browser, report: Report, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a browser without a network makes of the file: texts, counts, and what it asked for."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html(report), encoding="utf-8")
    asked: list[str] = []
    said: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    found = {
        "text": page.inner_text("main"),
        "titles": page.locator("figure h3").all_inner_texts(),
        "drawn": page.locator("figure svg path").count(),
        "ids": page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"),
        "overflow": page.evaluate("document.documentElement.scrollWidth - window.innerWidth"),
        "links": [link.get_attribute("href") for link in page.locator("nav a").all()],
        "csv": [link.get_attribute("href") for link in page.locator("a[download]").all()],
        "commands": page.locator("#repeat pre").all_inner_texts(),
        "asked": [url for url in asked if url != path.as_uri()],
        "said": said,
    }
    context.close()
    return found


def test_the_report_is_self_contained_and_shows_every_figure(
    report: Report, read: dict[str, Any]
) -> None:
    assert (read["asked"], read["said"], read["overflow"]) == ([], [], 0)
    assert read["titles"] == [figure.title for figure in report.all_figures().values()]
    assert len(read["titles"]) >= 10
    assert read["drawn"] > 100
    assert len(set(read["ids"])) == len(read["ids"])
    assert {link.removeprefix("#") for link in read["links"]} <= set(read["ids"])


def test_names_and_notes_are_escaped(read: dict[str, Any]) -> None:
    assert read["text"].count("Noise <on> tiny & more") >= 3
    assert "to <expect>" in read["text"]


def test_it_contains_the_provenance_of_every_number(
    lab: Lab, report: Report, read: dict[str, Any]
) -> None:
    tiny = {
        c.revision: c.weights_sha256
        for s in lab.client.suites()
        for c in s.checkpoints
        if s.name == "tiny"
    }
    assert {c.revision: c.weights_sha256 for c in report.chapters[0].provenance.checkpoints} == {
        revision: tiny[revision]
        for revision in [*NOISE["checkpoints"], "seed0-step0-tokens0"]  # type: ignore[misc]
    }
    [held_out] = [d for d in lab.client.datasets() if d.name == "tiny-held-out"]
    hashes = [*(tiny[revision] for revision in NOISE["checkpoints"]), held_out.sha256]
    [measured] = report.chapters[0].provenance.measured
    assert (measured.num_attempts, measured.outcome, measured.seconds > 0) == (6, "done", True)
    for text in [
        *hashes,
        measured.versions["code"],
        f"torch {measured.versions['torch']}",
        "worker-1",
    ]:
        assert str(text) in read["text"], text


def test_it_contains_the_verdicts_of_the_api(
    lab: Lab, ids: list[int], read: dict[str, Any]
) -> None:
    for verdict in [*lab.client.verdicts(ids[1]), *lab.client.study_verdicts(ids)]:
        if verdict.is_summary:
            assert verdict.sentence in read["text"], verdict


def test_it_contains_all_measurements_as_csv(
    lab: Lab, ids: list[int], read: dict[str, Any]
) -> None:
    inside = [base64.b64decode(link.partition(",")[2]).decode() for link in read["csv"]]
    assert inside == [lab.client.csv(id) for id in ids]


def test_its_commands_submit_the_same_measurements(lab: Lab, read: dict[str, Any]) -> None:
    submissions = [
        re.search(r"<<'JSON'\n(.*)\nJSON", command, re.DOTALL) for command in read["commands"][:-1]
    ]
    assert len(submissions) == 2
    for name, found in zip(NAMES, submissions, strict=True):
        assert found is not None
        again = lab.client.submit(**json.loads(found[1]))
        assert (again.name, again.progress.reused) == (name, again.progress.total)


def test_the_command_writes_the_report_and_each_figure_as_pdf(
    lab: Lab, ids: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "one.html"
    assert (
        main(
            [
                "--url",
                lab.url,
                "report",
                str(ids[1]),
                "-o",
                str(output),
                "--title",
                "My <own> title",
                "--pdf",
            ]
        )
        == 0
    )
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert files[0] == output
    assert "<h1>My &lt;own&gt; title</h1>" in output.read_text()
    assert 'id="together"' not in output.read_text()  # one experiment has nothing beside it
    assert len(files) == 11
    assert all(
        path.read_bytes().startswith(b"%PDF") and path.parent == output.with_suffix("")
        for path in files[1:]
    )
