"""Numbers and verdicts of pre-training: stability of the runs, and the held-out loss over tokens.
 Rows of the table come from the kind `pretraining`: its series hold the training loss (binned), and
per checkpoint the held-out loss as sums over blocks of windows and the weights' rms by tensor
group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import contrasts, statistics
from ucurve.analysis.conditions import METHOD, METHOD_TEXT
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05


def held_out(table: pd.DataFrame) -> dict[int, dict[int, Array]]:
    """Return {replicate: {tokens: held-out loss of each block of windows}}, nats per token.

    Tokens ascending, step 0 included.
    """
    losses: dict[int, dict[int, Array]] = {}
    for run in table[table["state"] == "done"].to_dict("records"):
        series, num = run["series"], len(run["series"]["checkpoint_tokens"])
        if num:
            sums = np.array(series["checkpoint_nll"], float).reshape(num, -1)
            scored = np.array(series["checkpoint_scored"], float).reshape(num, -1)
            for tokens, nll, number in zip(series["checkpoint_tokens"], sums, scored, strict=True):
                losses.setdefault(int(run["replicate"]), {})[int(tokens)] = nll / number
    return {
        replicate: dict(sorted(by_tokens.items()))
        for replicate, by_tokens in sorted(losses.items())
    }


def verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Return a verdict per diverged run, and per seed whether the held-out loss keeps falling."""
    falling = [_keeps_falling(seed, by_tokens) for seed, by_tokens in held_out(table).items()]
    return _diverged(table) + falling


def _diverged(table: pd.DataFrame) -> list[Verdict]:
    done = table[table["state"] == "done"].to_dict("records")
    return [
        Verdict(
            claim="training is stable",
            scope=f"pre-training seed {run['replicate']}, run of {run['step']:,} steps",
            answer="no",
            sentence=f"The run diverged after {run['steps_done']:,.0f} steps (non-finite loss or "
            "gradient); its later checkpoints do not exist.",
        )
        for run in done
        if not np.isfinite(run["training_loss"])
    ]


def _keeps_falling(replicate: int, by_tokens: dict[int, Array]) -> Verdict:
    """Test whether the last checkpoint has a lower held-out loss than every earlier one."""
    losses = statistics.long_blocks(np.stack(list(by_tokens.values())))
    fields: dict[str, Any] = {
        "claim": "held-out loss keeps falling",
        "scope": f"pre-training seed {replicate}",
    }
    if len(losses) < 2 or not np.isfinite(losses).all():
        reason = (
            "Fewer than two checkpoints are measured."
            if len(losses) < 2
            else "A held-out loss is not finite."
        )
        return Verdict(**fields, answer="undetermined", sentence=reason)
    rise = contrasts.rise_after_minimum(losses)
    place = f"{list(by_tokens)[rise.minimum]:,} tokens"
    answer: Answer = "undetermined"
    reason = (
        f"The held-out losses of the last checkpoint and the one at {place} differ by "
        f"{rise.rise:+.4f} nats, which is not significant"
    )
    if rise.p_value < ALPHA:
        answer = "no"
        reason = (
            f"The held-out loss of the last checkpoint is {rise.rise:.4f} nats above that at "
            f"{place}"
        )
    elif rise.interval[1] < 0:
        answer = "yes"
        reason = (
            "The held-out loss of the last checkpoint is the lowest, "
            f"{-rise.rise:.4f} nats below the next lowest, at {place}"
        )
    return Verdict(
        **fields,
        answer=answer,
        sentence=f"{reason} (95% CI of the difference: {rise.interval[0]:+.4f} to "
        f"{rise.interval[1]:+.4f}).",
        effect=rise.rise,
        effect_name="held-out loss of the last checkpoint minus the best earlier one, nats",
        interval=rise.interval,
        p_value=rise.p_value if answer == "no" else None,  # of a rise: says nothing about a fall
        test=f"{losses.shape[1]} blocks of held-out windows: {contrasts.TEST}{METHOD_TEXT}",
        method=METHOD,
    )
