"""The page of an experiment: the answer stands first, the figure with its switches below it."""

from __future__ import annotations

import re

from browser_helpers import PATIENCE, chart, labels, marks, until
from conftest import Lab
from playwright.sync_api import Locator, Page, expect

SHARED_LAB = True
SPEC = {"kind": "linear_model", "width": 16, "num_features": 16, "draws": 20, "seed": 5}
SHOT = {"width": 1440, "height": 900}


def finished(lab: Lab) -> int:
    id = lab.client.submit(SPEC, name="one answer").id
    assert lab.client.wait(id, timeout=120).state == "done"
    return id


def top(place: Locator) -> float:
    found = place.bounding_box()
    assert found
    return found["y"]


def test_the_answer_stands_above_the_first_chart_and_the_page_is_two_screens(
    page: Page, lab: Lab
) -> None:
    page.set_viewport_size(SHOT)
    id = finished(lab)
    page.goto(f"/experiment?id={id}")
    figure = chart(page)
    until(lambda: marks(figure) > 0)
    answer = page.locator(f".st-key-answer-{id}")
    expect(answer.locator(".stMarkdownBadge").first).to_have_text(
        re.compile("yes|no|undetermined"), timeout=PATIENCE
    )
    expect(answer).to_contain_text(re.compile(r"p (<|=) 0\.\d+"))
    heading = page.get_by_role("heading", name="one answer")
    assert top(answer) - top(heading) < 180
    assert top(answer) < top(figure) < SHOT["height"]
    expect(page.locator("[data-testid=stExpander]").first).to_be_visible(timeout=PATIENCE)
    whole = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight")
    assert whole <= 1800


def test_one_figure_is_drawn_and_its_tabs_and_switches_are_in_the_address(
    page: Page, lab: Lab
) -> None:
    page.goto(f"/experiment?id={finished(lab)}")
    chart(page)
    expect(page.get_by_role("heading", name="Loss under fixed noise (figure 8)")).to_be_visible()
    page.get_by_role("radio", name="increase").click()
    changed = page.get_by_role("heading", name="Loss increase under fixed noise (figure 7)")
    expect(changed).to_be_visible(timeout=PATIENCE)
    page.get_by_role("radio", name="relative noise").click()
    changed = page.get_by_role("heading", name="Loss increase under relative noise (figure 7)")
    expect(changed).to_be_visible(timeout=PATIENCE)
    assert "figure=7_change_relative_noise" in page.url
    page.reload()
    expect(changed).to_be_visible(timeout=PATIENCE)
    page.get_by_role("radio", name="Power law").click()
    expect(changed).to_have_count(0, timeout=PATIENCE)
    expect(page.locator(".ucurve-chart")).to_have_count(1, timeout=PATIENCE)


def test_the_wheel_scrolls_the_page_and_with_ctrl_it_zooms_until_reset(
    page: Page, lab: Lab
) -> None:
    page.set_viewport_size({"width": 1440, "height": 600})
    page.goto(f"/experiment?id={finished(lab)}")
    figure = chart(page)
    until(lambda: marks(figure) > 0)
    whole, reset = set(labels(figure)), figure.get_by_role("button", name="Reset zoom")
    where = figure.locator("svg").bounding_box()
    assert where
    page.mouse.move(where["x"] + where["width"] / 3, where["y"] + where["height"] / 3)
    main = page.get_by_test_id("stMain")
    page.mouse.wheel(0, 120)
    until(lambda: main.evaluate("main => main.scrollTop") > 0)
    assert set(labels(figure)) == whole
    expect(reset).to_be_hidden()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    until(lambda: set(labels(figure)) != whole)
    reset.click()
    until(lambda: set(labels(figure)) == whole)
    expect(reset).to_be_hidden()
