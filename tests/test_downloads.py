"""Download links work while their page is open, and hold nothing once it is closed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from browser_helpers import session_of, until
from playwright.sync_api import Browser, Page

from ucurve.lab.launch import free_port

SERVER = """
import streamlit as st
from dashboard.components import downloads

downloads.SWEEP_INTERVAL, downloads.MAX_ABSENCE = 0.1, 1.0
app = st.App("page.py", routes=downloads.ROUTES)
"""
PAGE = """
from dashboard.components.downloads import download_link

download_link("file", lambda: b"content", "file", "text/plain", key="file")
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A dashboard of one page with one link, which forgets a closed page within a second."""
    (tmp_path / "serve.py").write_text(SERVER)
    (tmp_path / "page.py").write_text(PAGE)
    port = free_port()
    options = f"--server.port {port} --server.headless true --browser.gatherUsageStats false"
    command = [sys.executable, "-m", "streamlit", "run", str(tmp_path / "serve.py")]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, *options.split()], cwd=tmp_path, stdout=log, stderr=log) as app,
    ):
        try:
            until(lambda: answers(f"http://localhost:{port}/_stcore/health"), 60)
            yield f"http://localhost:{port}"
        finally:
            app.terminate()


def answers(address: str) -> bool:
    try:
        with urlopen(address) as response:
            return bool(response.status == 200)
    except HTTPError as error:
        if error.code != 404:
            raise
    except URLError:  # not started yet
        pass
    return False


def link_of(page: Page, address: str) -> str:
    page.goto(address)
    return f"{address}/{page.locator('a.file').get_attribute('href')}"


def test_a_closed_pages_downloads_are_dropped_and_those_of_an_open_page_stay(
    browser: Browser, address: str
) -> None:
    closed, reader = session_of(browser, address), session_of(browser, address)
    first = link_of(closed.new_page(), address)
    open_page = reader.new_page()
    second = link_of(open_page, address)
    assert answers(first)
    assert answers(second)
    closed.close()
    visitor = reader.new_page()  # whose drawings are what drops others' downloads

    def dropped() -> bool:
        visitor.goto(address)
        visitor.locator("a.file").wait_for()
        return not answers(first)

    until(dropped, 60)
    assert answers(second), "an open page lost its download"
    reader.close()
