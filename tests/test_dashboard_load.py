"""Several browsers on one page share the API's answers, and all see new results soon."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import dashboard_load
import pytest
from conftest import Lab
from playwright.sync_api import Browser, Page

# By themselves they would ask 4.5 times a second; `benchmarks/dashboard_load.py` opens ten.
NUM_VIEWERS = 3
TEST_KINDS = True
ENVIRONMENT = {"UCURVE_ACCESS_LOG": "1"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def pages(browser: Browser, address: str) -> Iterator[list[Page]]:
    """Of NUM_VIEWERS sessions of their own."""
    contexts = [browser.new_context(base_url=address) for _ in range(NUM_VIEWERS)]
    yield [context.new_page() for context in contexts]
    for context in contexts:
        context.close()


def test_viewers_of_the_list_share_one_request_per_interval(lab: Lab, pages: list[Page]) -> None:
    made = lab.client.submit({"kind": "slow_count", "to": [1]}, name="seen by all")
    pages = pages[:3]  # by themselves they would ask three times a second
    for page in pages:
        page.goto("/", wait_until="commit")
    for page in pages:
        page.get_by_text("seen by all").first.wait_for(timeout=180_000)
    log, seconds = lab.children["api"].log, 10.0
    before = log.read_text().count('"GET /v1/experiments?')
    time.sleep(seconds)
    asked = log.read_text().count('"GET /v1/experiments?') - before
    sys.stdout.write(
        f"\n{len(pages)} viewers of the list: {asked / seconds:.2f} questions per second\n"
    )
    assert 0 < asked < 2 * seconds
    lab.client.star(
        made.id
    )  # a star is a person's own and shows, though the list is asked for by others
    pages[0].reload()
    pages[0].get_by_text("★ seen by all").first.wait_for(timeout=180_000)


def test_viewers_of_an_experiment_share_requests_and_see_new_results_soon(
    lab: Lab, pages: list[Page]
) -> None:
    measured = dashboard_load.measure(lab.client, pages, lab.children["api"].log, range(30, 36))
    sys.stdout.write(f"\n{NUM_VIEWERS} viewers\n{measured}\n")
    assert measured.rates["/measurements"] < 2  # one follower asks every 0.7 s
    assert measured.rates["/verdicts"] + measured.rates[""] < 3
    assert measured.waits[0] > 0
    assert (
        measured.waits[-1] < 60
    )  # `benchmarks/dashboard_load.py` measures; here the machine may be busy with other things
