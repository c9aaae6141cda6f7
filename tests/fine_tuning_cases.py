"""A suite with made-up hashes, fine-tunings planned on it, and tables whose answers are known."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments.fine_tuning import FineTuning
from ucurve.registry.artifacts import BUILTIN
from ucurve.registry.suites import Checkpoint, Dataset, Location, Suite
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure, Point

SETS = {
    d.name: d
    for d in map(Dataset.model_validate, json.loads((BUILTIN / "datasets.json").read_text()))
}
HELD_OUT = SETS["tiny-held-out"]
SETS["few"] = HELD_OUT.model_copy(
    update={"name": "few", "parameters": {**HELD_OUT.parameters, "rows": 20}, "sha256": "f" * 64}
)
SETS["sst2"] = Dataset(
    name="sst2",
    kind="examples",
    sha256="d" * 64,
    parameters={"classes": 2, "train_rows": 67349},
    size_bytes=3_800_000,
)
SETS["wikitext-2"] = Dataset(name="wikitext-2", kind="text", sha256="e" * 64, size_bytes=1_290_590)
TOKENS = [0, 1_000_000, 2_000_000, 4_000_000, 8_000_000]
EXAMPLE: dict[str, Any] = {
    "suite": "paper",
    "learning_rates": [3e-4, 1e-3, 3e-3, 1e-2],
    "seeds": [0, 1, 2, 3, 4],
}


def paper(
    name: str = "paper",
    replicates: tuple[int, ...] = (0, 1),
    tokenizer: str | None = None,
    **changes: Any,
) -> Suite:
    checkpoints = [
        Checkpoint(
            suite=name, revision=f"seed{replicate}-tokens{tokens}",
            location=Location(scheme="path", path="/nowhere"), step=tokens // 1000, tokens=tokens,
            replicate=replicate, num_parameters=46_592, tokenizer_sha256=tokenizer,
            weights_sha256=f"{replicate}-{tokens}", config_sha256="c",
        )
        for replicate, tokens in itertools.product(replicates, TOKENS)
    ]  # fmt: skip
    return Suite(name=name, checkpoints=checkpoints, evaluation="tiny-held-out").model_copy(
        update=changes
    )


@dataclass
class Catalogue:
    suites: list[Suite]

    def suite(self, name: str, field: str = "suite") -> Suite:
        return next(suite for suite in self.suites if suite.name == name)

    def find_suite(self, name: str) -> Suite | None:
        return None

    def dataset(self, name: str, field: str = "evaluation") -> Dataset:
        return SETS[name]


def planned(suite: Suite | None = None, **fields: Any) -> list[Point]:
    suite = suite or paper()
    return list(FineTuning(**{**EXAMPLE, "suite": suite.name, **fields}).plan(Catalogue([suite])))


def table_of(
    points: list[Point], values: Callable[[dict[str, Any]], dict[str, float] | None]
) -> pd.DataFrame:
    """The table when every point has these metrics (None: open), with windows whose sums agree."""
    rows = []
    for i, point in enumerate(points):
        found = values(dict(point.labels))
        metrics = {
            name: value if math.isfinite(value) else None for name, value in (found or {}).items()
        }
        nll = metrics.get("nll_mean")
        rows.append(
            MeasurementRow(
                id=100 + i, identity=point.identity, position=i,
                state="open" if found is None else "done", labels=dict(point.labels),
                metrics=metrics,
                nonfinite={name: "nan" for name, v in metrics.items() if v is None},
                series={"window_nll": [63 * nll] * 40, "window_tokens": [63.0] * 40} if nll else {},
            )
        )  # fmt: skip
    return to_frame(rows)


def sensitive(labels: dict[str, Any]) -> dict[str, float]:
    """A base that improves; forgetting ~ lr^1 tokens^0.8, a U at high rates.

    The in-domain loss has its best rate at 2e-3, which falls as tokens^-0.3.
    """
    tokens, rate = labels["tokens"] / 1e6, labels["learning_rate"]
    base = 3.0 - 0.2 * math.log(tokens)
    if not rate:
        return {"nll_mean": base}
    wobble = 1 + 0.02 * (labels["seed"] - 2) + 0.002 * math.sin(99 * labels["seed"] + tokens)
    best = math.log(2e-3) - 0.3 * math.log(tokens)
    learned = (
        2.5
        - 0.05 * math.log(tokens)
        + 0.05 * (math.log(rate) - best) ** 2
        + 0.001 * math.sin(7 * labels["seed"] + tokens)
    )
    alpha = labels["alpha"]
    forgetting = (
        60 * rate * tokens**0.8 * wobble * alpha**2 * (0.5 if labels["method"] == "l2_sp" else 1.0)
    )
    displacement = 50 * alpha * rate / tokens**0.2
    return {
        "nll_mean": base + forgetting,
        "id_loss": learned + 0.1 * (1 - alpha),
        "displacement": displacement,
    }


def named(figure: Figure, what: str, **fields: Any) -> list[dict[str, Any]]:
    [rows] = figure.datasets.values()
    return [row for row in rows if row["what"] == what and fields.items() <= row.items()]
