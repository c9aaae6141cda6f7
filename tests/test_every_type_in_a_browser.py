"""Every change of `tiny` goes from the form in a real browser to a figure and an answer."""

from __future__ import annotations

import re

import pytest
from browser_helpers import PATIENCE, box, chart, marks, until
from conftest import Lab
from playwright.sync_api import Page, expect

SHARED_LAB = True
SMALL = {
    "Gaussian perturbation": {"Gammas": "0.2", "Noise seeds": "2"},
    "Quantisation": {"Bits": "3"},
    "Pruning": {"Sparsities": "0.5"},
    "Sharpness": {"Directions": "2", "Noise σ": "0.01", "Windows": "8"},
    "Interpolation": {"Steps along a line": "2"},
    "Interventions in pre-training": {"Budgets": "8, 16", "Warm-up steps": "2", "Noise seeds": "1"},
}


@pytest.mark.parametrize("title", SMALL)
def test_a_type_goes_from_the_form_to_a_figure_and_an_answer(
    page: Page, lab: Lab, title: str
) -> None:
    page.goto("/new")
    page.get_by_role("radio", name=title, exact=True).click()
    for name, value in SMALL[title].items():
        box(page, name).fill(value)
    page.get_by_role("button", name="Submit").click()  # waits until it is enabled
    page.wait_for_url(re.compile(r"/experiment\?id=\d+"))
    id = int(page.url.rpartition("=")[2])
    assert lab.client.wait(id, timeout=240).state == "done"
    figure = chart(page)
    until(lambda: marks(figure) > 0)
    answer = page.locator(f".st-key-answer-{id} .stMarkdownBadge").first
    expect(answer).to_have_text(re.compile(r"yes|no|undetermined|needs|depends"), timeout=PATIENCE)
