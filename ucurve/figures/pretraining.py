"""What pre-training looked like: loss, held-out perplexity and weight growth over tokens; does the base keep improving?

Rows of the table come from the kind `pretraining`: its series hold the training loss (binned), and per checkpoint the
held-out loss as sums over blocks of windows and the weights' rms by tensor group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ucurve.spec import Figure, Verdict

if TYPE_CHECKING:
    import pandas as pd

GROUPS = ("matrices", "embedding", "attention", "mlp", "unembedding", "gains")
NUM_DOTS = 80  # of a running run's loss curve: as many as a finished one has


def loss_rows(table: pd.DataFrame, tokens_per_step: int) -> list[dict[str, Any]]:
    """Training loss over tokens of every run, finished or running: rows of what "mean", or "edge" where it diverged."""
    rows = []
    for run in table.to_dict("records"):
        if run["state"] == "done":
            tokens, losses = run["series"]["training_tokens"], run["series"]["training_loss"]
        elif run["live"]:
            live = run["live"]["series"]
            losses = live.get("loss", [])
            tokens = [
                None if step is None else step * tokens_per_step for step in live.get("done", [])
            ][-len(losses) :]
        else:
            continue
        where = {
            "replicate": run["replicate"],
            "run": run["step"],
            "measurement": run["measurement"],
        }
        every = 1 + len(losses) // (2 * NUM_DOTS)
        for at, loss in list(zip(tokens, losses, strict=False))[::-every][::-1]:
            finite = loss is not None and np.isfinite(loss)
            if at:
                end = (
                    {"what": "mean", "y": loss}
                    if finite
                    else {"what": "edge", "slot": 0, "label": "diverged"}
                )
                rows.append({"tokens": at, **where, **end})
    return rows


def held_out(table: pd.DataFrame) -> dict[int, dict[int, NDArray[np.float64]]]:
    """{replicate: {tokens: mean loss of each block of held-out windows}}, tokens ascending, step 0 included."""
    found: dict[int, dict[int, NDArray[np.float64]]] = {}
    for run in table[table["state"] == "done"].to_dict("records"):
        series, num = run["series"], len(run["series"]["checkpoint_tokens"])
        if num:
            losses = np.array(series["checkpoint_nll"], float).reshape(num, -1)
            scored = np.array(series["checkpoint_scored"], float).reshape(num, -1)
            for tokens, nll, number in zip(
                series["checkpoint_tokens"], losses, scored, strict=True
            ):
                found.setdefault(int(run["replicate"]), {})[int(tokens)] = nll / number
    return {
        replicate: dict(sorted(by_tokens.items())) for replicate, by_tokens in sorted(found.items())
    }


def held_out_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Held-out perplexity of every checkpoint but step 0, with its 95% interval over blocks of windows."""
    from ucurve.analysis.statistics import mean_interval

    rows = []
    for replicate, by_tokens in held_out(table).items():
        for tokens, blocks in by_tokens.items():
            mean, low, high = mean_interval(blocks)
            where = {"tokens": tokens, "replicate": replicate, "run": 0}
            if tokens and np.isfinite(mean):
                rows.append(
                    {
                        "what": "mean",
                        **where,
                        "y": np.exp(mean),
                        "low": np.exp(low),
                        "high": np.exp(high),
                    }
                )
            elif tokens:
                rows.append({"what": "edge", **where, "slot": 0, "label": "not finite"})
    return rows


def growth_rows(table: pd.DataFrame, first: int) -> list[dict[str, Any]]:
    """Root mean square of the weights over that of the replicate's checkpoint at `first` tokens, by tensor group."""
    found: dict[tuple[int, str], dict[int, float]] = {}
    for run in table[table["state"] == "done"].to_dict("records"):
        for group in GROUPS:
            sizes = zip(
                run["series"]["checkpoint_tokens"], run["series"][f"rms_{group}"], strict=True
            )
            found.setdefault((int(run["replicate"]), group), {}).update(
                {int(at): size for at, size in sizes}
            )
    return [
        {
            "what": "mean",
            "tokens": tokens,
            "replicate": replicate,
            "group": group,
            "y": size / sizes[first],
        }
        for (replicate, group), sizes in sorted(found.items())
        for tokens, size in sorted(sizes.items())
        if tokens and first in sizes
    ]


def figures(
    table: pd.DataFrame, runs: Sequence[int], first: int, seeds: Sequence[int], tokens_per_step: int
) -> dict[str, Figure]:
    """The three figures. runs: their lengths in steps; first: tokens of the first checkpoint that is kept."""
    from ucurve.figures.charts import Axis, Lines, curves, tokens_axis

    several = "replicate" if len(seeds) > 1 else None
    lengths, replicates = (
        Lines("run", "steps of the run", list(runs)),
        Lines("replicate", "seed", list(seeds), ordered=False),
    )
    loss, perplexity = Axis("y", "training loss / nats"), Axis("y", "held-out perplexity", "log")
    growth = Axis(
        "y", f"rms of the weights / rms at {'step 0' if not first else f'{first:,} tokens'}"
    )
    return {
        "training": Figure(
            "Training loss",
            "Mean loss of the batches in each bin of tokens; runs in progress are drawn as far as they are.",
            curves(tokens_axis(), loss, lengths, row=several),
            {"curves": loss_rows(table, tokens_per_step)},
        ),
        "held-out": Figure(
            "Held-out perplexity",
            "One point per checkpoint, with its 95% interval over blocks of held-out windows; a line per seed. Step 0 has no "
            "place on a logarithmic axis.",
            curves(tokens_axis(), perplexity, replicates),
            {"curves": held_out_rows(table)},
        ),
        "weights": Figure(
            "Growth of the weights",
            "Root mean square by tensor group, in units of its first value: matrices all together and by part, and the gains of "
            "norms (biases begin at zero). Where matrices grow, noise in proportion to them grows too.",
            curves(
                tokens_axis(),
                growth,
                Lines("group", "tensors", list(GROUPS), ordered=False),
                row=several,
            ),
            {"curves": growth_rows(table, first)},
        ),
    }


def verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Which runs broke; and per replicate: is the last checkpoint better on held-out text than every earlier one?"""
    improving = [
        _keeps_improving(replicate, by_tokens) for replicate, by_tokens in held_out(table).items()
    ]
    return _broken(table) + improving


def _broken(table: pd.DataFrame) -> list[Verdict]:
    done = table[table["state"] == "done"].to_dict("records")
    return [
        Verdict(
            claim="training is stable",
            scope=f"replicate {run['replicate']}, run of {run['step']:,} steps",
            answer="no",
            sentence=f"Seed {run['replicate']}'s run of {run['step']:,} steps diverged after {run['steps_done']:,.0f} steps: "
            "the loss or its gradient was not finite. Its later checkpoints do not exist.",
        )
        for run in done
        if not np.isfinite(run["training_loss"])
    ]


def _keeps_improving(replicate: int, by_tokens: dict[int, NDArray[np.float64]]) -> Verdict:
    from ucurve.analysis.statistics import rise_after_minimum

    losses = np.stack(list(by_tokens.values()))
    asked = {"claim": "base keeps improving", "scope": f"replicate {replicate}"}
    if len(losses) < 2 or not np.isfinite(losses).all():
        why = (
            "fewer than two checkpoints are measured"
            if len(losses) < 2
            else "a held-out loss is not finite"
        )
        return Verdict(
            **asked,
            answer="undetermined",
            sentence=f"Undetermined for replicate {replicate}: {why}.",
        )
    rise = rise_after_minimum(losses)
    place = f"{list(by_tokens)[rise.bottom]:,} tokens"
    if rise.p_value < 0.05:
        answer, found = (
            "no",
            f"the last checkpoint is {rise.rise:.4f} nats worse on held-out text than the one at {place}",
        )
    elif rise.interval[1] < 0:
        answer, found = (
            "yes",
            f"the last checkpoint beats every earlier one, the next best (at {place}) by {-rise.rise:.4f} nats",
        )
    else:
        answer, found = (
            "undetermined",
            f"the last checkpoint and the one at {place} differ by {rise.rise:+.4f} nats",
        )
    return Verdict(
        **asked,
        answer=answer,
        sentence=f"Replicate {replicate}: {found} (95% interval {rise.interval[0]:+.4f} to {rise.interval[1]:+.4f}).",
        effect=rise.rise,
        effect_name="held-out loss of the last checkpoint minus the best earlier one, nats",
        interval=rise.interval,
        p_value=rise.p_value if answer == "no" else None,  # of a rise: it says nothing for a fall
        test=f"paired t tests over {losses.shape[1]} blocks of held-out windows, last against every earlier checkpoint, Simes",
    )
