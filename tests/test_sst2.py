"""SST-2 on EleutherAI/pythia-70m at its real shape: one point is trained, accuracy checked by hand.

The weights are random (no download); shape, tokenizer, sentences and labels are the real ones.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from in_process import Context
from safetensors.torch import load_file
from test_pythia_shape import CONFIG, TOKENIZER, stored_weights
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from ucurve.experiments.fine_tuning import FineTuning
from ucurve.modeling.checkpoints import file_sha256, save
from ucurve.registry import presets
from ucurve.registry.hashing import resolve_examples
from ucurve.registry.suites import Checkpoint, Dataset, Location, Suite
from ucurve.spec import Point

SST2 = Path(__file__).parents[2] / "shared/data/sst2"
pytestmark = pytest.mark.skipif(
    not SST2.is_dir(), reason="../shared/data (SST-2 and the Pythia tokenizer) is absent"
)
NUM_TRAIN, NUM_VALIDATION = 128, 32


@dataclass
class Catalogue:
    suites: dict[str, Suite]
    datasets: dict[str, Dataset]

    def suite(self, name: str, field: str = "suite") -> Suite:
        return self.suites[name]

    def find_suite(self, name: str) -> Suite | None:
        return None

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        return self.datasets[name]


def registered(folder: Path, train: str, validation: str) -> Dataset:
    files: dict[str, str | int | float] = {"train": train, "validation": validation}
    dataset = Dataset(
        name="sst2",
        kind="examples",
        parameters=files,
        location=Location(scheme="path", path=str(folder)),
    )
    return resolve_examples(dataset, folder)


def test_the_files_of_sst2_have_the_hash_of_the_hub_s_preset() -> None:
    ours, preset = (
        registered(SST2, "train.tsv", "dev.tsv"),
        next(d for d in presets.datasets() if d.name == "sst2"),
    )
    assert ours.unresolved is None
    assert (ours.sha256, ours.size_bytes) == (preset.sha256, preset.size_bytes)
    facts = ("columns", "train_rows", "validation_rows", "classes")
    assert [ours.parameters[name] for name in facts] == ["sentence,label", 67349, 872, 2]
    assert [preset.parameters[name] for name in facts] == ["sentence,label", 67349, 872, 2]


@pytest.fixture(scope="module")
def lab(
    files: Path,
) -> tuple[Path, list[Point], list[tuple[str, int]]]:
    """A random checkpoint, the first sentences of SST-2, and a short text to forget."""
    artefacts = files / "sst2"
    artefacts.mkdir()
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(**{key: value for key, value in CONFIG.items() if key != "torch_dtype"})
    )
    state = {
        name: 0.4 * tensor.float() if tensor.dim() > 1 else tensor.float()
        for name, tensor in stored_weights(0).items()
    }
    state["lm_head.weight"] = state.pop("embed_out.weight")
    model.load_state_dict(state)
    folder = artefacts / "suites/pythia/step1000"
    saved = save(model, folder, Tokenizer.from_file(str(TOKENIZER)))
    for source, target, rows in (
        ("train.tsv", "train.tsv", NUM_TRAIN),
        ("dev.tsv", "dev.tsv", NUM_VALIDATION),
    ):
        lines = (SST2 / source).read_text().split("\n")
        (artefacts / target).write_text("\n".join(lines[: rows + 1]) + "\n")
    (artefacts / "text.txt").write_text((SST2 / "dev.tsv").read_text()[-2000:])
    text = Dataset(
        name="text", kind="text", location=Location(scheme="path", path=str(artefacts / "text.txt"))
    )
    text = text.model_copy(
        update={"sha256": file_sha256(artefacts / "text.txt"), "size_bytes": 2000}
    )
    checkpoint = Checkpoint(
        suite="pythia", revision="step1000", step=1000, tokens=1000 * 2_097_152,
        location=Location(scheme="artefacts", path="suites/pythia/step1000"), **saved.__dict__,
    )  # fmt: skip
    spec = FineTuning(
        suite="pythia", task="label_words", data="sst2", evaluations=["text"], seeds=[0], epochs=1
    )
    sets = {"sst2": registered(artefacts, "train.tsv", "dev.tsv"), "text": text}
    catalogue = Catalogue({"pythia": Suite(name="pythia", checkpoints=[checkpoint])}, sets)
    examples = [line.split("\t") for line in (artefacts / "dev.tsv").read_text().splitlines()[1:]]
    return (
        artefacts,
        list(spec.plan(catalogue)),
        [(sentence, int(label)) for sentence, label in examples],
    )


def test_one_point_trains_and_its_accuracy_is_that_of_a_plain_loop(
    lab: tuple[Path, list[Point], list[tuple[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    artefacts, points, examples = lab
    [point] = [point for point in points if point.labels["method"] == "full"]
    assert (point.labels["learning_rate"], point.inputs["perturbation"]["recipe"]["length"]) == (
        2e-5,
        {"epochs": 1.0},
    )
    context = Context(artefacts)
    result = FineTuning.run(point, context)
    assert result.metrics["steps_done"] == 4
    assert math.isfinite(result.metrics["nll_mean"])
    assert result.metrics["num_validation"] == NUM_VALIDATION
    assert context.losses[-1] < context.losses[0]

    [folder] = (artefacts / "tuned").iterdir()
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(**{key: value for key, value in CONFIG.items() if key != "torch_dtype"})
    ).eval()
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    negative, positive = (tokenizer.encode(word).ids[0] for word in (" negative", " positive"))
    assert (tokenizer.encode(" negative").ids, tokenizer.encode(" positive").ids) == (
        [negative],
        [positive],
    ), "one token each"
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for sentence, label in examples:
            logits = model(
                torch.tensor([tokenizer.encode(f"Review: {sentence.strip()}\nSentiment:").ids])
            ).logits[0, -1]
            correct += int(logits[positive] > logits[negative]) == label
            loss -= float(logits.double().log_softmax(-1)[(negative, positive)[label]])
    assert result.metrics["accuracy"] == correct / NUM_VALIDATION
    assert result.metrics["id_loss"] == pytest.approx(loss / NUM_VALIDATION, rel=1e-4)
    assert json.loads((folder / "tuning.json").read_text())["steps"] == 4
    assert not os.path.exists(folder / "state.pt")
