"""The page of studies, and the buttons that add noise seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser_helpers import PATIENCE, session_of
from conftest import Lab
from playwright.sync_api import Browser, Page, expect

from dashboard.components.add_draws import offers
from ucurve.analysis.verdict_order import more_draws
from ucurve.spec import Verdict

SHARED_LAB = True

SMALL = {
    "kind": "linear_model",
    "num_features": 6,
    "width": 8,
    "targets": 2,
    "fixed_gammas": [0.03],
    "relative_gammas": [],
}


@pytest.fixture(scope="module")
def page(browser: Browser, address: str) -> Iterator[Page]:
    """One for all tests, which go on from one another."""
    context = session_of(browser, address)
    yield context.new_page()
    context.close()


def test_one_click_submits_the_study_and_shows_its_progress(page: Page, lab: Lab) -> None:
    page.goto("/studies")
    card = page.locator(".st-key-study-tiny")
    card.get_by_role("button", name="Reproduce the report").click()
    links = card.locator('a[href*="experiment"]')
    expect(links).to_have_count(4, timeout=PATIENCE)
    made = lab.client.experiments(tag="tiny").experiments
    for one in made:
        lab.cancel_unless_ended(one.id)
    assert sorted(one.name for one in made) == [text.strip() for text in links.all_inner_texts()]
    ended = card.get_by_text(re.compile(r"(cancelled|done)$"))
    expect(ended).to_have_count(4, timeout=PATIENCE)
    expect(card.get_by_role("button", name="Submit again")).to_be_enabled()


def test_a_study_that_cannot_be_planned_shows_the_reason_and_submits_nothing(
    page: Page, lab: Lab
) -> None:
    before = lab.client.experiments(limit=1).total
    page.goto("/studies")
    card = page.locator(".st-key-study-springer2025-pythia70m")
    card.get_by_role("button", name="Reproduce the report").click()
    expect(card.get_by_role("alert")).to_be_visible(timeout=2 * PATIENCE)
    assert lab.client.experiments(limit=1).total == before


def test_a_button_adds_the_draws_that_resolve_an_undetermined_verdict(page: Page, lab: Lab) -> None:
    first = lab.client.submit({**SMALL, "seed": 7, "draws": 3}, name="few draws")
    lab.client.wait(first.id, timeout=120)
    fewest = min(num for verdict in lab.client.verdicts(first.id) if (num := more_draws(verdict)))
    page.goto(f"/experiment?id={first.id}")
    page.get_by_role("button", name=re.compile(rf"Add {fewest} noise seeds?:")).click()
    page.wait_for_url(re.compile(rf"id=(?!{first.id}$)\d+"), timeout=PATIENCE)
    made = lab.client.experiments(limit=1).experiments[0]
    assert (made.name, made.spec["draws"]) == ("few draws", 3 + fewest)


def test_at_most_three_numbers_of_draws_are_offered() -> None:
    def told(*numbers: int) -> list[Verdict]:
        return [
            Verdict(
                claim="c",
                answer="undetermined" if num else "yes",
                sentence="",
                more_draws=num or None,
            )
            for num in numbers
        ]

    assert offers(told(0)) == []
    assert offers(told(3, 3)) == [(3, 2)]
    assert offers(told(40, 2, 7, 7, 0, 900)) == [(2, 1), (7, 3), (900, 5)]
