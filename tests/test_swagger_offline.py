"""The page /docs works in a browser without internet."""

from __future__ import annotations

from urllib.parse import urlparse

from conftest import Lab
from playwright.sync_api import Browser, Route, expect

SHARED_LAB = True


def test_the_docs_page_needs_no_internet_and_sends_requests(browser: Browser, lab: Lab) -> None:
    outside: list[str] = []
    faults: list[str] = []

    def only_ours(route: Route) -> None:
        if urlparse(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    page = browser.new_context().new_page()
    page.route("**/*", only_ours)
    page.on(
        "console",
        lambda message: faults.append(message.text) if message.type == "error" else None,
    )
    page.goto(f"{lab.url}/docs")
    expect(page.get_by_role("heading", name="ucurve", exact=False).first).to_be_visible(
        timeout=30_000
    )
    page.locator("#operations-health-live_health_live_get button").first.click(timeout=30_000)
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table").get_by_text('"ok"').first).to_be_visible(
        timeout=30_000
    )
    page.context.close()
    assert not [url for url in outside if not url.startswith("data:")]
    assert not faults
