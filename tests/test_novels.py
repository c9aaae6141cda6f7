"""The built-in suite of real English: its text, its attribution, and the losses of its models."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from test_kinds import BUILTIN, Catalogue

from ucurve.cli import main
from ucurve.experiments import parse
from ucurve.modeling.checkpoints import load, read_tokenizer
from ucurve.modeling.perplexity import window_losses
from ucurve.modeling.pretrain import PretrainingConfig, build
from ucurve.modeling.token_data import END_OF_TEXT, tokens_of
from ucurve.registry.artifacts import bytes_sha256
from ucurve.registry.suites import Dataset, Suite
from ucurve.spec import SpecError

ROOT = Path(__file__).parents[1]
FOLDER = BUILTIN / "suites" / "novels"
SOURCE: dict[str, Any] = json.loads((FOLDER / "text.json").read_text())
RECIPE: dict[str, Any] = json.loads((FOLDER / "recipe.json").read_text())
EXCERPT = Catalogue().dataset("novels-held-out")
TEXT = (BUILTIN / "texts" / "novels-held-out.txt").read_text(encoding="utf-8")


class Prepared(Catalogue):
    """With the training text, as it is registered once it is prepared."""

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        if name == SOURCE["name"]:
            return Dataset(name=name, kind="text", sha256=SOURCE["sha256"])
        return super().dataset(name, field)


def suite() -> Suite:
    return Suite.model_validate_json((FOLDER / "suite.json").read_bytes())


@pytest.fixture(scope="module")
def preparation() -> ModuleType:
    """benchmarks/novels_text.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(
        "novels_text", ROOT / "benchmarks" / "novels_text.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# ---- the text


def test_the_excerpt_is_the_recorded_one_and_nothing_but_the_novel() -> None:
    assert bytes_sha256(TEXT.encode()) == EXCERPT.sha256
    assert len(TEXT.encode()) == EXCERPT.size_bytes
    assert TEXT.startswith("Chapter 1\nSir Walter Elliot, of Kellynch Hall, in Somersetshire, was")
    headings = [line for line in TEXT.splitlines() if line.startswith("Chapter ")]
    assert headings == [f"Chapter {n}" for n in range(1, SOURCE["held_out"]["chapters"] + 1)]
    for word in ("gutenberg", "ebook", "copyright", "licen", "www", "_", "[", END_OF_TEXT):
        assert word not in TEXT.lower()


def test_the_excerpt_ships_with_its_attribution() -> None:
    page = (ROOT / "docs" / "concepts" / "real-text.md").read_text()
    novels = [*SOURCE["novels"], SOURCE["held_out"]]
    shipped = (BUILTIN / "texts" / "ATTRIBUTION.md").read_text()
    assert SOURCE["author"] == "Jane Austen"
    for words in ("Persuasion", "Jane Austen", "1818", "public domain", "Project Gutenberg"):
        assert words in EXCERPT.description
        assert words in shipped
    for novel in novels:
        assert f"*{novel['title']}*" in page
        assert f"| {novel['year']} | {novel['gutenberg']} |" in page
    assert f"{EXCERPT.size_bytes:,} bytes" in page
    assert f"{SOURCE['size_bytes']:,} bytes" in page
    assert SOURCE["held_out"]["title"] not in {novel["title"] for novel in SOURCE["novels"]}


TITLE = ["SENSE", "", "by Nobody", "", "(1811)", "", ""]
# What the transcriptions have beside the novels' words, each in its own form.
TRANSCRIBED: list[tuple[list[str], list[str]]] = [
    (
        ["CHAPTER 1", "", "", "It was _so_;", "he  said.", "", "", "", "THE END"],
        ["CHAPTER 1", "It was so; he said."],
    ),
    (
        ["VOLUME I", "", "CHAPTER I", "", "Emma wrote:", "", "   [To Mrs. Weston.]", "", "FINIS"],
        ["VOLUME I", "CHAPTER I", "Emma wrote:", "[To Mrs. Weston.]"],
    ),
    (
        [
            *("CHAPTER XVIII", "", "He went.", ""),
            *("     [End volume one of this edition.", "     Printed by T. and A. Constable,"),
            *("     Printers to Her Majesty at", "     the University Press]", "", "", "Later."),
        ],
        ["CHAPTER XVIII", "He went.", "Later."],
    ),
    (
        [
            *("Chapter 2", "", "One.", "", "     *     *     *     *", "", "Two.", ""),
            "[At this point in the first and second editions, Volume 1 ends.]",
            *("", "Finis"),
        ],
        ["Chapter 2", "One.", "Two."],
    ),
]


@pytest.mark.parametrize(("lines", "kept"), TRANSCRIBED)
def test_only_the_words_of_a_novel_are_kept(
    lines: list[str], kept: list[str], preparation: ModuleType
) -> None:
    assert preparation.paragraphs([*TITLE, *lines]) == kept


def test_an_excerpt_ends_with_a_chapter(preparation: ModuleType) -> None:
    novel = ["Chapter 1", "One.", "Chapter 2", "Two.", "Chapter 3", "Three."]
    assert preparation.chapters(novel, 2) == novel[:4]


def test_another_archive_is_refused(preparation: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"of another release \(janeaustenr_1.0.0.tar.gz\) has"):
        preparation.expect(
            "of another release (janeaustenr_1.0.0.tar.gz)", b"other", SOURCE["archive"]
        )


def test_the_excerpt_is_written_as_evaluations_read_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datasets", "text", "novels-held-out"]) == 0
    assert capsys.readouterr().out == TEXT
    file = tmp_path / "excerpt.ids"
    assert main(["datasets", "text", "novels-held-out", "--ids", "-o", str(file)]) == 0
    ids = [int(token) for token in file.read_text().split(" ")]
    assert ids == excerpt_ids().tolist()
    capsys.readouterr()
    assert main(["datasets", "text", "novels-held-out", "--rows", "3"]) == 2
    assert "novels-held-out is a fixed set: leave out --rows" in capsys.readouterr().err


def excerpt_ids() -> torch.Tensor:
    folder = BUILTIN / suite().checkpoints[0].location.path
    return tokens_of(EXCERPT, read_tokenizer(folder / "tokenizer.json", BUILTIN), BUILTIN)


# ---- the models


def test_all_checkpoints_read_with_one_tokenizer_that_loses_nothing(tmp_path: Path) -> None:
    assert len({c.tokenizer_sha256 for c in suite().checkpoints}) == 1
    tokenizer = load(suite().checkpoints[-1], "cpu", tmp_path).tokenizer
    assert tokenizer is not None
    assert tokenizer.get_vocab_size() == RECIPE["vocabulary"]
    for text in (TEXT, "naïve 東京 £20,000\t\r\n"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_training_starts_from_the_weights_that_the_recipe_draws(tmp_path: Path) -> None:
    """The rest needs the training text, which is not shipped: benchmarks/make_suites.py."""
    initial = {c.replicate: c for c in suite().checkpoints if c.step == 0}
    for point in parse(RECIPE).plan(Prepared()):
        if 0 not in point.inputs["keep"]:
            continue
        seed = point.inputs["seed"]
        config = PretrainingConfig(vocab_size=RECIPE["vocabulary"], **point.inputs["recipe"])
        stored = load(initial.pop(seed), "cpu", tmp_path).model.state_dict()
        for name, tensor in build(config, seed).state_dict().items():
            assert torch.equal(tensor, stored[name]), name
    assert not initial


GOLDEN: dict[str, float] = {
    "seed0-step0-tokens0": 6.018608,
    "seed0-step250-tokens512000": 3.015086,
    "seed0-step500-tokens1024000": 2.651018,
    "seed0-step1000-tokens2048000": 2.468346,
    "seed0-step2000-tokens4096000": 2.370986,
    "seed0-step4000-tokens8192000": 2.316883,
    "seed1-step0-tokens0": 5.912191,
    "seed1-step250-tokens512000": 3.035325,
    "seed1-step500-tokens1024000": 2.639580,
    "seed1-step1000-tokens2048000": 2.460421,
    "seed1-step2000-tokens4096000": 2.382546,
    "seed1-step4000-tokens8192000": 2.348250,
}


def test_the_losses_of_the_unperturbed_models_never_change(tmp_path: Path) -> None:
    tokens = excerpt_ids()
    checkpoints = suite().checkpoints
    losses = {
        c.revision: window_losses(
            load(c, "cpu", tmp_path).model, tokens, window=128, stride=128
        ).nll_mean
        for c in checkpoints
    }
    assert losses == pytest.approx(GOLDEN, abs=1e-5)
    for seed in (0, 1):
        curve = [losses[c.revision] for c in checkpoints if c.replicate == seed]
        assert curve == sorted(curve, reverse=True), "every doubling of the budget helps"


# ---- fine-tuning


def test_fine_tuning_on_the_evaluation_text_warns_that_it_measures_no_forgetting() -> None:
    tuning = {"kind": "fine_tuning", "suite": "novels", "data": "novels-held-out"}
    spec = parse(tuning)
    assert list(spec.plan(Catalogue()))
    (warning,) = spec.warnings(Catalogue())
    assert "novels-held-out is also the training dataset" in warning
    assert not parse({"kind": "fine_tuning", "suite": "tiny"}).warnings(Catalogue())


def test_without_a_registered_text_the_plan_says_what_to_fine_tune_on() -> None:
    spec = parse({"kind": "fine_tuning", "suite": "novels"})
    with pytest.raises(SpecError, match=r"sst2.* Or choose a text of your own") as refused:
        list(spec.plan(Catalogue()))
    assert refused.value.field == "data"
