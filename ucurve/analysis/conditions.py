"""A condition: one model at many checkpoints, before and after one change; what verdicts are made from.

x, losses, measured = paired(table[table["gamma"] == 0.2])
Condition("gamma 0.2 under init_std, replicate 0", x, losses, trends.blocks(window_nll, window_tokens), measured)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import statistics
from ucurve.analysis.statistics import Array
from ucurve.formatting import tokens
from ucurve.schemas.measurements import finite_or_none
from ucurve.spec import Verdict

if TYPE_CHECKING:
    import pandas as pd

Answer = Literal["yes", "no", "undetermined"]


def alpha(looks: int) -> float:
    """Below which p is a yes at this look: 3%, then 1.2%, 0.48%, ...

    Every look spends 60% of what is left of the 5%, so that all looks together, however many draws were added between them and
    for whatever reason, hold 5% (Bonferroni).
    """
    return float(0.03 * 0.4 ** (looks - 1))


@dataclass(frozen=True)
class Condition:
    """One model at many checkpoints, before and after one change.

    scope: the condition in words, "gamma 0.2 under init_std, replicate 0".
    x: pre-training length of each checkpoint, rising, [num_checkpoints].
    losses: mean loss after the change, [num_checkpoints, num_draws], draws paired over checkpoints; inf and NaN are
        measured values (the model broke) and rank as the worst.
    base: loss before, [num_checkpoints, num_blocks] (see `trends.blocks`); one block means exact, without sampling error.
    measured: False where there is no value yet, or its point failed; None means all are.
    relevant: the smallest effect worth a claim, in the unit of the loss; 0.01 nats is 1% of perplexity.
    draw_name: what one column of losses is, in the plural: draws, seeds, targets.
    looks: how often the verdicts have been looked at, with fewer draws before (see `alpha`).
    """

    scope: str
    x: Array
    losses: Array
    base: Array
    measured: NDArray[np.bool_] | None = None
    relevant: float = 0.01
    x_name: str = "tokens"
    unit: str = "nats"
    draw_name: str = "draws"
    looks: int = 1

    @property
    def alpha(self) -> float:
        """What p is compared with."""
        return alpha(self.looks)

    @property
    def held(self) -> str:
        """What p is compared with, in words."""
        return f"look {self.looks}: yes below {self.alpha:.2g}"

    def complete(self) -> Condition:
        """The measured rectangle: checkpoints without base or losses are dropped, then draws with a gap."""
        measured = np.ones(self.losses.shape, bool) if self.measured is None else self.measured
        known = np.isfinite(self.base).all(axis=1) & (
            measured.sum(axis=1) * 2 >= measured.sum(axis=1).max(initial=0)
        )
        known &= measured.any(axis=1)
        full = measured[known].all(axis=0) & known.any()
        return replace(
            self,
            x=self.x[known],
            losses=self.losses[known][:, full],
            base=self.base[known],
            measured=None,
        )

    @property
    def base_mean(self) -> Array:
        """Mean base loss, [num_checkpoints]."""
        means: Array = self.base.mean(axis=1)
        return means

    @property
    def damage(self) -> Array:
        """Loss after minus before, [num_checkpoints, num_draws]; non-finite where the loss is."""
        return self.losses - self.base_mean[:, None]

    def at(self, index: int) -> str:
        """A checkpoint in words: "1.75M tokens"."""
        value = float(self.x[index])
        if self.x_name != "tokens":
            return f"{value:g} {self.x_name}"
        return f"{tokens(value)} tokens"

    def between(self, low: int, high: int) -> str:
        """A 95% interval of checkpoints in words."""
        return (
            f"95%: {self.at(low)} to {self.at(high)}"
            if low < high
            else "95%: at no other checkpoint"
        )

    def amount(self, value: float) -> str:
        """A loss difference in words, with the change of perplexity where the unit is nats."""
        percent = f" ({np.expm1(min(value, 50)):+.1%} perplexity)" if self.unit == "nats" else ""
        return f"{value:+.3g} {self.unit}{percent}"


def paired(
    table: pd.DataFrame, x: str = "tokens", draw: str = "draw", value: str = "nll_mean"
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """x [num_checkpoints], values and measured [num_checkpoints, num_draws] from the rows of one condition.

    Rows in state "done" are measured, inf and NaN included; all others are gaps. Rows without x are left out; of rows with
    the same x and draw (revisions with the same number of tokens) the first counts.
    """
    table = table[table[x].notna()].drop_duplicates([x, draw])
    done = table["state"] == "done"
    values = table[value] if value in table else done * np.nan
    wide = table.assign(_value=values.where(done), _done=done).pivot(
        index=x, columns=draw, values=["_value", "_done"]
    )
    return (
        wide.index.to_numpy(dtype=float),
        wide["_value"].to_numpy(dtype=float),
        np.equal(wide["_done"].to_numpy(), True),
    )


@dataclass(frozen=True)
class Teller:
    """Makes the verdicts of one claim about one condition: what all of them state in the same way."""

    asked: Condition
    used: Condition
    claim: str

    @property
    def broken_at_last(self) -> bool:
        """Some draw at the last checkpoint is not finite."""
        return bool(len(self.used.losses)) and not bool(np.isfinite(self.used.losses[-1]).all())

    def __call__(
        self,
        answer: Answer,
        reason: str,
        *,
        evidence: dict[str, Any],
        more_draws: int | None = None,
        **more: Any,
    ) -> Verdict:
        """more_draws: how many would settle it, 0: too many to ask for; said, and kept as evidence, where undetermined."""
        if answer == "undetermined" and more_draws is not None:
            few = f" Too few {self.used.draw_name}"
            reason += (
                f"{few}: about {more_draws} more would settle it."
                if more_draws
                else f"{few} to settle it."
            )
            evidence = {**evidence, "more_draws": more_draws} if more_draws else evidence
        num_draws = self.used.losses.shape[1]
        gaps = int(self.asked.losses.size - self.used.losses.size)
        infinite = int((~np.isfinite(self.used.losses)).sum())
        notes = (
            f" {infinite} losses are not finite and count as the largest finite one."
            if infinite
            else ""
        )
        notes += (
            f" So far: {gaps} of {self.asked.losses.size} losses are not used, being unmeasured or unpaired."
            if gaps
            else ""
        )
        return Verdict(
            claim=self.claim,
            scope=self.asked.scope,
            answer=answer,
            sentence=("undetermined: " if answer == "undetermined" else f"{answer}: ")
            + reason
            + notes,
            num_draws=num_draws,
            draw_name=self.used.draw_name,
            evidence={
                "alpha": self.used.alpha,
                "x": self.used.x.tolist(),
                "relevant": self.used.relevant,
                "num_nonfinite": infinite,
                "num_unused": gaps,
                **evidence,
            },
            **more,
        )

    def too_few(self, num_checkpoints: int) -> Verdict:
        """Nothing can be said yet."""
        what = f"needs {num_checkpoints} checkpoints and 2 {self.used.draw_name} at each, measured."
        return self("undetermined", what, evidence={})

    def more_draws(
        self, effect: float, std: float, num_contrasts: int, num_conditions: int, least: int = 2
    ) -> int:
        """How many more draws would settle an effect of the size seen at the next look, one way or the other; 0 if more than 1000.

        least: with fewer draws than these the test says yes to no data at all.
        """
        yes = max(
            statistics.draws_needed(
                effect, std, alpha(self.used.looks + 1) / num_contrasts / num_conditions
            ),
            least,
        )
        no = statistics.draws_needed(self.used.relevant - effect, std, 0.025)
        num = max(min(yes, no) - self.used.losses.shape[1], 1)
        return int(num) if num <= 1000 else 0


def enough(condition: Condition, num_checkpoints: int) -> bool:
    """Are there enough checkpoints, and draws for an error?"""
    return len(condition.losses) >= num_checkpoints and condition.losses.shape[1] >= 2


def plain(values: Array) -> list[float | None]:
    """For JSON: None where not finite."""
    return [finite_or_none(float(value)) for value in values]
