"""Rebuild built-in suites from their recipes.

    python benchmarks/make_suites.py tiny
    python benchmarks/make_suites.py novels --text novels-training.txt --state DIR

A recipe is a spec of the kind "pretraining" (ucurve/builtin/suites/NAME/recipe.json), trained here
by that kind's own plan() and run(), as a worker would. The result replaces the checkpoints and
suite.json beside it; about 4 minutes per suite and seed on one core. A checkpoint that another
built-in suite has bit by bit is not stored again: suite.json says where it is. `--state` keeps what
an interrupted call has trained, so that the same call continues. `--datasets` rewrites
ucurve/builtin/datasets.json. The text of `novels` is written by benchmarks/novels_text.py.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ucurve.experiments import parse
from ucurve.modeling.checkpoints import read_tokenizer
from ucurve.modeling.synthetic_language import CONTEXT, VERSION
from ucurve.registry.artifacts import BUILTIN, bytes_sha256, write_atomically
from ucurve.registry.suites import (
    TOKENS_FOR,
    Checkpoint,
    Dataset,
    Location,
    Suite,
    sort_checkpoints,
)
from ucurve.spec import Result, SpecError, canonical

DESCRIPTIONS = {
    "tiny": "Built-in, 46,592 parameters. The paper's protocol: one run per token budget, each "
    "annealed to zero with a cosine schedule; weight decay on matrices only. Two pre-training "
    "seeds.",
    "tiny-seeds": "Built-in: five pre-training seeds of the recipe of tiny at its smallest, middle "
    "and largest budget, for what the next pre-training run would do. Seeds 0 and 1 are the models "
    "of tiny.",
    "tiny-constant": "Built-in, 46,592 parameters: the counter-example. One run at a constant "
    "learning rate without weight decay; its weights grow, and so does its sensitivity to noise "
    "relative to current weights.",
    "novels": "Built-in, 45,952 parameters, real English: four novels of Jane Austen, evaluated on "
    "the first chapters of a fifth. The paper's protocol, as in tiny: one run per token budget, "
    "each annealed to zero. Two pre-training seeds.",
}
HELD_OUT = "texts/novels-held-out.txt"
TEXT = "uploads/novels-training.txt"  # below the artefact folder; not part of the package


class Catalogue:
    """The built-in datasets and the text of `novels`, and no suite: every recipe is new."""

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        text = json.loads((BUILTIN / "suites" / "novels" / "text.json").read_text())
        location = Location(scheme="artefacts", path=TEXT)
        for entry in json.loads((BUILTIN / "datasets.json").read_text()):
            if entry["name"] == name:
                return Dataset.model_validate(entry)
        if text["name"] == name:
            return Dataset(
                name=name,
                kind="text",
                location=location,
                sha256=text["sha256"],
                size_bytes=text["size_bytes"],
            )
        raise SpecError(field, f"no built-in dataset {name}")

    def find_suite(self, name: str) -> Suite | None:
        return None

    def suite(self, name: str, field: str = "suite") -> Suite:
        raise SpecError(field, f"no suite {name}")


class Context:
    """The runtime of a worker, for one process."""

    device = "cpu"

    def __init__(self, root: Path, identity: str) -> None:
        self.artefacts = root
        self.state_dir = root / "state" / identity

    def progress(self, done: float, total: float, **metrics: float) -> None:
        if metrics and (done % 500 == 0 or done == total):
            print(f"  {done:.0f}/{total:.0f} {metrics}", flush=True)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        return make()


def train(recipe: dict[str, Any], root: Path) -> list[Result]:
    """Run every point of a recipe, one after another."""
    spec = parse(recipe)
    results = []
    for point in spec.plan(Catalogue()):
        print(point.labels, flush=True)
        results.append(spec.run(point, Context(root, point.identity)))
    return results


def content(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """Return what makes two checkpoints the same model."""
    return checkpoint.weights_sha256, checkpoint.config_sha256


def stored_elsewhere(name: str) -> dict[tuple[str | None, str | None], Location]:
    """Return where other built-in suites store their checkpoints, by content."""
    suites = [
        Suite.model_validate_json(path.read_text())
        for path in sorted((BUILTIN / "suites").glob("*/suite.json"))
    ]
    return {
        content(checkpoint): checkpoint.location
        for suite in suites
        for checkpoint in suite.checkpoints
        if suite.name != name and checkpoint.location.path.startswith(f"suites/{suite.name}/")
    }


def make(name: str, text: Path | None, state: Path | None) -> None:
    """Train the suite and replace it in the package.

    text: what `novels` is trained on; state: folder that keeps what was trained.
    """
    folder = BUILTIN / "suites" / name
    with tempfile.TemporaryDirectory() as temporary:
        root = state or Path(temporary)
        if text:
            write_atomically(root / TEXT, text.read_bytes())
        elif name == "novels" and not (root / TEXT).exists():
            raise SystemExit("novels needs --text FILE, which benchmarks/novels_text.py writes")
        suites = [
            result.suite
            for result in train(json.loads((folder / "recipe.json").read_text()), root)
            if result.suite
        ]
        for old in (entry for entry in folder.iterdir() if entry.is_dir()):
            shutil.rmtree(old)
        elsewhere = stored_elsewhere(name)
        checkpoints: list[Checkpoint] = []
        for checkpoint in itertools.chain.from_iterable(suite.checkpoints for suite in suites):
            place = elsewhere.get(content(checkpoint))
            if place is None:
                shutil.copytree(root / checkpoint.location.path, folder / checkpoint.revision)
                place = Location(scheme="builtin", path=f"suites/{name}/{checkpoint.revision}")
            checkpoints.append(checkpoint.model_copy(update={"location": place}))
    merged = suites[0].model_copy(
        update={"description": DESCRIPTIONS[name], "checkpoints": sort_checkpoints(checkpoints)}
    )
    (folder / "suite.json").write_text(merged.model_dump_json(indent=2) + "\n")


def write_datasets() -> None:
    """Write the built-in datasets with hashes of their generators' parameters."""
    held_out = {
        "language": 0,
        "split": "held-out",
        "rows": 1024,
        "context": CONTEXT,
        "version": VERSION,
    }
    sets = {
        "tiny-held-out": (
            "1,024 held-out documents of the built-in language, from a stream that is never "
            "trained on.",
            held_out,
        ),
        "tiny-language": (
            "The built-in language: an endless stream, on which the built-in suites are "
            "pre-trained.",
            {"language": 0, "split": "train", "version": VERSION},
        ),
        "tiny-redrawn": (
            "The built-in language with the same words and syntax but resampled facts and "
            "preferences: an endless stream to fine-tune on.",
            {"language": 1, "split": "train", "version": VERSION},
        ),
        "tiny-redrawn-held-out": (
            "1,024 documents with the facts and preferences of tiny-redrawn, of a stream that is "
            "never trained on: a second set to evaluate suites of the built-in language on, whose "
            "facts they have not seen.",
            {**held_out, "language": 1},
        ),
        "tiny-sentiment": (
            "Documents of the built-in language with positive or negative labels, to fine-tune on.",
            {"language": 0, "split": "train", "task": "sentiment", "version": VERSION},
        ),
    }
    entries = [
        {
            "name": name,
            "description": description,
            "kind": "language",
            "parameters": parameters,
            "sha256": hashlib.sha256(
                canonical({"generator": "language", **parameters}).encode()
            ).hexdigest(),
        }
        for name, (description, parameters) in sets.items()
    ]
    content = (BUILTIN / HELD_OUT).read_bytes()
    novel = Dataset(
        name="novels-held-out",
        description="The first six chapters of Persuasion, a novel of Jane Austen (1818, public "
        "domain), from the transcription of Project Gutenberg; never trained on.",
        kind="text",
        location=Location(scheme="builtin", path=HELD_OUT),
        sha256=bytes_sha256(content),
        size_bytes=len(content),
        parameters=tokens_for_novels(content.decode()),
    )
    entries.append(novel.model_dump(exclude_unset=True))
    (BUILTIN / "datasets.json").write_text(json.dumps(entries, indent=2) + "\n")


def tokens_for_novels(text: str) -> dict[str, int]:
    """Return how many tokens of `novels` a text has; nothing before the suite is trained."""
    files = sorted((BUILTIN / "suites" / "novels").glob("*/tokenizer.json"))
    if not files:
        return {}
    tokenizer = read_tokenizer(files[0], BUILTIN)
    return {f"{TOKENS_FOR}novels": len(tokenizer.encode(text, add_special_tokens=False).ids)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DESCRIPTIONS))
    parser.add_argument("--datasets", action="store_true")
    parser.add_argument("--text", type=Path, metavar="FILE", help="training text of novels")
    parser.add_argument("--state", type=Path, metavar="DIR", help="keep what was trained")
    arguments = parser.parse_args()
    if arguments.datasets:
        write_datasets()
    for name in arguments.names:
        make(name, arguments.text, arguments.state)


if __name__ == "__main__":
    main()
