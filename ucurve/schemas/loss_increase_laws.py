"""A power law of the loss increase, fitted to all settings of an experiment: numbers for REST.

    LossIncreaseLaw(size_name="gamma", ...)     # Verdict.law

`ucurve.analysis.loss_increase_law` computes it, `ucurve.figures.loss_increase_law` draws it.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LawNumber(BaseModel):
    """A fitted number with its 95% confidence interval."""

    model_config = ConfigDict(frozen=True)

    value: float = Field(description="Estimate.")
    low: float = Field(description="Lower end of its 95% interval over noise seeds or seeds.")
    high: float = Field(description="Upper end of its 95% interval.")


class LawPoint(BaseModel):
    """One setting at one checkpoint, measured and by the law."""

    model_config = ConfigDict(frozen=True)

    size: float = Field(description="Size of the change: gamma or learning rate.")
    tokens: float = Field(description="Pre-training length of the checkpoint.")
    increase: float = Field(description="Mean loss increase that was measured.")
    fitted: float = Field(description="Loss increase by the law.")
    ratio: float = Field(description="Measured over fitted: 1 where the law is exact.")
    low: float = Field(description="Lower end of the 95% interval of the ratio.")
    high: float = Field(description="Upper end of the 95% interval of the ratio.")
    refutes: bool = Field(
        description="The interval of the ratio, Bonferroni-corrected over all points, lies beyond "
        "the tolerance."
    )


class LawExponent(BaseModel):
    """The exponent in one factor while the other is fixed; equal everywhere under the law."""

    model_config = ConfigDict(frozen=True)

    at: float = Field(description="Value of the factor that is fixed.")
    exponent: LawNumber = Field(description="Exponent in the other factor.")


class LawOnset(BaseModel):
    """Where the loss after a change is lowest by the law: there the U begins."""

    model_config = ConfigDict(frozen=True)

    size: float = Field(description="Size of the change: gamma or learning rate.")
    tokens: float = Field(description="Tokens with the lowest loss: law plus unperturbed loss.")
    low: float = Field(description="Lower end of its 95% interval over draws and evaluation text.")
    high: float = Field(description="Upper end of its 95% interval over draws and evaluation text.")
    draws_low: float = Field(description="Lower end over draws alone, the text taken as exact.")
    draws_high: float = Field(description="Upper end over draws alone, the text taken as exact.")
    before_first: bool = Field(
        description="The interval includes the first checkpoint: the U may begin before it."
    )
    after_last: bool = Field(
        description="The interval includes the last checkpoint: there may be no U within them."
    )


class LossIncreaseLaw(BaseModel):
    """The law factor * size^a * tokens^b of the loss increase, and where it holds."""

    model_config = ConfigDict(frozen=True)

    size_name: str = Field(description='What the size is: "gamma" or "learning rate".')
    x_name: str = Field("tokens", description='"tokens", or "features" of the linear model.')
    sizes: tuple[float, float] = Field(description="Smallest and largest size that it is about.")
    holds: bool = Field(description="No point between these sizes refutes it.")
    all_sizes: bool = Field(description="These are all measured sizes.")
    factor: LawNumber = Field(description="Factor c, for size 1 and 1 token.")
    level: LawNumber = Field(description="Loss increase by the law at centre_size, centre_tokens.")
    centre_size: float = Field(description="Geometric mean of the sizes.")
    centre_tokens: float = Field(description="Geometric mean of the tokens of the checkpoints.")
    last_tokens: float = Field(description="Tokens of the last checkpoint.")
    size_exponent: LawNumber | None = Field(
        description="Exponent a of the size; null when a single size was measured."
    )
    tokens_exponent: LawNumber = Field(description="Exponent b of the tokens.")
    tolerance: float = Field(description="Factor within which a point agrees with the law.")
    typical_deviation: float = Field(
        description="Root mean square of ratio - 1 over the points it is about."
    )
    sampling_deviation: float = Field(
        description="What draws alone would give for typical_deviation if the law were exact."
    )
    lack_of_fit_p: float = Field(
        description="P-value against an exact law: t-tests per point, combined by Simes' method."
    )
    points: list[LawPoint] = Field(description="All points with finite draws, outside it too.")
    num_refuting: int = Field(description="Points that refute one law over all sizes.")
    worst: LawPoint = Field(description="The point that deviates most from one law of all sizes.")
    tokens_exponents: list[LawExponent] = Field(
        description="Exponent in tokens of each size alone."
    )
    size_exponents: list[LawExponent] = Field(
        description="Exponent in the size of each checkpoint alone."
    )
    onsets: list[LawOnset] = Field(description="Where the U begins, by size.")
    num_left_out: int = Field(
        description="Settings at checkpoints that are left out because a draw is not finite."
    )
