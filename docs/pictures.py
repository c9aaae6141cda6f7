"""Takes the pictures of the pages from a running lab, in light and dark.

python docs/pictures.py http://127.0.0.1:8501 7          # 7: the experiment that is shown
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FOLDER = Path(__file__).parent


def take(page: Page, address: str, name: str, height: int) -> None:
    page.set_viewport_size({"width": 1280, "height": height})
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_timeout(6000)  # figures and verdicts
    page.screenshot(path=FOLDER / f"{name}.png")


def main(address: str, experiment: int) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "needs Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for theme in ("light", "dark"):
            page = browser.new_context(color_scheme=theme).new_page()
            for name, path, height in [
                ("experiments", "/", 560),
                ("experiment", f"/experiment?id={experiment}", 1060),
                ("new", f"/new?clone={experiment}", 800),
                ("suites", "/suites", 700),
                ("workers", "/workers", 560),
            ]:
                take(page, address + path, f"{name}-{theme}", height)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), int(sys.argv[2]))
