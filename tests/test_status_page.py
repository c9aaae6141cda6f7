"""The page of the lab's status: empty, running, failed, a killed worker, a retry."""

from __future__ import annotations

import re

import pytest
from browser_helpers import PATIENCE
from conftest import Lab
from playwright.sync_api import Page, expect

TEST_KINDS = True
NUM_WORKERS = 0
ENVIRONMENT = {"UCURVE_LEASE_SECONDS": "4"}
pytestmark = pytest.mark.slow


def test_the_page_follows_workers_queue_and_failures(lab: Lab, page: Page) -> None:
    page.goto("/workers")
    expect(page.get_by_text("No workers yet")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("No evaluation is queued or running.")).to_be_visible()
    expect(page.get_by_text("No evaluation failed in the last seven days.")).to_be_visible()

    failing = lab.client.submit({"kind": "slow_count", "to": [-5, -6]}, name="bad <i>numbers</i>")
    expect(page.get_by_text("No worker is running. Start one")).to_be_visible(timeout=PATIENCE)

    killed = lab.start_worker("worker-killed")
    lab.client.wait(failing.id, timeout=90)
    cause = page.locator(".lab-cause").filter(has_text="ValueError: cannot count to")
    expect(cause).to_contain_text("2 evaluations", timeout=PATIENCE)
    expect(cause.get_by_role("link")).to_have_text("bad <i>numbers</i>")

    long = lab.client.submit({"kind": "slow_count", "to": [4000]}, name="a long count")
    row = page.get_by_role("row").filter(has_text="worker-killed")
    expect(row.get_by_role("link", name="a long count")).to_be_visible(timeout=PATIENCE)
    expect(row).to_contain_text(re.compile(r"\d+ % · .* left"), timeout=PATIENCE)
    queue = page.get_by_role("table", name="Queue by user")
    expect(queue).to_contain_text(long.owner)

    killed.kill()
    expect(row).to_contain_text("no sign of life", timeout=PATIENCE)
    expect(page.get_by_text("No worker is online.")).to_be_visible(timeout=PATIENCE)
    lab.start_worker("worker-killed")
    expect(row.get_by_role("link", name="a long count")).to_be_visible(timeout=PATIENCE)
    row.get_by_role("link", name="a long count").click()
    page.wait_for_url(re.compile(rf"/experiment\?id={long.id}"))
    lab.client.cancel(long.id)

    page.goto("/workers")
    before = [lab.client.provenance(row.id).attempts for row in lab.client.rows(failing.id)]
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("2 evaluations queued again.")).to_be_visible(timeout=PATIENCE)
    lab.client.wait(failing.id, timeout=90)
    after = [lab.client.provenance(row.id).attempts for row in lab.client.rows(failing.id)]
    assert [len(attempts) for attempts in before] == [1, 1]
    assert [len(attempts) for attempts in after] == [2, 2]
