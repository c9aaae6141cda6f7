"""Two-layer linear model (experiment IV, figures 6 to 8): simulation and closed form.

    {"kind": "linear_model", "num_features": 32, "fixed_gammas": [0.08], "draws": 40}

The model learns 32 features one after another. Every snapshot is perturbed with fixed and with
relative noise, and fine-tuned on a misaligned target; the default spec has 330 points and takes
2 s on one core. With gamma 0.08, the loss after fixed noise is lowest at 10 learned features, as
the closed form predicts: k* = #{i : s_i > (p + n) gamma^2}.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ucurve.spec import (
    ADVANCED,
    Catalogue,
    Context,
    Figure,
    Looks,
    Point,
    Result,
    Spec,
    TableRoles,
    Verdict,
    canonical,
)

if TYPE_CHECKING:
    import pandas as pd

    from ucurve.modeling.linear_network import Network, Teacher

Gamma = Annotated[float, Field(gt=0, le=10)]
DRAWS, TARGETS = 40, 8  # maximum per point


class LinearModel(Spec):
    """Does a model that has learned more features suffer more from the same change?

    Two linear layers, where the answer is known: gradient flow learns the features of a target one
    after another; each snapshot gets Gaussian noise, or is fine-tuned on a misaligned target. Loss
    is 1/2 E|W1 W2 x - A x|^2 with x ~ N(0, I).
    """

    kind: Literal["linear_model"] = "linear_model"
    title: ClassVar[str] = "Two-layer linear model"
    order: ClassVar[int] = 3
    name_template: ClassVar[str] = "{title}, {num_features} features"
    repeat_fields: ClassVar[tuple[str, ...]] = ("draws", "targets")
    columns: ClassVar[TableRoles] = TableRoles(
        x="features",
        treatment=("gamma", "l2_sp", "scale", "part"),
        metrics={"mse_mean": "loss", "tuning_loss_mean": "loss on the new target"},
        seed_field="seed",
        series={"mse_mean": "draws"},
        fields=("fixed_gammas", "relative_gammas", "l2_sp", "looks"),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "exact k-feature states": {"snapshots": "ideal", "draws": 200},
        "a quick look": {
            "width": 16,
            "num_features": 16,
            "draws": 10,
            "fixed_gammas": [0.08, 0.12],
        },
    }

    width: int = Field(
        32, ge=2, le=64, title="Width", description="Inputs, outputs and hidden units: p = n = h."
    )
    num_features: int = Field(
        32, ge=2, le=64, title="Features", description="Rank of the target, at most the width."
    )
    strongest: float = Field(
        1.0,
        gt=0,
        le=10,
        title="Largest singular value",
        description="Of the target.",
        json_schema_extra=ADVANCED,
    )
    weakest: float = Field(
        0.05,
        gt=0,
        le=10,
        title="Smallest singular value",
        description="Of the target; the values between are geometric.",
        json_schema_extra=ADVANCED,
    )
    snapshots: Literal["flow", "ideal"] = Field(
        "flow",
        title="Networks",
        description="flow: snapshots of gradient flow from small random weights, each partly "
        "through its next feature. ideal: exact states with k features learned, to which the "
        "closed form applies.",
        json_schema_extra=ADVANCED,
    )
    fixed_gammas: list[Gamma] = Field(
        [0.04, 0.05, 0.06, 0.08, 0.1],
        max_length=12,
        title="Fixed noise",
        description="Standard deviations of noise that is the same for all snapshots. Empty: none.",
    )
    relative_gammas: list[Gamma] = Field(
        [0.3, 0.5, 0.8],
        max_length=12,
        title="Relative noise",
        description="Standard deviations relative to the root mean square of the layer. "
        "Empty: none.",
    )
    draws: int = Field(
        40,
        ge=2,
        le=1000,
        title="Noise seeds",
        description="The same for every snapshot and gamma.",
    )
    l2_sp: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        [0.0, 1.0],
        max_length=6,
        title="L2-SP",
        description="Strengths of the penalty towards the pre-trained weights, one fine-tuning "
        "each; 0 for plain fine-tuning. Empty: no fine-tuning.",
    )
    targets: int = Field(
        8,
        ge=2,
        le=200,
        description="Fine-tuning targets: same spectrum, random singular vectors.",
        json_schema_extra=ADVANCED,
    )
    learning_rate: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Of fine-tuning by plain gradient descent.",
        json_schema_extra=ADVANCED,
    )
    steps: int = Field(
        40, ge=1, le=2000, description="Fine-tuning steps.", json_schema_extra=ADVANCED
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31,
        description="Of target, initial weights, noise and fine-tuning targets.",
        json_schema_extra=ADVANCED,
    )
    looks: Looks = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_features > self.width:
            raise ValueError(
                "num_features cannot be larger than width: a width x width target has no "
                "higher rank"
            )
        if not 0.01 * self.strongest <= self.weakest <= self.strongest:
            raise ValueError(
                "weakest must lie between strongest / 100 and strongest, or the flow takes too long"
            )
        if not (self.fixed_gammas or self.relative_gammas or self.l2_sp):
            raise ValueError("nothing to measure: give fixed_gammas, relative_gammas or l2_sp")
        return self

    # ---- plan

    def plan(self, catalogue: Catalogue) -> Iterator[Point]:
        """Yield every change at every snapshot; end points first, then by bisection."""
        network = {
            "protocol": f"linear_{self.snapshots}/1",
            "width": self.width,
            "num_features": self.num_features,
            "strongest": self.strongest,
            "weakest": self.weakest,
            "seed": self.seed,
        }
        group = canonical(network)
        for stage, learned in bisection(self.num_features):
            for labels, change in self._changes():
                for first, block in self._blocks(change):
                    yield Point(
                        inputs={"network": {**network, "learned": learned}, "change": block},
                        labels={
                            "features": learned,
                            **labels,
                            **({"draw": first} if first else {}),
                        },
                        affinity=group,
                        priority_stage=stage,
                        estimated_seconds=0.02,
                    )

    def count(self, catalogue: Catalogue) -> int:
        """Return the number of points: a block of draws or targets per snapshot and change."""
        num_noises = len(set(self.fixed_gammas)) + len(set(self.relative_gammas))
        num_blocks = num_noises * math.ceil(self.draws / DRAWS)
        num_blocks += len(set(self.l2_sp)) * math.ceil(self.targets / TARGETS)
        return (self.num_features + 1) * num_blocks

    def _blocks(self, change: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (first draw or target, inputs) of each point of a change.

        Blocks have a fixed size, so that more draws add points and keep the measured ones.
        """
        name, most = ("draws", DRAWS) if "draws" in change else ("targets", TARGETS)
        for first in range(0, change[name], most):
            yield (
                first,
                {
                    **change,
                    name: min(most, change[name] - first),
                    **({"first": first} if first else {}),
                },
            )

    def _changes(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield (labels, inputs) of every change of a snapshot."""
        for scale, gammas in (("fixed", self.fixed_gammas), ("relative", self.relative_gammas)):
            for gamma in dict.fromkeys(gammas):
                change = {"protocol": "linear_noise/1", "scale": scale, "gamma": gamma}
                yield (
                    {"part": "noise", "scale": scale, "gamma": gamma},
                    {**change, "draws": self.draws, "seed": self.seed},
                )
        for l2_sp in dict.fromkeys(self.l2_sp):
            change = {
                "protocol": "linear_fine_tuning/1",
                "learning_rate": self.learning_rate,
                "steps": self.steps,
            }
            yield (
                {"part": "fine-tuning", "l2_sp": l2_sp},
                {**change, "l2_sp": l2_sp, "targets": self.targets, "seed": self.seed},
            )

    # ---- run

    @staticmethod
    def run(point: Point, context: Context) -> Result:
        """Measure the mean loss over draws, the loss before the change, and the closed form."""
        from ucurve.modeling import linear_network as linear

        network, change = point.inputs["network"], point.inputs["change"]
        learned, first = network["learned"], change.get("first", 0)
        key = canonical({**network, "learned": None})
        problem, saved = context.cached(key, lambda: _networks(network))
        before = saved[learned]
        metrics = {
            "base_mse": float(linear.loss(before, problem.target)),
            "base_ideal": linear.ideal_noisy_loss(
                problem.s, learned, 0.0, "fixed", network["width"]
            ),
        }
        series: dict[str, list[float]] = {}
        if change["protocol"] == "linear_noise/1":
            noise = linear.fixed_noise if change["scale"] == "fixed" else linear.relative_noise
            stds = noise(before, change["gamma"])
            after = linear.noisy(before, stds, change["seed"], change["draws"], first)
            metrics["closed_form"] = linear.expected_noisy_loss(before, problem.target, stds)
            ideal = linear.ideal_noisy_loss(
                problem.s, learned, change["gamma"], change["scale"], network["width"]
            )
            metrics["closed_form_ideal"] = ideal
        else:
            targets = linear.misaligned(problem, change["seed"], change["targets"], first)
            after = linear.fine_tuned(
                before, targets, change["learning_rate"], change["steps"], change["l2_sp"]
            )
            series["tuning_loss"] = linear.loss(after, targets).tolist()
            metrics["tuning_loss_mean"] = math.fsum(series["tuning_loss"]) / len(targets)
        losses = linear.loss(after, problem.target)
        series["draws"] = losses.tolist()
        metrics["mse_mean"] = float(losses.mean())
        if len(losses) > 1:
            metrics["mse_se"] = float(losses.std(ddof=1) / math.sqrt(len(losses)))
        context.progress(1, 1)
        return Result(metrics=metrics, series=series)

    # ---- figures and verdicts

    def figures(self, table: pd.DataFrame, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
        """Return figures 6 to 8, with the closed form for the weights of the snapshots."""
        from ucurve.figures import linear_model

        design = linear_model.Design(
            {"fixed": self.fixed_gammas, "relative": self.relative_gammas},
            self.l2_sp,
            self.draws,
            self.targets,
        )
        return linear_model.figures(table, verdicts, design)

    def verdicts(self, table: pd.DataFrame) -> list[Verdict]:
        """Return the verdicts of a suite, and whether the simulation matches the closed form."""
        from ucurve.analysis import linear_model

        return linear_model.verdicts(table, [labels for labels, _ in self._changes()], self.looks)


def _networks(network: dict[str, Any]) -> tuple[Teacher, list[Network]]:
    """Return the target and the networks with 0, 1, ..., r learned features."""
    from ucurve.modeling import linear_network as linear

    names = ("width", "num_features", "strongest", "weakest", "seed")
    problem = linear.teacher(**{name: network[name] for name in names})
    if network["protocol"] == "linear_ideal/1":
        return problem, [linear.learned(problem, k) for k in range(network["num_features"] + 1)]
    return problem, linear.snapshots(problem, network["seed"])


def bisection(last: int) -> Iterator[tuple[int, int]]:
    """Yield (stage, k) for k in 0..last: end points, then halves, quarters and so on.

    The order makes a curve readable early.
    """
    yield from ((0, 0), (0, last))
    gaps, stage = [(0, last)], 0
    while gaps := [gap for gap in gaps if gap[1] - gap[0] > 1]:
        stage += 1
        middles = [(low, (low + high) // 2, high) for low, high in gaps]
        yield from ((stage, middle) for _, middle, _ in middles)
        gaps = [gap for low, middle, high in middles for gap in ((low, middle), (middle, high))]
