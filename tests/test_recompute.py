"""Numbers recomputed by docs/recompute.py from the documentation alone are those of the product."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import doc_pages
import pytest
from doc_pages import DOCS
from in_process import Context
from safetensors.torch import load_file, save_file
from test_kinds import BUILTIN, Catalogue

from ucurve.cli import main
from ucurve.experiments import kinds, parse
from ucurve.modeling.checkpoints import file_sha256
from ucurve.registry.layouts import layout_in
from ucurve.registry.suites import Location, Suite, combined_sha256
from ucurve.spec import Point, Result

SCRIPT = DOCS / "recompute.py"
LIBRARIES = {"hashlib", "json", "sys", "pathlib", "types", "numpy", "torch", "safetensors"}
PAGE = DOCS / "protocols" / "index.md"
LAST = "seed0-step7000-tokens14336000"
TUNING = {"kind": "fine_tuning", "seeds": [0], "steps": 60, "batch_rows": 16}
LABELLED = {**TUNING, "data": "tiny-sentiment", "learning_rates": [1e-3]}
SHORT = {"kind": "pretraining", "suite": "short", "steps": [30], "warmup_steps": 5}
BRANCHED = {
    **SHORT,
    "kind": "interventions",
    "seeds": [0],
    "interventions": ["sharpness_aware"],
    "gammas": [0.3],
    "draws": 1,
}
NOISE = {"kind": "gaussian_perturbation", "suite": "tiny"}
ROUNDING = {"kind": "quantisation", "suite": "tiny"}
FORMATS = {**ROUNDING, "formats": ["torchao_int8", "torchao_int4"]}
INT8, INT4 = "torchao int8, per row", "torchao int4, per group of 32"
PRUNING = {"kind": "pruning", "suite": "tiny", "patterns": ["2:4"]}
SHARPNESS = {"kind": "sharpness", "draws": 1, "sigmas": [0.03], "by_group": False}
NOISE_BESIDE = {"noise_gammas": [0.05]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands of the documentation write."""
    folder = tmp_path_factory.mktemp("ids")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in doc_pages.blocks(PAGE):
            for command in doc_pages.commands(block) if block.language == "console" else ():
                assert main(shlex.split(command)) == 0, command
    return folder / "ids"


@pytest.fixture(scope="module")
def recomputed(files: Path) -> dict[str, float]:
    command = [sys.executable, str(SCRIPT), str(BUILTIN / "suites" / "tiny"), str(files)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=files)
    assert process.returncode == 0, process.stderr
    numbers: dict[str, float] = json.loads(process.stdout)
    return numbers


class Published(Catalogue):
    """`tiny` in files that call the unembedding as those of Pythia do."""

    def __init__(self, artefacts: Path) -> None:
        self.artefacts = artefacts

    def suite(self, name: str, field: str = "suite") -> Suite:
        suite, layouts = super().suite(name, field), {}
        chosen = [c for c in suite.checkpoints if c.revision in ("seed0-step0-tokens0", LAST)]
        renamed = []
        for checkpoint in chosen:
            source = BUILTIN / checkpoint.location.path
            place = f"suites/published/{checkpoint.revision}"
            folder = self.artefacts / place
            folder.mkdir(parents=True)
            (folder / "config.json").write_bytes((source / "config.json").read_bytes())
            weights = load_file(source / "model.safetensors")
            weights["embed_out.weight"] = weights.pop("lm_head.weight")
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            layout = layout_in(folder, self.artefacts)
            assert layout
            layouts[layout.sha256] = layout
            location = Location(scheme="artefacts", path=place)
            sha256 = file_sha256(folder / "model.safetensors", self.artefacts)
            changes = {
                "location": location,
                "weights_sha256": combined_sha256({"model.safetensors": sha256}),
                "layout_sha256": layout.sha256,
            }
            renamed.append(checkpoint.model_copy(update=changes))
        return suite.model_copy(update={"checkpoints": renamed}).with_layouts(layouts)


@dataclass
class Product:
    """Measures single points as a worker does."""

    context: Context
    results: dict[str, Result] = field(default_factory=dict)

    def point(
        self, spec: dict[str, Any], catalogue: Catalogue | None = None, **labels: Any
    ) -> Point:
        points = parse(spec).plan(catalogue or Catalogue())
        return next(p for p in points if labels.items() <= p.labels.items())

    def result(
        self, spec: dict[str, Any], catalogue: Catalogue | None = None, **labels: Any
    ) -> Result:
        point = self.point(spec, catalogue, **labels)
        if point.identity not in self.results:
            self.results[point.identity] = kinds()[spec["kind"]].run(point, self.context)
        return self.results[point.identity]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return Product(Context(tmp_path_factory.mktemp("artefacts")))


def noisy(product: Product, scale: str, gamma: float, draw: int) -> float:
    spec = {**NOISE, "gammas": [gamma], "draws": draw + 1, "scale": scale}
    labels = {"revision": LAST, "scale": scale, "draw": draw, "gamma": gamma}
    protocol = "matched_displacement/1" if scale == "matched_displacement" else "gaussian/1"
    assert product.point(spec, **labels).inputs["perturbation"]["protocol"] == protocol
    return product.result(spec, **labels).metrics["nll_mean"]


def published(product: Product) -> float:
    catalogue = Published(product.context.artefacts)
    spec = {**NOISE, "gammas": [0.2], "draws": 1}
    labels = {"revision": LAST, "scale": "init_std", "gamma": 0.2}
    point = product.point(spec, catalogue, **labels)
    assert point.inputs["perturbation"]["protocol"] == "gaussian/2"
    return kinds()["gaussian_perturbation"].run(point, product.context).metrics["nll_mean"]


def averaged(product: Product) -> float:
    spec = {"kind": "interpolation", "pairs": ["seeds"], "steps": 2}
    return product.result(spec, revision=LAST, t=0.5).metrics["nll_mean"]


def changed(product: Product, spec: dict[str, Any], **labels: Any) -> float:
    return product.result(spec, revision=LAST, **labels).metrics["nll_mean"]


def tuned(product: Product, rate: float = 1e-3, alpha: float = 1.0, **fields: Any) -> Result:
    spec = {**TUNING, "learning_rates": [rate], "alphas": [0.5], **fields}
    return product.result(spec, revision=LAST, method="full", alpha=alpha)


def sharpness(product: Product, part: str, metric: str, **fields: Any) -> float:
    return product.result({**SHARPNESS, **fields}, revision=LAST, part=part).metrics[metric]


def linear(product: Product, snapshots: str, **labels: Any) -> float:
    spec = {"kind": "linear_model", "snapshots": snapshots}
    return product.result(spec, features=10, **labels).metrics["mse_mean"]


def pretrained(product: Product) -> float:
    return product.result(SHORT).metrics["nll_mean"]


def branched(product: Product) -> float:
    return product.result(BRANCHED, intervention="sharpness_aware").metrics["nll_mean"]


MEASURED: dict[str, Callable[[Product], float]] = {
    "perplexity/1": lambda p: p.result(NOISE, revision=LAST, gamma=0.0).metrics["nll_mean"],
    "gaussian/1 current_std": lambda p: noisy(p, "current_std", 0.1, 3),
    "gaussian/1 init_std": lambda p: noisy(p, "init_std", 0.2, 0),
    "gaussian/2 init_std": published,
    "matched_displacement/1": lambda p: noisy(p, "matched_displacement", 0.2, 1),
    "interpolation/1": averaged,
    "quantisation/1": lambda p: changed(p, ROUNDING, bits=3.0),
    "library_format/1 int8": lambda p: changed(p, FORMATS, scheme=INT8),
    "library_format/1 int4": lambda p: changed(p, FORMATS, scheme=INT4),
    "pruning/1": lambda p: changed(p, PRUNING, sparsity=0.5, scheme="per tensor"),
    "fine_tune/1": lambda p: tuned(p).metrics["nll_mean"],
    "fine_tune/1 training_loss": lambda p: tuned(p).series["training_loss"][-1],
    "fine_tune/1 rate 0.01": lambda p: tuned(p, rate=1e-2).metrics["nll_mean"],
    "language_modelling/1": lambda p: tuned(p).metrics["id_loss"],
    "wise_ft/1": lambda p: tuned(p, alpha=0.5).metrics["nll_mean"],
    "label_words/1": lambda p: tuned(p, task="label_words", **LABELLED).metrics["id_loss"],
    "linear_head/1": lambda p: tuned(p, task="linear_head", **LABELLED).metrics["id_loss"],
    "pretrain/1": pretrained,
    "intervention/1": branched,
    "hessian_trace/1": lambda p: sharpness(p, "trace", "trace"),
    "hessian_trace/2": lambda p: sharpness(p, "trace", "scaled_trace_init_std", **NOISE_BESIDE),
    "hessian_top_eigenvalue/1": lambda p: sharpness(p, "eigenvalue", "top_eigenvalue"),
    "antithetic_rise/1": lambda p: sharpness(p, "noise", "rise"),
    "linear_flow/1": lambda p: linear(p, "flow", scale="fixed", gamma=0.08),
    "linear_ideal/1": lambda p: linear(p, "ideal", scale="fixed", gamma=0.08),
    "linear_fine_tuning/1": lambda p: linear(p, "flow", part="fine-tuning", l2_sp=0.0),
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_number_recomputed_from_the_documentation_is_that_of_the_product(
    name: str, product: Product, recomputed: dict[str, float]
) -> None:
    tolerance = 1e-3 if name == "fine_tune/1 rate 0.01" else 1e-5
    assert math.isfinite(recomputed[name])
    assert recomputed[name] == pytest.approx(MEASURED[name](product), rel=tolerance)


def test_every_recomputed_number_is_compared(recomputed: dict[str, float]) -> None:
    assert recomputed.keys() == MEASURED.keys()
    assert len({round(number, 4) for number in recomputed.values()}) == len(recomputed)


def test_the_script_imports_nothing_of_ours() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported == LIBRARIES


# ---- the pages say what determines a number, and what is measured

PAGES = {
    "gaussian_perturbation": ("evaluation", "gaussian-noise"),
    "fine_tuning": ("evaluation", "fine-tuning"),
    "quantisation": ("evaluation", "quantisation"),
    "pruning": ("evaluation", "pruning"),
    "pretraining": ("pre-training",),
    "interventions": ("interventions", "pre-training", "gaussian-noise", "evaluation"),
    "linear_model": ("linear-model",),
    "interpolation": ("evaluation", "interpolation"),
    "sharpness": ("evaluation", "sharpness", "gaussian-noise"),
}
EVERY_FIELD: dict[str, dict[str, Any]] = {
    "gaussian_perturbation": {"by_group": True, "scale": "all"},  # by_layer needs stored names
    "fine_tuning": {"methods": ["full", "head", "lora", "l2_sp", "ewc"], "alphas": [0.5]},
    "quantisation": {
        "granularities": ["tensor", "row", "group"],
        "ranges": "both",
        "formats": ["torchao_int8", "torchao_int4"],
    },
    "pruning": {"scopes": ["tensor", "global"], "patterns": ["2:4"]},
    "linear_model": {"draws": 50, "targets": 10},
    "sharpness": NOISE_BESIDE,
}


def text_of(kind: str) -> str:
    return "".join((PAGE.parent / f"{name}.md").read_text() for name in PAGES[kind])


def keys_and_protocols(value: Any) -> Iterator[str]:
    """All keys of nested inputs, and the values that name a protocol."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from [inner] if key == "protocol" else keys_and_protocols(inner)


@pytest.mark.parametrize("kind", PAGES)
def test_every_input_is_described(kind: str) -> None:
    points = parse({"kind": kind, **EVERY_FIELD.get(kind, {})}).plan(Catalogue())
    names = {name for point in points for name in keys_and_protocols(dict(point.inputs))}
    text = text_of(kind)
    missing = [name for name in names if f'"{name}"' not in text and f"`{name}`" not in text]
    assert not missing, f"docs/protocols does not describe {missing}"


def test_every_metric_and_series_is_described(product: Product) -> None:
    labels = {"revision": LAST, "method": "full", "alpha": 1.0}
    classes = {**LABELLED, "task": "label_words", "alphas": [0.5]}
    for kind, spec, chosen in (
        ("gaussian_perturbation", NOISE, {"revision": LAST, "gamma": 0.0}),
        ("gaussian_perturbation", {**NOISE, "gammas": [0.1]}, {"revision": LAST, "gamma": 0.1}),
        ("quantisation", ROUNDING, {"revision": LAST, "bits": 3.0}),
        ("pruning", PRUNING, {"revision": LAST, "sparsity": 0.5, "scheme": "per tensor"}),
        ("fine_tuning", classes, labels),
        ("interpolation", {"kind": "interpolation", "steps": 2}, {"revision": LAST, "t": 0.5}),
        ("sharpness", SHARPNESS, {"revision": LAST, "part": "trace"}),
        ("sharpness", {**SHARPNESS, **NOISE_BESIDE}, {"revision": LAST, "part": "trace"}),
        ("sharpness", SHARPNESS, {"revision": LAST, "part": "eigenvalue"}),
        ("sharpness", SHARPNESS, {"revision": LAST, "part": "noise"}),
        ("pretraining", SHORT, {}),
        ("interventions", BRANCHED, {"intervention": "sharpness_aware"}),
        ("linear_model", {"kind": "linear_model"}, {"features": 10, "part": "noise"}),
        ("linear_model", {"kind": "linear_model"}, {"features": 10, "part": "fine-tuning"}),
    ):
        result, text = product.result(spec, **chosen), text_of(kind)
        for name in (*result.metrics, *result.series):
            general = re.sub(r"^(rms|displacement|trace|weights)_.*", r"\1_GROUP", name)
            general = re.sub(r"^scaled_trace_.*", "scaled_trace_SCALE", general)
            general = re.sub(r"^matrix/.*", "matrix/NAME", general)
            assert f"`{general}`" in text, f"docs/protocols does not describe {name} of {kind}"
