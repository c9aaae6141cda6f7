"""Form input survives reloads and dashboard restarts, and tabs do not overwrite one another."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser_helpers import PATIENCE, box, session_of
from conftest import Lab
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ucurve.lab import launch as processes

NUM_WORKERS = 0
KEPT = """([key, value]) => {
    const found = JSON.parse(sessionStorage.getItem("ucurve-drafts") ?? "{}");
    return found.drafts?.[key] === value;
}"""
SEEN = """() => {
    window.seen = [];
    const look = () => {
        const name = document.querySelector('.st-key-new-name input');
        const visible = name && getComputedStyle(name).visibility === "visible";
        if (visible && window.seen.at(-1) !== name.value) window.seen.push(name.value);
        requestAnimationFrame(look);
    };
    look();
}"""  # what a person could have clicked on, frame by frame


@pytest.fixture(scope="module")
def tabs(browser: Browser, address: str) -> Iterator[BrowserContext]:
    context = session_of(browser, address)
    yield context
    context.close()


def type_into(page: Page, name: str, value: str, key: str) -> None:
    box(page, name).fill(value)
    page.wait_for_function(KEPT, arg=[key, value], timeout=PATIENCE)


def holds(page: Page, **values: str) -> None:
    for name, value in values.items():
        expect(box(page, name)).to_have_value(value, timeout=PATIENCE)


def test_form_input_survives_a_reload_a_second_tab_and_a_dashboard_restart(
    tabs: BrowserContext, lab: Lab
) -> None:
    page = tabs.new_page()
    page.goto("/new")
    holds(page, Gammas="0.1, 0.2, 0.3")  # it opens with a preset that has answers in minutes
    page.get_by_role("radio", name="Two-layer linear model").click()
    expect(box(page, "Width")).to_be_visible(timeout=PATIENCE)  # the form before it has draws, too
    type_into(page, "Noise seeds", "zwei", "linear_model:draws")
    type_into(page, "Name", "half <b>typed", "new:name")
    page.get_by_role("radio", name="Gaussian perturbation").click()
    type_into(page, "Gammas", "0,05", "gaussian_perturbation:gammas")
    expect(page.get_by_text("could be one value or two")).to_be_visible(timeout=PATIENCE)
    page.reload()
    holds(page, Gammas="0,05", Name="half <b>typed")
    page.get_by_role("radio", name="Two-layer linear model").click()
    holds(page, **{"Noise seeds": "zwei"})

    other = tabs.new_page()  # begins where the first one is, and goes its own way
    other.goto("/new")
    holds(other, **{"Noise seeds": "zwei"})
    other.get_by_role("radio", name="Gaussian perturbation").click()
    holds(other, Gammas="0,05")  # its form was drawn, hidden, before the drafts arrived
    other.get_by_role("radio", name="Two-layer linear model").click()
    expect(box(other, "Width")).to_be_visible(timeout=PATIENCE)
    type_into(other, "Noise seeds", "3", "linear_model:draws")
    other.close()

    dashboard = lab.children["dashboard"]
    dashboard.stop()
    dashboard.start()
    port = re.search(r":(\d+)/", page.url)
    assert port
    processes.wait_for(
        dashboard, lambda: processes.answers(f"http://127.0.0.1:{port[1]}/_stcore/health")
    )
    page.reload()
    holds(page, **{"Noise seeds": "zwei", "Name": "half <b>typed"})


def test_a_double_click_submits_once(tabs: BrowserContext, lab: Lab) -> None:
    page = tabs.new_page()
    page.goto("/new")
    page.get_by_role("radio", name="Two-layer linear model").click()
    expect(box(page, "Width")).to_be_visible(timeout=PATIENCE)
    type_into(page, "Noise seeds", "2", "linear_model:draws")
    type_into(page, "Name", "clicked <b>twice", "new:name")
    expect(page.get_by_role("button", name="Submit")).to_be_enabled(timeout=PATIENCE)
    page.get_by_role("button", name="Submit").dblclick()
    page.wait_for_url(re.compile(r"/experiment\?id=\d+"))
    expect(page.get_by_role("heading", name="clicked <b>twice")).to_be_visible(timeout=PATIENCE)
    assert lab.client.experiments().total == 1


def test_a_clone_shows_its_form_only_once_it_is_filled(tabs: BrowserContext, lab: Lab) -> None:
    spec = {"kind": "linear_model", "draws": 3}
    original = lab.client.submit(spec, name="original")
    page = tabs.new_page()
    page.add_init_script(f"({SEEN})()")
    tabs.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    page.goto(f"/new?clone={original.id}")
    holds(page, **{"Name": "original (copy)", "Noise seeds": "3"})
    assert page.evaluate("window.seen") == ["original (copy)"]
    page.get_by_text("Re-measure (ignore cached results)").click()
    again = page.get_by_role("switch", name="Re-measure (ignore cached results)")
    expect(again).to_be_checked(timeout=PATIENCE)
    holds(page, **{"Name": "original (copy)", "Noise seeds": "3"})
