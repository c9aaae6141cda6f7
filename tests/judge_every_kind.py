"""Judge every built-in experiment type on a small table in the API's process; print its modules.

Run as a script: `python tests/judge_every_kind.py` prints the loaded modules as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import api.main  # noqa: F401 - the process to be proven light
from ucurve.analysis.measurement_table import to_frame
from ucurve.experiments import kinds
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Spec

TOKENS = (1_000_000, 2_000_000, 4_000_000, 8_000_000)
BUILTIN = (
    "gaussian_perturbation",
    "fine_tuning",
    "linear_model",
    "pretraining",
    "quantisation",
    "pruning",
    "interpolation",
    "sharpness",
    "interventions",
)


def row(
    id: int, labels: dict[str, Any], metrics: dict[str, float], **series: Any
) -> MeasurementRow:
    return MeasurementRow(
        id=id,
        identity=str(id),
        position=id,
        state="done",
        labels=labels,
        metrics=metrics,
        series=series,
    )


def windows(loss: float) -> dict[str, list[float]]:
    return {"window_nll": [63 * loss + i % 3 for i in range(40)], "window_tokens": [63.0] * 40}


def gaussian_rows() -> list[MeasurementRow]:
    rows: list[MeasurementRow] = []
    for i, tokens in enumerate(TOKENS):
        place = {"revision": str(i), "tokens": tokens, "replicate": 0, "phase": None}
        base = {**place, "gamma": 0.0, "scale": None, "draw": None, "group": None}
        rows.append(row(len(rows), base, {"nll_mean": 3 - 0.1 * i}, **windows(3 - 0.1 * i)))
        for scale, draw in itertools.product(("current_std", "init_std"), range(3)):
            labels = {**place, "gamma": 0.2, "scale": scale, "draw": draw, "group": "all"}
            rows.append(row(len(rows), labels, {"nll_mean": 3.2 + 0.2 * i + 0.01 * draw * i}))
    return rows


def fine_tuning_rows() -> list[MeasurementRow]:
    rows: list[MeasurementRow] = []
    for i, tokens in enumerate(TOKENS):
        place = {"suite": "s", "revision": str(i), "tokens": tokens, "replicate": 0, "phase": None}
        base = {**place, "evaluation": "e", "method": "base", "learning_rate": 0.0, "alpha": 1.0}
        loss = 3 - 0.1 * i
        rows.append(row(len(rows), {**base, "seed": None}, {"nll_mean": loss}, **windows(loss)))
        for rate, seed in itertools.product((1e-3, 3e-3, 1e-2), range(3)):
            labels = {**base, "method": "full", "learning_rate": rate, "seed": seed}
            metrics = {"nll_mean": 3.2 + 0.2 * i + 0.01 * seed * i, "id_loss": 2 + abs(rate - 3e-3)}
            rows.append(row(len(rows), labels, metrics))
    return rows


def linear_rows(spec: Spec) -> list[MeasurementRow]:
    rows: list[MeasurementRow] = []
    for point in spec.plan(None):  # type: ignore[arg-type]
        losses = [1 + 0.01 * draw + 0.1 * point.labels["features"] for draw in range(4)]
        mean = sum(losses) / len(losses)
        metrics = dict.fromkeys(("base_mse", "base_ideal", "closed_form", "closed_form_ideal"), 1.0)
        metrics |= {"mse_mean": mean, "mse_se": 0.01}
        rows.append(row(len(rows), dict(point.labels), metrics, draws=losses))
    return rows


def changed_rows(**levels: float) -> list[MeasurementRow]:
    """Rows of a change without draws; levels: its label, and the value at the changed models."""
    ((level, size),) = levels.items()
    rows: list[MeasurementRow] = []
    for i, tokens in enumerate(TOKENS):
        place = {"suite": "s", "revision": str(i), "tokens": tokens, "replicate": 0, "phase": None}
        for scheme, loss in ((None, 3 - 0.1 * i), ("per row, symmetric", 3.2 + 0.2 * i)):
            labels = {**place, level: size if scheme else 0.0, "scheme": scheme}
            metrics = {"nll_mean": loss, "relative_change": 0.1 + 0.01 * i}
            rows.append(row(len(rows), labels, metrics, **windows(loss)))
    return rows


def line_rows() -> list[MeasurementRow]:
    """Rows of a line with a barrier between two checkpoints."""
    rows: list[MeasurementRow] = []
    for i, t in enumerate((0.0, 0.0, 0.25, 0.5, 0.75)):
        inside = t > 0
        labels = {"revision": str(i % 2 if not inside else 0), "tokens": TOKENS[i == 1], "t": t}
        labels |= {"between": "pre-training seeds 0 and 1" if inside else None, "replicate": 0}
        labels |= {"to_revision": "1" if inside else None, "to_tokens": TOKENS[1]}
        loss = 3 + 4 * t * (1 - t)
        rows.append(row(i, labels, {"nll_mean": loss}, **windows(loss)))
    return rows


def sharpness_rows() -> list[MeasurementRow]:
    """Rows of a loss that is quadratic up to a share of 100 sigma^2, with a trace that grows."""
    rows: list[MeasurementRow] = []
    for i, tokens in enumerate(TOKENS):
        place = {"suite": "s", "revision": str(i), "tokens": tokens, "replicate": 0, "phase": None}
        rest = {"group": None, "draw": None, "sigma": 0.0}
        found = {"top_eigenvalue": 20.0 + i, "residual": 0.01}
        rows.append(row(len(rows), {**place, **rest, "part": "eigenvalue"}, found))
        for draw in range(5):
            trace = (200 + 100 * i) * (1 + 0.02 * draw)
            groups = ("embedding", "attention", "mlp", "norm")
            metrics = {"trace": trace, **{f"trace_{group}": trace / 4 for group in groups}}
            metrics |= {f"weights_{group}": 100.0 for group in groups}
            labels = {**place, **rest, "draw": draw, "part": "trace"}
            rows.append(row(len(rows), labels, metrics))
            for sigma in (0.01, 0.1):
                rise = trace * sigma**2 / 2 * (1 + 100 * sigma**2)
                labels = {**labels, "part": "noise", "sigma": sigma}
                metrics = {"rise": rise, "curvature": 2 * rise / sigma**2}
                rows.append(row(len(rows), labels, metrics))
    return rows


def pretraining_rows() -> list[MeasurementRow]:
    series = {
        "checkpoint_tokens": [0.0, 1e6, 2e6],
        "checkpoint_nll": [63 * loss + i for loss in (3.0, 2.5, 2.2) for i in range(4)],
        "checkpoint_scored": [63.0] * 12,
    }
    metrics = {"training_loss": 2.2, "steps_done": 10.0}
    return [row(0, {"replicate": 0, "step": 10}, metrics, **series)]


def branch_rows() -> list[MeasurementRow]:
    """Rows of a control with a U under noise, and of an intervention that bends it."""
    rows: list[MeasurementRow] = []
    for i, seed, name in itertools.product(
        range(3), range(4), ("none", "weight_decay", "constant", "sharpness_aware")
    ):
        bent = 0.0 if name == "none" else 0.2 * i
        labels = {"intervention": name, "replicate": seed, "tokens": TOKENS[i], "step": i}
        labels |= {"budget": TOKENS[i], "suite": f"s-{name}"}
        loss = 3 - 0.1 * i + 0.001 * seed * (name == "none")
        after = [loss + (0.1, 0.2, 0.6)[i] - bent + 0.01 * seed * i] * 2
        series = {"noise_gamma": [0.3], "noise_seed": [0.0, 1.0], "noise_loss_init_std": after}
        rows.append(row(len(rows), labels, {"nll_mean": loss}, **series))
    return rows


def main() -> None:
    specs = {kind: kinds()[kind]() for kind in BUILTIN if kind != "fine_tuning"}
    specs["fine_tuning"] = kinds()["fine_tuning"](learning_rates=[1e-3, 3e-3, 1e-2])
    tables = {
        "gaussian_perturbation": gaussian_rows(),
        "fine_tuning": fine_tuning_rows(),
        "linear_model": linear_rows(specs["linear_model"]),
        "pretraining": pretraining_rows(),
        "quantisation": changed_rows(bits=3.0),
        "pruning": changed_rows(sparsity=0.5),
        "interpolation": line_rows(),
        "sharpness": sharpness_rows(),
        "interventions": branch_rows(),
    }
    for kind, rows in tables.items():
        answers = {verdict.answer for verdict in specs[kind].verdicts(to_frame(rows))}
        assert answers & {"yes", "no"}, f"{kind}: {answers}"
    sys.stdout.write(json.dumps(sorted(sys.modules)))


if __name__ == "__main__":
    main()
