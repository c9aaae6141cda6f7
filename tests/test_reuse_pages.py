"""Cached evaluations of other users, re-measuring, snapshots, editing and deleting in a browser."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from browser_helpers import PATIENCE, box, download
from conftest import Lab
from playwright.sync_api import Page, expect
from sqlalchemy import func, select

from db import users
from db.models import Attempt
from db.session import open_session
from ucurve.client import Client, RequestRejectedError

SHARED_LAB = True
GRID = {"kind": "slow_count", "to": [3, 4, 5], "step_seconds": 0.01}


def test_evaluations_of_another_user_are_cached_in_the_form_and_on_the_page(
    page: Page, lab: Lab
) -> None:
    with open_session() as session:
        users.add_user(session, "ada", "submitter")
        ada = Client(lab.url, users.create_token(session, "ada", "test", None)[1])
        session.commit()
    first = ada.submit(GRID, name="by ada")
    assert ada.wait(first.id, timeout=120).state == "done"
    with open_session() as session:
        before = session.scalar(select(func.count()).select_from(Attempt))
    page.goto(f"/new?clone={first.id}")
    expect(page.get_by_text("3 of 3 cached: results are available immediately")).to_be_visible(
        timeout=PATIENCE
    )
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/experiment\?id=\d+"))
    expect(page.get_by_text("3 of 3 evaluations finished · 3 cached")).to_be_visible(
        timeout=PATIENCE
    )
    second = lab.client.experiments(limit=1).experiments[0]
    assert (second.owner != "ada", second.state, second.progress.reused) == (True, "done", 3)
    with open_session() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) == before


def test_re_measuring_snapshots_editing_and_deleting_on_the_page(page: Page, lab: Lab) -> None:
    one = lab.client.submit({**GRID, "to": [6, 7]}, name="first")
    lab.client.wait(one.id, timeout=120)
    before = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    page.goto(f"/new?clone={one.id}")
    page.get_by_text("Re-measure (ignore cached results)").click()
    planned = page.get_by_text("2 to re-measure and compare")
    expect(planned).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(2000)  # a run that the switch interrupted is over, too
    expect(planned).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/experiment\?id=\d+"))
    expect(page.get_by_text("2 of 2 evaluations are bitwise identical.")).to_be_visible(
        timeout=PATIENCE
    )
    again = lab.client.experiments(limit=1).experiments[0]
    assert again.fresh

    page.goto(f"/experiment?id={again.id}&at={before}")
    expect(page.get_by_text("Snapshot of")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("0 of 2 evaluations finished")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Show latest").click()
    expect(page.get_by_text("2 of 2 evaluations finished")).to_be_visible(timeout=PATIENCE)
    assert "at=" not in page.url

    tools = page.locator(f".st-key-tools-{again.id}")
    tools.get_by_role("button").nth(2).click()
    box(page, "Name").fill("edited")
    box(page, "Notes").fill("**bold** and <b>no html</b>")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="edited")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("strong", has_text="bold").first).to_be_visible(timeout=PATIENCE)
    assert lab.client.experiment(again.id).notes == "**bold** and <b>no html</b>"
    page.keyboard.press("Escape")
    tools.get_by_role("button").nth(4).click()
    page.get_by_role("button", name="Delete permanently").click()
    page.wait_for_url(re.compile(r"^[^?]*/$"))
    with pytest.raises(RequestRejectedError):
        lab.client.experiment(again.id)


def test_an_evaluation_shows_its_reproduction_command_and_offers_its_file(
    page: Page, lab: Lab
) -> None:
    one = lab.client.submit({**GRID, "to": [8]})
    lab.client.wait(one.id, timeout=120)
    (row,) = lab.client.rows(one.id)
    page.goto(f"/experiment?id={one.id}&point={row.id}")
    page.get_by_text("Log (last 1 line, UTC)").click()
    expect(page.get_by_text("slow_count: counting to 8 from 0")).to_be_visible(timeout=PATIENCE)
    page.get_by_text("Reproduce on another machine").click()
    expect(page.get_by_text(f"ucurve --url {lab.url} measure {row.id}")).to_be_visible(
        timeout=PATIENCE
    )
    point = download(page, page.get_by_role("link", name="point.json"))
    assert json.loads(point)["identity"] == row.identity
