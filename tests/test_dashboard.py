"""The pages in a real browser (Debian's chromium), with a real lab and dashboard process."""

from __future__ import annotations

import re
from pathlib import Path

from browser_helpers import PATIENCE, badge, box, chart, download, labels, marks, until
from conftest import Lab
from playwright.sync_api import Browser, Locator, Page, expect

TEST_KINDS = True
WATCH = """root => { root.seen = []; new MutationObserver(() => {
    const count = root.querySelectorAll('.mark-symbol.role-mark path').length;
    while (root.seen.length < count) root.seen.push(Date.now() / 1000);
}).observe(root, { subtree: true, childList: true, attributes: true });
}"""  # when each mark appeared
SMALL = {
    "kind": "linear_model",
    "width": 8,
    "num_features": 8,
    "draws": 5,
    "relative_gammas": [],
    "l2_sp": [],
}


def test_form_input_survives_navigation_and_submits_an_experiment_with_figures(
    page: Page, lab: Lab
) -> None:
    page.goto("/")
    expect(page.get_by_text("No experiments yet")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="New experiment").click()
    page.get_by_role("radio", name="Two-layer linear model").click()
    for name, value in {
        "Width": "8",
        "Features": "8",
        "Noise seeds": "1",
        "Relative noise": "",
        "Fixed noise": "0.1, zwei",
    }.items():
        box(page, name).fill(value)
    expect(page.get_by_text("“zwei” is not a number.")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("radio", name="Slow count").click()
    expect(box(page, "Count to")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="Status").click()
    expect(page.get_by_text("Workers online")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("link", name="New experiment").click()
    page.get_by_role("radio", name="Two-layer linear model").click()
    expect(box(page, "Fixed noise")).to_have_value("0.1, zwei", timeout=PATIENCE)
    box(page, "Fixed noise").fill("0.1, 0.2")
    expect(page.get_by_text("Must be a whole number from 2 to")).to_be_visible(
        timeout=PATIENCE
    )  # a bound of the kind: draws
    box(page, "Noise seeds").fill("5")
    expect(page.get_by_text("36 new")).to_be_visible(timeout=PATIENCE)
    box(page, "Name").fill("from the form")
    box(page, "Tags").fill("one, two")
    page.get_by_role("button", name="Submit").click()  # waits until it is enabled
    page.wait_for_url(re.compile(r"/experiment\?id=\d+"))
    expect(page.get_by_role("heading", name="from the form")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("36 of 36 evaluations finished")).to_be_visible(timeout=PATIENCE)
    until(lambda: marks(chart(page)) > 0)
    expect(page.get_by_role("radio", name="Verdicts")).to_be_visible(timeout=PATIENCE)
    (made,) = lab.client.experiments().experiments
    assert (made.name, made.tags, made.spec["fixed_gammas"]) == (
        "from the form",
        ["one", "two"],
        [0.1, 0.2],
    )


def test_chart_keeps_its_node_zoom_and_legend_selection_on_new_results(
    page: Page, lab: Lab
) -> None:
    id = lab.client.submit(
        {**SMALL, "num_features": 32, "width": 32, "draws": 200, "fixed_gammas": [0.05, 0.1]}
    ).id
    until(lambda: lab.client.experiment(id).progress.done >= 6)
    lab.client.pause(id)
    page.goto(f"/experiment?id={id}")
    expect(badge(page, "paused")).to_be_visible(timeout=PATIENCE)
    figure = chart(page)
    until(lambda: lab.client.experiment(id).progress.running == 0)
    until(lambda: marks(figure) > 0)
    figure.locator("svg").evaluate("svg => { svg.met = true; }")
    whole = labels(figure)
    where = figure.locator("svg").bounding_box()
    assert where
    page.mouse.move(where["x"] + where["width"] / 3, where["y"] + where["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    press(page, figure.locator(".role-legend-symbol path").first)
    until(lambda: labels(figure) != whole and faded(figure) > 0)
    page.mouse.move(where["x"], where["y"] - 40)
    zoomed, before, version = labels(figure), marks(figure), figure.get_attribute("data-version")
    page.get_by_role("button", name="Resume").click()
    lab.client.wait(id, timeout=60)
    expect(page.get_by_text("330 of 330 evaluations finished")).to_be_visible(timeout=PATIENCE)
    until(lambda: marks(figure) > before and figure.get_attribute("data-version") != version)
    assert labels(figure) == zoomed
    assert faded(figure) > 0
    assert figure.locator("svg").evaluate("svg => svg.met")


def press(page: Page, mark: Locator) -> None:
    """Click where it is; to the browser a mark lies under its svg."""
    where = mark.bounding_box()
    assert where
    page.mouse.click(where["x"] + where["width"] / 2, where["y"] + where["height"] / 2)


def faded(figure: Locator) -> int:
    """How many marks the legend has dimmed."""
    shown = figure.locator(".mark-symbol.role-mark path").evaluate_all(
        "all => all.map(path => +(path.getAttribute('opacity') ?? 1))"
    )
    return sum(opacity < 0.5 for opacity in shown)


def test_a_new_result_appears_on_the_chart_without_a_reload(page: Page, lab: Lab) -> None:
    id = lab.client.submit(
        {"kind": "slow_count", "to": [100, *range(20, 31)], "step_seconds": 0.03}
    ).id
    page.goto(f"/experiment?id={id}")
    figure = chart(page)
    figure.evaluate(WATCH)
    lab.client.wait(id, timeout=90)
    until(lambda: marks(figure) == 12)
    seen: list[float] = figure.evaluate("root => root.seen")
    committed = sorted(
        row.finished_at.timestamp() for row in lab.client.rows(id) if row.finished_at
    )
    waits = sorted(shown - done for shown, done in zip(seen, committed, strict=True))
    assert waits[0] > 0  # how soon is measured by benchmarks/dashboard_load.py


def test_failed_evaluations_show_their_reason_and_can_be_retried(page: Page, lab: Lab) -> None:
    id = lab.client.submit({"kind": "slow_count", "to": [3, -7]}, name="half of it fails").id
    lab.client.wait(id, timeout=60)
    page.goto(f"/experiment?id={id}")
    expect(page.get_by_text("ValueError: cannot count to -7")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("1 of 2 evaluations finished · 1 failed")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(
        0
    )  # nothing runs: nothing to pause
    (failed,) = (row.id for row in lab.client.rows(id) if row.labels["to"] < 0)
    tried = len(lab.client.provenance(failed).attempts)
    page.get_by_role("button", name="Retry").click()
    until(lambda: len(lab.client.provenance(failed).attempts) > tried)
    page.get_by_role("link", name="Experiments").click()
    expect(page.get_by_text("1 failed").first).to_be_visible(timeout=PATIENCE)


def test_running_experiments_can_be_paused_resumed_and_cancelled(page: Page, lab: Lab) -> None:
    id = lab.client.submit({"kind": "slow_count", "to": [1000], "step_seconds": 0.05}).id
    page.goto(f"/experiment?id={id}")
    for button, state in {"Pause": "paused", "Resume": "running", "Cancel": "cancelled"}.items():
        page.get_by_role("button", name=button, exact=True).click()
        expect(badge(page, state)).to_be_visible(timeout=PATIENCE)
        assert lab.client.experiment(id).state in (state, "queued")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0, timeout=PATIENCE)


def test_clicking_a_mark_shows_its_provenance(page: Page, lab: Lab) -> None:
    id = small(lab)
    page.goto(f"/experiment?id={id}")
    figure = chart(page)
    until(lambda: marks(figure) > 3)
    shown = page.get_by_text("Provenance of this evaluation")

    def pressed() -> bool:  # marks move when the minima arrive with the verdicts
        press(page, figure.locator(".mark-symbol.role-mark path").nth(2))
        page.wait_for_timeout(2000)
        return shown.is_visible()

    until(pressed)
    expect(page.get_by_text(re.compile(r"Attempt \d+: done on worker-1"))).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_text("Provenance of this evaluation")).to_have_count(0, timeout=PATIENCE)


def small(lab: Lab) -> int:
    """A finished experiment of two curves."""
    id = lab.client.submit({**SMALL, "fixed_gammas": [0.1, 0.2]}, name="small").id
    lab.client.wait(id, timeout=60)
    return id


def test_figures_and_table_can_be_downloaded(page: Page, lab: Lab) -> None:
    page.goto(f"/experiment?id={small(lab)}")
    chart(page)
    page.locator("[data-testid=stPopover] button").filter(has_text="ios_share").first.click()
    for name, begins in {
        "PDF": b"%PDF",
        "PNG": b"\x89PNG",
        "SVG": b"<svg",
        "CSV (data)": b"dataset,",
    }.items():
        assert downloaded(page, name).startswith(begins)
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Evaluations").click()
    table = downloaded(page, "Table (CSV)").decode().splitlines()
    assert len(table) == 1 + 18
    assert "mse_mean" in table[0]


def downloaded(page: Page, button: str) -> bytes:
    return download(page, page.get_by_role("link", name=button).first)


def test_cloning_an_experiment_fills_the_form(page: Page, lab: Lab) -> None:
    id = lab.client.submit(
        {**SMALL, "fixed_gammas": [0.3, 1e-5], "seed": 4}, name="origin", tags=["x"]
    ).id
    page.goto(f"/experiment?id={id}")
    page.get_by_role("button", name="Clone").click()
    expect(box(page, "Fixed noise")).to_have_value("0.3, 1e-05", timeout=PATIENCE)
    page.get_by_text("More settings").click()
    expect(box(page, "Seed")).to_have_value("4")
    expect(box(page, "Name")).to_have_value("origin (copy)")
    expect(page.get_by_text(re.compile("18 of 18 cached|shared with a running"))).to_be_visible(
        timeout=PATIENCE
    )


def test_filters_in_the_address_apply_to_the_list(page: Page, lab: Lab) -> None:
    lab.client.submit({**SMALL, "fixed_gammas": [0.7]}, name="needle in the list")
    page.goto("/?q=needle&kind=linear_model")
    expect(page.get_by_role("link", name="needle in the list")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("[data-testid=stProgress]")).to_have_count(1)
    box(page, "Search").fill("hay")
    expect(page.get_by_text("No experiments match the filters.")).to_be_visible(timeout=PATIENCE)
    page.wait_for_url(re.compile("q=hay"))


def test_charts_are_legible_in_dark_mode(browser: Browser, address: str, lab: Lab) -> None:
    page = browser.new_context(color_scheme="dark", base_url=address).new_page()
    page.goto(f"/experiment?id={small(lab)}")
    figure = chart(page)
    assert brightness(page.locator("[data-testid=stApp]"), "backgroundColor") < 0.2
    for text in (".role-axis-label text", ".role-axis-title text", ".role-legend-label text"):
        assert brightness(figure.locator(text).first, "fill") > 0.5


def brightness(element: Locator, prop: str) -> float:
    """Of a computed colour, 0 black to 1 white."""
    colour = element.evaluate(f"element => getComputedStyle(element).{prop}")
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3 / 255


def test_page_reports_an_unreachable_api_and_recovers(page: Page, lab: Lab) -> None:
    page.goto(f"/experiment?id={small(lab)}")
    figure = chart(page)
    figure.locator("svg").evaluate("svg => { svg.met = true; }")
    lab.children["api"].stop()
    expect(page.get_by_text("does not respond")).to_be_visible(timeout=PATIENCE)
    assert marks(figure) > 0
    lab.start_api()
    expect(page.get_by_text("does not respond")).to_have_count(0, timeout=PATIENCE)
    assert figure.locator("svg").evaluate("svg => svg.met")


def test_datasets_are_registered_on_the_models_and_data_page(
    page: Page, lab: Lab, tmp_path: Path
) -> None:
    text = tmp_path / "novel.txt"
    text.write_text("It was a dark and stormy night. " * 100)
    page.goto("/suites")
    page.get_by_text("Register a dataset").click()
    box(page, "Name").last.fill("novel")
    box(page, "File").fill(str(tmp_path / "absent.txt"))
    page.get_by_role("button", name="Register dataset").click()
    expect(page.get_by_role("alert").filter(has_text="absent.txt")).to_be_visible(timeout=PATIENCE)
    expect(box(page, "File")).to_have_value(str(tmp_path / "absent.txt"))
    box(page, "File").fill(str(text))
    page.get_by_role("button", name="Register dataset").click()
    until(lambda: any(dataset.name == "novel" for dataset in lab.client.datasets()))
    expect(page.get_by_text("novel", exact=True).first).to_be_visible(timeout=PATIENCE)


BAD_ADDRESSES = (
    "/experiment?id=²",
    "/experiment?id=99999999999999999999",
    "/experiment?id=abc",
    "/experiment?id=1&point=²&figure=none&at=yesterday",
    "/compare?ids=1,²,abc&x=none&y=none&by=none&change=none&a=none&b=none&beside=none",
    "/new?clone=²",
    "/explorer?older=²&from=1e400&to=1.2.3M&where=gamma&rows=none&aggregate=none&after=²",
    "/?page=²&state=none&sort=none&from=²&archived=none",
)


def test_bad_addresses_and_bad_input_never_cause_a_traceback(page: Page, lab: Lab) -> None:
    small(lab)
    log = lab.children["dashboard"].log
    for address in BAD_ADDRESSES:
        page.goto(address)
        expect(page.locator(".block-container").first).to_be_visible(timeout=PATIENCE)
        page.wait_for_timeout(1000)
        expect(page.get_by_test_id("stException")).to_have_count(0)
    page.goto("/experiment?id=²")
    expect(page.get_by_text("No such experiment")).to_be_visible(timeout=PATIENCE)
    page.goto("/new?clone=²")
    expect(page.get_by_text("No such experiment")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("radio", name="Two-layer linear model").click()
    expect(box(page, "Width")).to_be_visible(timeout=PATIENCE)
    for text in ("+-5", "²", "11"):
        box(page, "Priority").fill(text)
        expect(page.get_by_text("Enter a whole number from -10 to 10.")).to_be_visible(
            timeout=PATIENCE
        )
        expect(page.get_by_role("button", name="Submit")).to_be_disabled(timeout=PATIENCE)
    box(page, "Priority").fill("")
    expect(page.get_by_text("Enter a whole number from -10 to 10.")).to_have_count(
        0, timeout=PATIENCE
    )
    assert "Traceback" not in log.read_text()
    assert "Error:" not in log.read_text()


def test_page_of_a_deleted_experiment_says_so_and_stops_polling(page: Page, lab: Lab) -> None:
    id = small(lab)
    polls: list[str] = []
    page.on(
        "request", lambda request: polls.append(request.url) if "/pulse/" in request.url else None
    )
    log = lab.children["dashboard"].log
    length = len(log.read_text())
    page.goto(f"/experiment?id={id}")
    chart(page)
    lab.client.delete(id)
    expect(page.get_by_text(f"Experiment {id} was deleted")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".ucurve-chart")).to_have_count(0)
    page.wait_for_timeout(1500)
    num_polls = len(polls)
    assert num_polls > 0
    page.wait_for_timeout(4000)
    assert len(polls) == num_polls
    page.goto("/experiment?id=123456")
    expect(page.get_by_text("This lab has no experiment 123456")).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(2500)
    assert "Traceback" not in log.read_text()[length:]
    assert "Error:" not in log.read_text()[length:]
