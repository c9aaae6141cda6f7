"""Fields of experiments with interventions: budgets, interventions, and the noise of branches.

spec = parse({"kind": "interventions", "steps": [437, 1750], "interventions": ["replay"]})
spec.branches  # ["none", "replay"]
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ucurve.experiments.noise_points import MOST_DRAWS
from ucurve.experiments.pretraining_fields import ModelFields, Seed, Step
from ucurve.spec import ADVANCED

Gamma = Annotated[float, Field(gt=0, le=100)]
Scale = Literal["current_std", "init_std"]
Intervention = Literal[
    "weight_decay",
    "constant",
    "anneal",
    "sharpness_aware",
    "weight_average",
    "replay",
    "early_stop",
]
CONTROL = "none"


class BranchFields(ModelFields):
    """Budgets, pre-training seeds, interventions, and the noise that branches are measured with."""

    steps: list[Step] = Field(
        [437, 875, 1750],
        min_length=1,
        max_length=64,
        title="Budgets",
        description="Ascending: the steps of the runs, a run of its own for each.",
    )
    seeds: list[Seed] = Field(
        [0, 1],
        min_length=1,
        max_length=16,
        description="Pre-training seeds of initial weights and order of the data: the replicates "
        "of all verdicts.",
    )
    interventions: list[Intervention] = Field(
        ["weight_decay", "constant", "sharpness_aware"],
        min_length=1,
        max_length=7,
        description="What the last part of a run does differently. The control, none, is always "
        "there. early_stop reads fewer tokens than all others.",
    )
    branch_at: float = Field(
        0.5,
        gt=0,
        lt=1,
        title="Branch at",
        description="Share of the steps of a run after which interventions apply.",
    )
    decay_factor: float = Field(
        4.0,
        ge=0,
        le=1000,
        title="Weight-decay factor",
        description="weight_decay: multiplies the weight decay.",
        json_schema_extra=ADVANCED,
    )
    rho: float = Field(
        0.05,
        gt=0,
        le=10,
        description="sharpness_aware: length of the step uphill before the gradient is taken.",
        json_schema_extra=ADVANCED,
    )
    average_decay: float = Field(
        0.99,
        gt=0,
        lt=1,
        title="Decay of the average",
        description="weight_average: share of the average that an update keeps.",
        json_schema_extra=ADVANCED,
    )
    replay_share: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Replayed share",
        description="replay: share of the rows of a batch that were read before.",
        json_schema_extra=ADVANCED,
    )
    gammas: list[Gamma] = Field(
        [0.3, 0.4, 0.5],
        min_length=1,
        max_length=16,
        description="Noise levels, as fractions of each tensor's sigma.",
    )
    draws: int = Field(
        3,
        ge=1,
        le=MOST_DRAWS,
        title="Noise seeds",
        description="Per branch and gamma. All branches of a pre-training seed share them; "
        f"pre-training seed r begins with noise seed {MOST_DRAWS} r.",
    )
    scale: Literal["both", "current_std", "init_std"] = Field(
        "both",
        title="Noise scale",
        description="Definition of sigma. current_std: standard deviation of the tensor's current "
        "weights. init_std: that at initialisation, the same for all branches.",
    )

    def branch_step(self, num_steps: int) -> int:
        """Return the number of updates after which a run of `num_steps` branches."""
        return round(self.branch_at * num_steps)

    @property
    def branches(self) -> list[str]:
        """The control, then the interventions."""
        return [CONTROL, *self.interventions]

    @property
    def scales(self) -> list[Scale]:
        """The noise scales to measure."""
        return ["current_std", "init_std"] if self.scale == "both" else [self.scale]

    def strength_of(self, intervention: str) -> float:
        """Return the number of an intervention that its branches depend on; 0 without one."""
        strengths = {
            "weight_decay": self.decay_factor,
            "sharpness_aware": self.rho,
            "weight_average": self.average_decay,
            "replay": self.replay_share,
        }
        return float(strengths.get(intervention, 0.0))
