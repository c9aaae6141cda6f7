"""A condition: one model at many checkpoints, before and after one modification.

    x, losses, measured = paired(table[table["gamma"] == 0.2])
    base = statistics.blocks(window_nll, window_tokens)
    Condition("gamma 0.2 under init_std, pre-training seed 0", x, losses, base, measured)

Verdicts are computed from conditions; see `ucurve.analysis.condition_verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import broken_losses, effect_sizes, statistics, text_error
from ucurve.analysis.statistics import Array
from ucurve.formatting import tokens
from ucurve.schemas.measurements import finite_or_none
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

# The version of the tests behind verdicts: stored numbers stay, answers may change with it. Two
# labs that answer differently on the same measurements compare it first. 1: t tests with each
# contrast's own variance, ranks alone for trends. 2: `ucurve.analysis.contrasts` and slopes in
# `ucurve.analysis.trends` (docs/decisions/0064-verdict-method-2.md).
METHOD = 2
METHOD_TEXT = f"; verdict method {METHOD}"


NOT_TO_THE_LAST = "Whether that holds to the last checkpoint cannot be said."


def alpha(look: int) -> float:
    """Return the significance level of interim analysis `look`: 0.03, then 0.012, 0.0048, ...

    Every look spends 60% of what is left of 0.05, so all looks together hold 5% (Bonferroni),
    however many draws were added between them and for whatever reason.
    """
    return float(0.03 * 0.4 ** (look - 1))


def threshold_text(look: int) -> str:
    """Return the significance level for people: "interim analysis 1, alpha = 0.03"."""
    return f"interim analysis {look}, alpha = {alpha(look):.2g}"


@dataclass(frozen=True)
class Condition:
    """One model at many checkpoints, before and after one modification.

    scope: the condition for people, "gamma 0.2 under init_std, pre-training seed 0".
    x: pre-training length of each checkpoint, ascending, [num_checkpoints].
    losses: mean loss after the modification, [num_checkpoints, num_draws], draws paired over
        checkpoints; inf and NaN are measured values (the model broke) and rank as the worst.
    base: loss before, [num_checkpoints, num_blocks] (see `statistics.blocks`); a single block means
        exact, without sampling error.
    measured: False where there is no value yet, or its point failed; None means all are measured.
    smallest_effect: smallest effect of interest, in the unit of the loss; 0.01 nats is 1% of
        perplexity.
    draw_name: what one column of losses is, in the plural: draws, seeds, targets.
    same_blocks: the columns of losses are the blocks of base, so that there are no draws: what is
        resampled is the evaluation text, and the loss increase is paired block by block.
    broken_base: True where the loss before was measured and is not finite.
    look: number of this interim analysis, from 1; earlier ones had fewer draws (see `alpha`).
    labels: labels of the table's rows that this condition consists of.
    blocks: the losses after in the blocks of windows of the base, [num_checkpoints, num_draws,
        num_blocks]; None: not stored, so that intervals are on this text.
    """

    scope: str
    x: Array
    losses: Array
    base: Array
    measured: NDArray[np.bool_] | None = None
    smallest_effect: float = 0.01
    x_name: str = "tokens"
    unit: str = "nats"
    draw_name: str = "draws"
    look: int = 1
    labels: Mapping[str, Any] = field(default_factory=dict)
    broken_base: NDArray[np.bool_] | None = None
    same_blocks: bool = False
    blocks: Array | None = None

    @property
    def alpha(self) -> float:
        """The significance level of this look."""
        return alpha(self.look)

    @property
    def threshold_text(self) -> str:
        """The significance level for people: "interim analysis 1, alpha = 0.03"."""
        return threshold_text(self.look)

    def complete(self) -> Condition:
        """Return the measured rectangle: drop incomplete checkpoints, then draws with gaps."""
        measured = np.ones(self.losses.shape, bool) if self.measured is None else self.measured
        usable = np.isfinite(self.base).all(axis=1) & (
            measured.sum(axis=1) * 2 >= measured.sum(axis=1).max(initial=0)
        )
        usable &= measured.any(axis=1)
        full = measured[usable].all(axis=0) & usable.any()
        return replace(
            self,
            x=self.x[usable],
            losses=self.losses[usable][:, full],
            base=self.base[usable],
            blocks=None if self.blocks is None else self.blocks[usable][:, full],
            measured=None,
            broken_base=None,
        )

    @property
    def broken(self) -> list[int]:
        """Checkpoints whose unperturbed loss was measured and is not finite."""
        return [] if self.broken_base is None else np.flatnonzero(self.broken_base).tolist()

    @property
    def broken_text(self) -> str:
        """Where the unperturbed loss is not finite, a sentence; empty where it is nowhere."""
        if not self.broken:
            return ""
        places = ", ".join(self.at(index) for index in self.broken)
        return f"The unperturbed loss is not finite at {places}."

    @property
    def base_mean(self) -> Array:
        """Mean loss of the unperturbed model, [num_checkpoints]."""
        means: Array = self.base.mean(axis=1)
        return means

    @property
    def loss_increase(self) -> Array:
        """Loss after minus before, [num_checkpoints, num_draws]; non-finite where the loss is."""
        return self.losses - (self.base if self.same_blocks else self.base_mean[:, None])

    def text_half(self, index: int, of_increase: bool = False) -> float:
        """Return half of the text's 95% interval of the last loss minus that at a checkpoint.

        of_increase: of the loss increase instead. 0 where it is unknown.
        """
        if self.same_blocks or self.blocks is None or not self.knows_text:
            return 0.0
        difference = self.blocks[-1] - self.blocks[index]
        if of_increase:
            difference = difference - (self.base[-1] - self.base[index])
        return text_error.half_width(difference)

    @property
    def knows_text(self) -> bool:
        """Whether intervals have the text's error: losses in the blocks of the base are stored."""
        return self.same_blocks or (
            self.blocks is not None
            and self.blocks.shape[2] == self.base.shape[1] > 1
            and bool(np.isfinite(self.blocks).all())
        )

    @property
    def text_note(self) -> str:
        """What an interval says of the text, for the name of an effect; empty without a text."""
        if self.unit != "nats":
            return ""
        return "" if self.knows_text else f" ({text_error.ON_THIS_TEXT})"

    @property
    def ratio_note(self) -> str:
        """What a ratio's interval says of the text and its power law does not, for its test."""
        if self.same_blocks or not self.knows_text:
            return ""
        return " in the exponent, and includes that of the text in the ratio"

    def at(self, index: int) -> str:
        """Return a checkpoint for people: "1.75M tokens"."""
        value = float(self.x[index])
        if self.x_name != "tokens":
            return f"{value:g} {self.x_name}"
        return f"{tokens(value)} tokens"

    def between(self, low: int, high: int) -> str:
        """Return a 95% interval of checkpoints for people."""
        if low < high:
            return f"95% CI: {self.at(low)} to {self.at(high)}"
        return "95% CI: this checkpoint only"

    def amount(self, value: float) -> str:
        """Return a loss difference with its unit, and the change in perplexity if that is nats."""
        percent = f" ({np.expm1(min(value, 50)):+.1%} perplexity)" if self.unit == "nats" else ""
        return f"{value:+.3g} {self.unit}{percent}"


def paired(
    table: pd.DataFrame, x: str = "tokens", draw: str = "draw", value: str = "nll_mean"
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return x [num_checkpoints], values and measured [num_checkpoints, num_draws].

    Rows in state "done" are measured, inf and NaN included; all others are gaps. Rows without x are
    dropped; of rows with the same x and draw (revisions with the same tokens) the first counts.
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


def paired_blocks(table: pd.DataFrame, x: str = "tokens", draw: str = "draw") -> Array | None:
    """Return `block_loss` of the rows that `paired` takes.

    [num_checkpoints, num_draws, num_blocks], in long blocks (`statistics.long_blocks`); NaN where
    nothing is measured; None where a measured row has no blocks.
    """
    table = table[table[x].notna()].drop_duplicates([x, draw])
    done = (table["state"] == "done").to_numpy()
    found = text_error.of_rows(table["series"][done].tolist()) if "series" in table else None
    if found is None:
        return None
    places, i = np.unique(table[x].to_numpy(dtype=float), return_inverse=True)
    draws, j = np.unique(table[draw].to_numpy(dtype=float), return_inverse=True)
    blocks = np.full((len(places), len(draws), found.shape[1]), np.nan)
    blocks[i[done], j[done]] = found
    return statistics.long_blocks(blocks)


@dataclass(frozen=True)
class VerdictBuilder:
    """Build the verdicts of one claim about one condition.

    planned: the condition with its gaps; used: what is left of it, see `Condition.complete`.
    """

    planned: Condition
    used: Condition
    claim: str

    @property
    def broken_at_last(self) -> bool:
        """Some draw at the last checkpoint is not finite."""
        return self.is_broken_at(-1)

    def is_broken_at(self, index: int) -> bool:
        """Return whether some draw at a used checkpoint is not finite."""
        return bool(len(self.used.losses)) and not bool(np.isfinite(self.used.losses[index]).all())

    @property
    def base_broken_at_last(self) -> bool:
        """The unperturbed loss at the last planned checkpoint is not finite."""
        return bool(self.planned.broken) and self.planned.broken[-1] == len(self.planned.x) - 1

    def __call__(
        self,
        answer: Answer,
        reason: str,
        *,
        evidence: dict[str, Any],
        more_draws: int | None = None,
        test: str = "",
        **fields: Any,
    ) -> Verdict:
        """Return the verdict.

        more_draws: additional draws expected to resolve it, 0: too many to ask for, None: unknown;
        used only when the answer is undetermined. fields: of `Verdict`.
        """
        obstacle = broken_losses.obstacle(self.claim, self.planned, self.used)
        if obstacle:
            answer, reason = "undetermined", obstacle
        elif self.base_broken_at_last and answer != "undetermined":
            answer, reason = "undetermined", f"{reason} {NOT_TO_THE_LAST}"
        if obstacle or self.base_broken_at_last:  # of other checkpoints, or of replaced values
            fields |= dict.fromkeys(("effect", "interval", "p_value", "minimum"))
            evidence, more_draws = {}, None
        if answer == "undetermined":
            reason += self._resolution(more_draws)
        if answer != "undetermined" or self.used.same_blocks:  # or there is nothing to draw
            more_draws = None
        num_nonfinite = int((~np.isfinite(self.used.losses)).sum())
        if answer == "yes":
            reason += self._size(fields.get("effect"), fields.get("interval"))
        reason += self._caveats(0 if obstacle else num_nonfinite, self._num_unused)
        return Verdict(
            claim=self.claim,
            scope=self.planned.scope,
            answer=answer,
            sentence=reason,
            num_draws=self.used.losses.shape[1],
            draw_name=self.used.draw_name,
            labels={name: _plain(value) for name, value in self.planned.labels.items()},
            alpha=self.used.alpha,
            x=self.used.x.tolist(),
            smallest_effect=self.used.smallest_effect,
            num_nonfinite=num_nonfinite,
            num_unused=self._num_unused,
            more_draws=more_draws or None,
            evidence=evidence,
            test=f"{test}{METHOD_TEXT}" if test else "",
            method=METHOD,
            **fields,
        )

    @property
    def _num_unused(self) -> int:
        """Number of measurements left out of draws that are not complete."""
        lost = len(self.planned.broken) * self.planned.losses.shape[1]
        return max(0, int(self.planned.losses.size - self.used.losses.size - lost))

    def _size(self, effect: float | None, interval: tuple[float, float] | None) -> str:
        """Return what to say of the size of a significant effect."""
        if self.claim not in effect_sizes.CLAIMS:
            return ""
        return effect_sizes.remark(effect, interval, self.used.smallest_effect, self.used.unit)

    def _resolution(self, more_draws: int | None) -> str:
        """Return a sentence about what could resolve an undetermined answer, if that is known."""
        if self.used.same_blocks:
            return " More evaluation text could resolve it." if more_draws else ""
        draws = self.used.draw_name
        if more_draws == 0:
            return f" More {draws} are unlikely to resolve it."
        return f" About {more_draws} more {draws} could resolve it." if more_draws else ""

    def _caveats(self, num_nonfinite: int, num_unused: int) -> str:
        """Return sentences about what is not finite, replaced or left out."""
        text = ""
        if self.planned.broken:
            text = f" {self.planned.broken_text} {broken_losses.BASE_REMEDY}"
        if num_nonfinite:
            text += f" {num_nonfinite} non-finite losses count as the largest finite one."
        if num_unused:
            text += (
                f" Preliminary: {num_unused} of {self.planned.losses.size} losses are not used yet "
                "(not measured, or unpaired)."
            )
        return text

    def too_few(self, num_checkpoints: int) -> Verdict:
        """Return the verdict of a condition without enough checkpoints or draws."""
        reason = (
            f"At least {num_checkpoints} checkpoints with 2 {self.used.draw_name} each are needed."
        )
        return self("undetermined", reason, evidence={})

    def more_draws(
        self, effect: float, std: float, num_contrasts: int, num_conditions: int, least: int = 2
    ) -> int:
        """Return how many more draws would resolve an effect of the size observed at the next look.

        Either way, yes or no; 0 if more than 1,000. least: fewer draws than this cannot be
        significant, whatever the data.
        """
        level = alpha(self.used.look + 1) / num_contrasts / num_conditions
        for_yes = max(statistics.draws_needed(effect, std, level), least)
        for_no = statistics.draws_needed(self.used.smallest_effect - effect, std, 0.025)
        num = max(min(for_yes, for_no) - self.used.losses.shape[1], 1)
        return int(num) if num <= 1000 else 0


def is_sufficient(condition: Condition, num_checkpoints: int) -> bool:
    """Return whether there are enough checkpoints, and enough draws for a standard error."""
    return len(condition.losses) >= num_checkpoints and condition.losses.shape[1] >= 2


def finite_values(values: Array) -> list[float | None]:
    """Return the values for JSON: None where not finite."""
    return [finite_or_none(float(value)) for value in values]


def _plain(value: Any) -> Any:
    """Return a label for JSON: numpy scalars become Python's."""
    return value.item() if isinstance(value, np.generic) else value
