"""What analysis hands to everyone else: verdicts with their numbers, and figures.

    Verdict(claim="catastrophic overtraining", scope="gamma 0.2", answer="yes", sentence="...")

Plain records: `ucurve.analysis` computes them, `ucurve.figures` draws them, REST sends them as is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ucurve.formatting import compact, counted, p_value
from ucurve.schemas.loss_increase_laws import LossIncreaseLaw

Answer = Literal["yes", "no", "undetermined"]


class VerdictRef(BaseModel):
    """A verdict that another one summarizes."""

    model_config = ConfigDict(frozen=True)

    scope: str = Field(description="Scope of the summarized verdict.")
    answer: Answer = Field(description="Its answer.")
    p_value: float | None = Field(None, description="Its one-sided p-value.")


class Minimum(BaseModel):
    """Where the mean loss after a modification is lowest along pre-training."""

    model_config = ConfigDict(frozen=True)

    x: float = Field(description="Checkpoint with the lowest mean loss, on the verdict's x axis.")
    low: float = Field(description="Lower end of the 95% bootstrap interval of x.")
    high: float = Field(description="Upper end of the 95% bootstrap interval of x.")
    loss: float | None = Field(None, description="Mean loss there; null when it is not finite.")
    at_first_checkpoint: bool = Field(
        False,
        description="The interval includes the first checkpoint: the minimum may lie before it.",
    )
    at_last_checkpoint: bool = Field(
        False, description="The interval includes the last checkpoint: the loss may never rise."
    )


class ConditionMinimum(BaseModel):
    """The minimum of one condition, as compared between experiments."""

    model_config = ConfigDict(frozen=True)

    change: str = Field(description='Experiment type, such as "Gaussian perturbation".')
    condition: str = Field(description='Size of the modification, such as "gamma 0.2".')
    run: str = Field(description='The pre-training run, such as "pre-training seed 0".')
    answer: Answer = Field(description="Whether the rise after the minimum is established.")
    tokens: float = Field(description="Pre-training tokens at the minimum.")
    low: float = Field(
        description="Lower end of its 95% interval; 0 when it may precede the first checkpoint."
    )
    high: float = Field(description="Upper end of its 95% interval.")
    step: float = Field(description="Largest ratio of tokens between neighbouring checkpoints.")


class Verdict(BaseModel):
    """The answer to one claim, derived from an experiment's table."""

    model_config = ConfigDict(frozen=True)

    claim: str = Field(description='The claim, such as "progressive sensitivity".')
    scope: str = Field(
        "",
        description='What the answer is about, such as "gamma 0.2 under init_std, pre-training '
        'seed 0"; empty when it is about the whole experiment.',
    )
    answer: Answer = Field(description="yes, no, or undetermined: the data does not decide yet.")
    sentence: str = Field(description="The reason for the answer, a sentence on its own.")
    effect: float | None = Field(None, description="Size of the effect, see effect_name.")
    effect_name: str = Field("", description="What the effect is, with its unit.")
    interval: tuple[float, float] | None = Field(
        None,
        description="95% confidence interval of the effect; the prediction interval of a new run "
        'where effect_name says "95% prediction interval".',
    )
    p_value: float | None = Field(
        None, description="One-sided p-value, corrected for multiple tests."
    )
    test: str = Field("", description="The statistical test and its assumptions.")
    method: int = Field(
        1,
        description="Version of the tests behind verdicts: answers on the same measurements may "
        "differ between versions of ucurve whose methods differ. 1 where none is named.",
    )
    num_draws: int | None = Field(None, description="Number of draws used.")
    draw_name: str = Field(
        "draws", description="What num_draws counts, in the plural: draws, seeds, targets."
    )
    labels: dict[str, Any] = Field(
        {}, description="Labels of the measurements of this condition; empty for summaries."
    )
    x: list[float] = Field(
        [], description="Pre-training length of the checkpoints used (tokens or features learned)."
    )
    minimum: Minimum | None = Field(
        None, description="Where the loss is lowest; inflection points only."
    )
    minima: list[ConditionMinimum] = Field(
        [], description="The minima that were compared; agreement of inflection points only."
    )
    alpha: float | None = Field(
        None, description="Significance level of this interim analysis: yes below it."
    )
    smallest_effect: float | None = Field(
        None, description="Smallest effect of interest; no when the interval excludes it."
    )
    more_draws: int | None = Field(
        None, description="Additional draws or seeds expected to resolve an undetermined answer."
    )
    num_nonfinite: int = Field(
        0, description="Losses that are not finite and count as the largest finite one."
    )
    num_unused: int = Field(0, description="Losses left out: not measured yet, or without a pair.")
    summarizes: list[VerdictRef] = Field(
        [], description="The verdicts that this one summarizes; empty for single conditions."
    )
    holds_for: list[str] = Field(
        [], description='Conditions for which a summarized claim holds, such as "gamma 0.2".'
    )
    law: LossIncreaseLaw | None = Field(
        None, description="The power law of the loss increase; the claim about it only."
    )
    evidence: dict[str, Any] = Field({}, description="Further numbers behind the answer.")
    caveats: list[str] = Field(
        [],
        description="What the weights of the measured checkpoints say against the comparison, such "
        "as two points that are one model.",
    )

    @property
    def is_summary(self) -> bool:
        """Whether this verdict summarizes others (over conditions, seeds or experiments)."""
        return bool(self.summarizes)

    @property
    def basis(self) -> str:
        """The numbers behind the answer: "rise, nats: 0.21 [0.12, 0.30] · p = 0.003 · 8 draws"."""
        parts = []
        if self.effect is not None:
            text = f"{self.effect_name or 'effect'}: {compact(self.effect, 4)}"
            if self.interval:
                text += f" [{compact(self.interval[0], 4)}, {compact(self.interval[1], 4)}]"
            parts.append(text)
        if self.p_value is not None:
            parts.append(p_value(self.p_value))
        if self.num_draws:
            parts.append(counted(self.num_draws, self.draw_name.removesuffix("s")))
        return " · ".join(parts)


@dataclass(frozen=True)
class Figure:
    """A chart whose data can be swapped in place: Vega-Lite with named datasets, and their rows.

    chart: Vega-Lite JSON in which every `data` is `{"name": ...}`; it depends on the spec only, so
        new results change `datasets` and leave the chart (its DOM node, zoom, legend) alone.
    tab, variant: where a page shows it, see `ucurve.figures.tabs`; without a tab, under its title.
    """

    title: str
    caption: str
    chart: dict[str, Any]
    datasets: dict[str, list[dict[str, Any]]]
    tab: str = ""
    variant: tuple[str, ...] = ()

    def vega_lite(self) -> dict[str, Any]:
        """Return the chart with its data inside, for files."""
        return {**self.chart, "datasets": self.datasets}
