"""The figures of pre-training: training loss, held-out perplexity and weight growth over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis.pretraining import held_out
from ucurve.analysis.statistics import mean_interval
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.charts import curves
from ucurve.figures.colours import LineEncoding
from ucurve.schemas.results import Figure

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("matrices", "embedding", "attention", "mlp", "unembedding", "gains")
MAX_DOTS = 80  # per running loss curve: as many as a finished one has


def loss_rows(table: pd.DataFrame, tokens_per_step: int) -> list[dict[str, Any]]:
    """Return training loss over tokens of every run, finished or running.

    Rows of what "mean", or "edge" where it diverged.
    """
    rows: list[dict[str, Any]] = []
    for run in table.to_dict("records"):
        labels = {
            "replicate": run["replicate"],
            "run": run["step"],
            "measurement": run["measurement"],
        }
        tokens, losses = _training_curve(run, tokens_per_step)
        every = 1 + len(losses) // (2 * MAX_DOTS)
        for at, loss in list(zip(tokens, losses, strict=False))[::-every][::-1]:
            if at is None:
                continue
            finite = loss is not None and np.isfinite(loss)
            fields = {"what": "edge", "slot": 0, "label": "diverged"}
            if finite:
                fields = {"what": "mean", "y": loss}
            rows.append({"tokens": at, **labels, **fields})
    return rows


def _training_curve(run: Mapping[Any, Any], tokens_per_step: int) -> tuple[list[Any], list[Any]]:
    """Return tokens and losses of a finished or running run; empty for others."""
    if run["state"] == "done":
        return run["series"]["training_tokens"], run["series"]["training_loss"]
    if not run["live"]:
        return [], []
    live = run["live"]["series"]
    losses = live.get("loss", [])
    tokens = [None if step is None else step * tokens_per_step for step in live.get("done", [])]
    return tokens[-len(losses) :], losses


def held_out_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return held-out perplexity of every checkpoint with its interval over blocks."""
    rows = []
    for replicate, by_tokens in held_out(table).items():
        for tokens, blocks in by_tokens.items():
            mean, low, high = mean_interval(blocks)
            labels = {"tokens": tokens, "replicate": replicate, "run": 0}
            if np.isfinite(mean):
                y = {"y": np.exp(mean), "low": np.exp(low), "high": np.exp(high)}
                rows.append({"what": "mean", **labels, **y})
            else:
                rows.append({"what": "edge", **labels, "slot": 0, "label": "not finite"})
    return rows


def growth_rows(table: pd.DataFrame, first: int) -> list[dict[str, Any]]:
    """Return the weights' rms by tensor group, relative to the checkpoint at `first` tokens."""
    sizes: dict[tuple[int, str], dict[int, float]] = {}
    for run in table[table["state"] == "done"].to_dict("records"):
        for group in GROUPS:
            pairs = zip(
                run["series"]["checkpoint_tokens"], run["series"][f"rms_{group}"], strict=True
            )
            sizes.setdefault((int(run["replicate"]), group), {}).update(
                {int(at): size for at, size in pairs}
            )
    return [
        {
            "what": "mean",
            "tokens": tokens,
            "replicate": replicate,
            "group": group,
            "y": size / by_tokens[first],
        }
        for (replicate, group), by_tokens in sorted(sizes.items())
        for tokens, size in sorted(by_tokens.items())
        if by_tokens.get(first)
    ]


def figures(
    table: pd.DataFrame, runs: Sequence[int], first: int, seeds: Sequence[int], tokens_per_step: int
) -> dict[str, Figure]:
    """Return the three figures.

    runs: their lengths in steps; first: tokens of the first checkpoint that is saved.
    """
    row = "replicate" if len(seeds) > 1 else None
    lengths = LineEncoding("run", "steps of the run", list(runs))
    replicates = LineEncoding("replicate", "pre-training seed", list(seeds), ordered=False)
    loss, perplexity = Axis("y", "training loss / nats"), Axis("y", "held-out perplexity", "log")
    start = "step 0" if not first else f"{first:,} tokens"
    growth = Axis("y", f"RMS of the weights relative to {start}")
    groups = LineEncoding("group", "tensor group", list(GROUPS), ordered=False)
    return {
        "training": Figure(
            "Training loss",
            "Mean training loss in each bin of tokens. Updates live.",
            curves(tokens_axis(), loss, lengths, row=row),
            {"curves": loss_rows(table, tokens_per_step)},
        ),
        "held-out": Figure(
            "Held-out perplexity",
            "One point per checkpoint with its 95% interval over blocks of held-out windows, one "
            "line per seed.",
            curves(tokens_axis(), perplexity, replicates),
            {"curves": held_out_rows(table)},
        ),
        "weights": Figure(
            "Growth of the weights",
            "Root mean square (RMS) by tensor group, relative to its first value: all matrices, "
            "matrices by part, and the gains of norms (biases start at zero and are left out). "
            "Where matrices grow, noise relative to current weights (current_std) grows with them.",
            curves(tokens_axis(), growth, groups, row=row),
            {"curves": growth_rows(table, first)},
        ),
    }
