"""Helpers for tests with a real browser; conftest.py opens the pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

PATIENCE = 40_000  # ms that a browser waits; the machine may be busy


def session_of(browser: Browser, address: str) -> BrowserContext:
    """Cookies and storage of its own, as another person's browser has."""
    context = browser.new_context(
        viewport={"width": 1360, "height": 1000}, base_url=address, color_scheme="light"
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    return context


def download(page: Page, link: Locator) -> bytes:
    """Click until the file comes: a click may meet a page that is being drawn, as a person's may.

    Raises playwright's TimeoutError after three clicks.
    """
    for _ in range(2):
        try:
            return _download(page, link)
        except PlaywrightTimeoutError:
            continue
    return _download(page, link)


def _download(page: Page, link: Locator) -> bytes:
    with page.expect_download(timeout=PATIENCE / 2) as waiting:
        link.click()
    return Path(waiting.value.path()).read_bytes()


def box(page: Page, name: str) -> Locator:
    return page.get_by_role("textbox", name=name, exact=True)


def badge(page: Page, word: str) -> Locator:
    return page.locator(".stMarkdownBadge").filter(has_text=word).first


def chart(page: Page, number: int = 0) -> Locator:
    found = page.locator(".ucurve-chart").nth(number)
    expect(found.locator("svg")).to_be_visible(timeout=PATIENCE)
    return found


def marks(figure: Locator) -> int:
    return figure.locator("svg .mark-symbol.role-mark path").count()


def labels(figure: Locator) -> list[str | None]:
    return figure.locator(".role-axis-label text").all_text_contents()


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.1)
