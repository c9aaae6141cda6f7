"""Takes the README's picture from a running lab: an experiment's name, progress and first figure.

python docs/pictures.py http://127.0.0.1:8501 1          # 1: the experiment that is shown
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

MARGIN = 24  # pixels around what is shown


def main(address: str, experiment: int) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "needs Debian's package chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": 1180, "height": 1400}, color_scheme="light", device_scale_factor=1.5
        )
        page.set_default_timeout(120_000)
        page.goto(f"{address}/experiment?id={experiment}")
        figure = page.locator(".ucurve-chart").first
        figure.locator("svg .mark-symbol path").first.wait_for(state="attached")
        page.wait_for_timeout(6000)  # the figure has its final size
        name, chart = page.locator("h1").first.bounding_box(), figure.bounding_box()
        assert name
        assert chart
        top = name["y"] - MARGIN
        page.screenshot(
            path=Path(__file__).parent / "u-curve.png",
            clip={
                "x": chart["x"] - MARGIN,
                "y": top,
                "width": chart["width"] + 2 * MARGIN,
                "height": chart["y"] + chart["height"] - top,
            },
        )
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), int(sys.argv[2]))
