"""One setting in several pre-training runs: the effect of every run, and what they share.

    runs = aligned({0: condition, 1: condition, 2: condition}, shared=True)
    runs.rises()        # losses at the last checkpoint minus that at each earlier one, by run
    runs.obstacle       # why nothing can be said of them; empty where something can

Only checkpoints that all runs have are used. shared: column k of the losses is the same noise seed
(or fine-tuning seed, or block of text) in all runs, so that its error moves all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import broken_losses, text_error
from ucurve.analysis.conditions import Condition
from ucurve.analysis.prediction import Prediction, predict
from ucurve.analysis.statistics import Array

LEAST = 3  # runs: the spread between two is known so badly that no interval is of use
CLEAR = 3.0  # standard errors above zero from which a loss increase has a logarithm


@dataclass(frozen=True)
class Effects:
    """What every run says about each contrast.

    of_runs [num_contrasts, num_runs]; prediction: of a new run; text [num_contrasts]: half of the
    95% interval that the evaluation text adds, which all runs were measured on. common
    [num_contrasts]: variance of the error over draws that all runs share, with its degrees.
    """

    of_runs: Array
    prediction: Prediction
    text: Array
    common: Array
    common_degrees: int

    def largest(self) -> Prediction:
        """Return the prediction of a new run's largest contrast, for its upper end.

        Picking each run's largest overstates it, never the contrary.
        """
        return predict(self.of_runs.max(axis=0), self.common.max(), self.common_degrees)


@dataclass(frozen=True)
class Runs:
    """A setting's conditions by pre-training seed, at the checkpoints that all of them have."""

    by_seed: Mapping[int, Condition]
    shared: bool
    obstacle: str = ""

    @property
    def first(self) -> Condition:
        """The condition of the first run, for its settings."""
        return next(iter(self.by_seed.values()))

    @property
    def conditions(self) -> Sequence[Condition]:
        """The conditions, one per run."""
        return list(self.by_seed.values())

    @property
    def base(self) -> Array:
        """The unperturbed loss, [num_checkpoints, num_runs]."""
        return np.stack([condition.base_mean for condition in self.conditions], axis=1)

    def rises(self) -> Effects:
        """The loss at the last checkpoint minus that at each earlier one."""
        return self._effects(
            lambda c: c.losses[-1] - c.losses[:-1],
            lambda c, losses, _: losses[-1] - losses[:-1],
        )

    def rises_beyond_base(self) -> Effects:
        """The rises less twice those of the unperturbed loss, which explains less than half."""

        def beyond(condition: Condition) -> Array:
            base = condition.base if condition.same_blocks else condition.base_mean[:, None]
            after = condition.losses - 2 * base
            return np.asarray(after[-1] - after[:-1])

        return self._effects(
            beyond, lambda c, losses, base: losses[-1] - losses[:-1] - 2 * (base[-1] - base[:-1])
        )

    def growth(self) -> Effects:
        """The loss increase at the last checkpoint minus that at the first."""
        return self._effects(
            lambda c: (c.loss_increase[-1] - c.loss_increase[0])[None],
            lambda c, losses, base: (losses[-1] - base[-1] - losses[0] + base[0])[None],
        )

    def log_ratio(self) -> Effects | None:
        """Logarithm of the last loss increase over the first; None where one is not clearly > 0.

        Errors of draws and text are those of the logarithm to first order, since ratios of single
        draws or blocks would be biased.
        """
        if not all(_is_clear(condition) for condition in self.conditions):
            return None

        def relative(condition: Condition) -> Array:
            first, last = condition.loss_increase[0], condition.loss_increase[-1]
            log = np.log(last.mean() / first.mean())
            return np.asarray(log + last / last.mean() - first / first.mean())[None]

        def of_text(condition: Condition, losses: Array, base: Array) -> Array:
            first, last = losses[0] - base[0], losses[-1] - base[-1]
            return np.asarray(last / last.mean() - first / first.mean())[None]

        return self._effects(relative, of_text)

    @property
    def knows_text(self) -> bool:
        """Whether the text's error is in the intervals: its blocks are known for all runs."""
        return all(condition.knows_text for condition in self.conditions)

    def _effects(
        self,
        contrasts: Callable[[Condition], Array],
        of_blocks: Callable[[Condition, Array, Array], Array],
    ) -> Effects:
        """contrasts: [num_contrasts, num_draws] of a run; of_blocks: the same by block of text,
        from losses [num_checkpoints, num_blocks] after the change and before it.
        """
        by_run = [contrasts(condition) for condition in self.conditions]
        of_runs = np.stack([values.mean(axis=1) for values in by_run], axis=1)
        common, degrees = np.zeros(len(of_runs)), 1
        if self.shared:
            over_draws = np.mean(by_run, axis=0)
            degrees = over_draws.shape[1] - 1
            common = over_draws.var(axis=1, ddof=1) / over_draws.shape[1]
        text = np.zeros(len(of_runs))
        if self.knows_text and not self.first.same_blocks:
            blocks = np.stack(
                [of_blocks(c, _mean_blocks(c), c.base) for c in self.conditions]
            )  # [num_runs, num_contrasts, num_blocks]
            text = np.array(
                [text_error.half_width(blocks[:, index]) for index in range(len(of_runs))]
            )
        predicted = predict(of_runs, common, degrees)
        return Effects(of_runs, predicted, text, common, degrees)


def aligned(planned: Mapping[int, Condition], shared: bool) -> Runs:
    """Return the runs of one setting that are measured at two checkpoints or more.

    planned: the condition of every pre-training seed, with its gaps.
    """
    usable = {seed: condition.complete() for seed, condition in planned.items()}
    seeds = [seed for seed, used in usable.items() if len(used.x) >= 2 and used.losses.size]
    runs = Runs({seed: planned[seed] for seed in seeds}, shared)
    if len(seeds) < LEAST:
        return runs
    for seed in seeds:
        if text := planned[seed].broken_text:
            text = f"Pre-training seed {seed}: {text} {broken_losses.BASE_REMEDY}"
            return replace(runs, obstacle=text)
    x = sorted(set.intersection(*(set(usable[seed].x.tolist()) for seed in seeds)))
    if len(x) < 2:
        return replace(
            runs, obstacle="The pre-training seeds have fewer than two measured checkpoints alike."
        )
    places = {seed: np.flatnonzero(np.isin(planned[seed].x, x)) for seed in seeds}
    columns = {seed: _complete_columns(planned[seed], places[seed]) for seed in seeds}
    if shared:
        if len({len(column) for column in columns.values()}) > 1:
            text = f"The pre-training seeds do not have the same {planned[seeds[0]].draw_name}."
            return replace(runs, obstacle=text)
        columns = dict.fromkeys(seeds, np.all(list(columns.values()), axis=0, keepdims=True)[0])
    restricted = {seed: _restricted(planned[seed], places[seed], columns[seed]) for seed in seeds}
    return replace(runs, by_seed=restricted, obstacle=_obstacle(restricted, shared))


def _obstacle(restricted: Mapping[int, Condition], shared: bool) -> str:
    """Return what these runs lack, with the remedy; empty where they lack nothing."""
    least = 2 if shared else 1
    for seed, condition in restricted.items():
        if condition.losses.shape[1] < least:
            reason = ", since all pre-training seeds share their error" if shared else ""
            return f"At least {least} {condition.draw_name} are needed at every checkpoint{reason}."
        broken = [at for at, row in enumerate(condition.losses) if not np.isfinite(row).all()]
        if broken:
            return (
                f"Pre-training seed {seed}: {broken_losses.said(condition, broken)}. "
                f"{broken_losses.remedy(condition.labels)}"
            )
    return ""


def _complete_columns(condition: Condition, places: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which draws have no gap at these checkpoints, [num_draws]."""
    if condition.measured is None:
        return np.ones(condition.losses.shape[1], dtype=bool)
    return np.asarray(condition.measured[places].all(axis=0), dtype=bool)


def _restricted(
    condition: Condition, places: NDArray[np.intp], columns: NDArray[np.bool_]
) -> Condition:
    """Return the condition at some checkpoints, with the columns that have no gap there."""
    return replace(
        condition,
        x=condition.x[places],
        losses=condition.losses[places][:, columns],
        base=condition.base[places],
        blocks=None if condition.blocks is None else condition.blocks[places][:, columns],
        measured=None,
        broken_base=None,
    )


def _mean_blocks(condition: Condition) -> Array:
    """Return the loss after the modification by block of text, the mean over draws."""
    assert condition.blocks is not None, "only of a condition that knows the text's error"
    return np.asarray(condition.blocks.mean(axis=1))


def _is_clear(condition: Condition) -> bool:
    """Return whether first and last loss increase are clearly above zero over the draws."""
    ends = condition.loss_increase[[0, -1]]
    if ends.shape[1] < 2:
        return False
    error = ends.std(axis=1, ddof=1) / np.sqrt(ends.shape[1])
    return bool((ends.mean(axis=1) > CLEAR * error).all())
