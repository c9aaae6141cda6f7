"""Registering a suite on the page: what its names say is shown before anything is registered."""

from __future__ import annotations

from pathlib import Path

from browser_helpers import PATIENCE, box
from conftest import Lab
from playwright.sync_api import Page, expect
from test_suites import write_model

SHARED_LAB = True


def test_a_suite_is_previewed_corrected_and_registered(
    page: Page, lab: Lab, tmp_path: Path
) -> None:
    for seed, name in enumerate(("step2000", "extension_step250", "odd")):
        write_model(tmp_path / "models" / name, seed)
    page.goto("/suites")
    page.get_by_text("Register a suite").click()
    box(page, "Name").first.fill("previewed")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("Folder: ")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("path: ")).to_be_hidden()
    box(page, "Folder").fill(str(tmp_path / "models"))
    per_step = box(page, "Tokens per step (optional)")
    per_step.fill("1000:5")
    expect(page.get_by_text("from step 0 on")).to_be_visible(timeout=PATIENCE)
    per_step.fill("0:10,1000:20")
    expect(page.get_by_text("from step 0 on")).to_be_hidden(timeout=PATIENCE)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_text("3 checkpoints will be registered")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("extension_step250: trained after")).to_be_visible(timeout=PATIENCE)
    assert "previewed" not in [suite.name for suite in lab.client.suites()]
    page.locator("input[type=file]").first.set_input_files(
        {
            "name": "positions.csv",
            "mimeType": "text/csv",
            "buffer": b"revision,tokens\nodd,40000\n",
        }
    )
    expect(page.get_by_text("3 checkpoints will be registered")).to_be_hidden(timeout=PATIENCE)
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Register suite").click()
    expect(page.get_by_text("Registered previewed.")).to_be_visible(timeout=PATIENCE)
    expect(box(page, "Folder")).to_have_value("", timeout=PATIENCE)
    suite = next(suite for suite in lab.client.suites() if suite.name == "previewed")
    assert {c.revision: (c.tokens, c.training_phase) for c in suite.checkpoints} == {
        "step2000": (30_000, None),
        "odd": (40_000, None),
        "extension_step250": (None, "extension"),
    }


def test_a_dataset_has_a_column_and_what_is_wrong_stands_below_its_field(
    page: Page, lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "documents.jsonl"
    file.write_text('{"body": "It was a dark night."}\n{"body": "It rained."}\n' * 50)
    page.goto("/suites")
    page.get_by_text("Register a dataset").click()
    page.get_by_role("button", name="File formats").click()
    expect(page.get_by_text("prompt and completion, or instruction").last).to_be_visible()
    page.keyboard.press("Escape")
    box(page, "Name").last.fill("documents")
    box(page, "File").fill(str(file))
    page.get_by_role("button", name="Register dataset").click()
    problem = page.get_by_role("alert").filter(has_text="body")
    expect(problem).to_be_visible(timeout=PATIENCE)
    box(page, "Column (optional)").fill("body")
    page.get_by_role("button", name="Register dataset").click()
    expect(page.get_by_text("Registered documents.")).to_be_visible(timeout=PATIENCE)
    for name in ("Name", "File", "Column (optional)"):
        expect(box(page, name).last).to_have_value("", timeout=PATIENCE)
    expect(problem).to_have_count(0)
    (dataset,) = [each for each in lab.client.datasets() if each.name == "documents"]
    assert dataset.unresolved is None


def test_examples_are_registered_on_the_page_and_a_missing_file_is_named_at_its_field(
    page: Page, lab: Lab, tmp_path: Path
) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "2 + 2 =", "completion": " 4"}\n' * 20)
    page.goto("/suites")
    page.get_by_text("Register a dataset").click()
    page.get_by_text("Fine-tuning examples", exact=True).first.click()
    box(page, "Name").last.fill("sums")
    box(page, "Training examples").fill(str(file))
    page.get_by_role("button", name="Register dataset").click()
    expect(page.get_by_role("alert").filter(has_text="give validation")).to_be_visible(
        timeout=PATIENCE
    )
    box(page, "Validation examples").fill(str(file))
    page.get_by_role("button", name="Register dataset").click()
    expect(page.get_by_text("Registered sums.")).to_be_visible(timeout=PATIENCE)
    assert [each.kind for each in lab.client.datasets() if each.name == "sums"] == ["examples"]
