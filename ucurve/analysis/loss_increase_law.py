"""A power law of the loss increase over all settings of one family, and where it fails.

    law_verdict(conditions, "gamma", scope)     # one Condition per gamma, of one suite and noise

loss increase = c gamma^a tokens^b under noise, c lr^a tokens^b under fine-tuning. "yes" where the
95% interval of every point's ratio to the law lies within a factor of 1.25, "no" where one, with
Bonferroni's correction over points, lies beyond it, else "undetermined". Then a law of the longest
range of neighbouring sizes that it does not fail in is fitted too. `ucurve.analysis.law_onset` says
where the U begins by that law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ucurve.analysis import combined_verdicts, law_text, power_law_surface
from ucurve.analysis.conditions import Condition
from ucurve.analysis.inflection_points import run_of
from ucurve.analysis.law_onset import onsets
from ucurve.analysis.power_law_surface import Interval, Surface, finite_cells
from ucurve.analysis.statistics import Array
from ucurve.schemas.loss_increase_laws import (
    LawExponent,
    LawNumber,
    LawOnset,
    LawPoint,
    LossIncreaseLaw,
)
from ucurve.schemas.results import Answer, Verdict

CLAIM = "loss increase follows a power law"
TOLERANCE = 1.25  # a point agrees with the law within this factor
MIN_SIZES = 3  # two sizes fit any exponent: they are no range in which it holds

TEST = (
    "weighted fit to means over draws, which all points share; yes: the 95% t interval of every "
    f"point's ratio to the law is within a factor of {TOLERANCE:g}; no: one is beyond it with "
    "Bonferroni's correction over points; excludes the sampling error of the evaluation text, but "
    "for where the U begins"
)

LawPoints = list[LawPoint]


@dataclass(frozen=True)
class LawData:
    """The settings of one family: increase [num_x, num_sizes, num_draws], base [num_x, blocks].

    num_draws counts draws that are measured everywhere; non-finite values are measured ones.
    """

    x: Array
    sizes: Array
    increase: Array
    base: Array
    num_unused: int = 0
    x_name: str = "tokens"

    def within(self, first: int, end: int) -> LawData:
        """Return the data of a range of sizes."""
        return replace(self, sizes=self.sizes[first:end], increase=self.increase[:, first:end])


def law_data(conditions: Sequence[Condition], size: str) -> LawData | None:
    """Return the measured rectangle of the conditions of one family; None without any.

    size: label with the size of the change. Checkpoints without tokens, without an unperturbed loss
    or with less than half of the family's values are dropped, then draws with gaps.
    """
    ordered = sorted(conditions, key=lambda condition: float(condition.labels[size]))
    if not ordered or len({condition.losses.shape for condition in ordered}) > 1:
        return None
    x, base = ordered[0].x, ordered[0].base
    losses = np.stack([condition.losses for condition in ordered], axis=1)
    measured = np.stack([_measured(condition) for condition in ordered], axis=1)
    counts = measured.sum(axis=(1, 2))
    usable = (x > 0) & np.isfinite(base).all(axis=1) & (counts * 2 >= counts.max(initial=1))
    full = measured[usable].all(axis=(0, 1)) & usable.any()
    increase = losses[usable][:, :, full] - base[usable].mean(axis=1)[:, None, None]
    return LawData(
        x[usable],
        np.array([float(condition.labels[size]) for condition in ordered]),
        increase,
        base[usable],
        int(losses.size - increase.size),
        ordered[0].x_name,
    )


def _measured(condition: Condition) -> NDArray[np.bool_]:
    if condition.measured is None:
        return np.ones(condition.losses.shape, dtype=bool)
    return condition.measured


def law_verdict(conditions: Sequence[Condition], size: str, size_name: str, scope: str) -> Verdict:
    """Return whether the loss increase of a family follows c size^a tokens^b, with the law."""
    data = law_data(conditions, size)
    common = {
        "claim": CLAIM,
        "scope": scope,
        "draw_name": conditions[0].draw_name if conditions else "draws",
        "labels": _shared_labels(conditions),
        "test": TEST,
    }
    obstacle, broken = _obstacle(data), conditions[0].broken_text if conditions else ""
    surface = None
    if data is not None and not obstacle:
        surface = power_law_surface.fit(data.x, data.sizes, data.increase)
        obstacle = "" if surface else "The mean loss increase is not above zero: no law fits."
    if data is None or surface is None:
        return Verdict(answer="undetermined", sentence=f"{obstacle} {broken}".strip(), **common)
    answer = _answer(surface)
    accepted, accepted_data = _longest_range(surface, data) if answer == "no" else (surface, data)
    law = _law(surface, accepted, accepted_data if accepted else data, data, size_name)
    exponent = law.tokens_exponent
    return Verdict(
        answer=answer,
        sentence=f"{law_text.sentence(answer, law)} {broken}".strip(),
        effect=exponent.value,
        effect_name=f"exponent b of {data.x_name}",
        interval=(exponent.low, exponent.high),
        num_draws=surface.num_draws,
        num_unused=data.num_unused,
        x=data.x.tolist(),
        law=law,
        **common,
    )


def over_replicates(verdicts: Sequence[Verdict], scope: str) -> Verdict:
    """Summarize the laws of several pre-training seeds, with their exponents side by side."""
    runs = [v.model_copy(update={"scope": run_of(v) or v.scope}) for v in verdicts]
    summary = combined_verdicts.over_replicates(runs, scope)
    laws = [verdict.law for verdict in verdicts if verdict.law]
    texts = [f"tokens {_listed([law.tokens_exponent for law in laws])}"]
    sizes = [law.size_exponent for law in laws if law.size_exponent]
    if sizes:
        texts.insert(0, f"{laws[0].size_name} {_listed(sizes)}")
    if not laws:
        return summary
    return summary.model_copy(
        update={"sentence": f"{summary.sentence} Exponents: {'; '.join(texts)}."}
    )


def _listed(numbers: Sequence[LawNumber]) -> str:
    return ", ".join(f"{number.value:.3g}" for number in numbers)


def _shared_labels(conditions: Sequence[Condition]) -> dict[str, Any]:
    """Return the labels that all conditions share, for JSON."""
    if not conditions:
        return {}
    first = conditions[0].labels
    shared = {
        name: value
        for name, value in first.items()
        if all(condition.labels.get(name) == value for condition in conditions)
    }
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in shared.items()
    }


def _obstacle(data: LawData | None) -> str:
    """Return why no law can be fitted; empty if one can be tried."""
    if data is None:
        return "The settings have different checkpoints or draws: no law over all of them."
    if len(data.x) < 3 or data.increase.shape[2] < 2:
        return "At least 3 checkpoints with 2 draws each are needed to tell a law from its failure."
    finite = finite_cells(data.increase)
    if (finite.any(axis=1)).sum() < 3:
        return "Losses are finite at fewer than 3 checkpoints."
    return ""


def _answer(surface: Surface) -> Answer:
    if _refuting(surface).any():
        return "no"
    low, high = surface.ratio_intervals(0.95)
    agrees = (low >= 1 / TOLERANCE) & (high <= TOLERANCE)
    return "yes" if agrees.all() else "undetermined"


def _refuting(surface: Surface) -> NDArray[np.bool_]:
    """Return which cells lie beyond the tolerance, corrected over all cells."""
    low, high = surface.ratio_intervals(1 - 0.05 / len(surface.means))
    return np.asarray((low > TOLERANCE) | (high < 1 / TOLERANCE), dtype=bool)


def _longest_range(surface: Surface, data: LawData) -> tuple[Surface | None, LawData]:
    """Return the law of the most neighbouring sizes that no point refutes; None where none holds.

    Of ranges of the same length, the one with the smallest typical deviation.
    """
    num = len(data.sizes)
    for length in range(num - 1, MIN_SIZES - 1, -1):
        holding = []
        for first in range(num - length + 1):
            part = data.within(first, first + length)
            candidate = power_law_surface.fit(part.x, part.sizes, part.increase)
            if candidate and len(candidate.sizes) == length and not _refuting(candidate).any():
                holding.append((_typical(candidate), first, candidate, part))
        if holding:
            _, _, best, part = min(holding, key=lambda item: item[:2])
            return best, part
    return None, data


def _typical(surface: Surface) -> float:
    return float(np.sqrt(np.mean(np.square(surface.ratios - 1))))


def _law(
    complete: Surface, accepted: Surface | None, part: LawData, data: LawData, size_name: str
) -> LossIncreaseLaw:
    """Return the law of the range that holds, else of all sizes, with all points against it."""
    surface = accepted or complete
    exponent = surface.x_exponent
    assert exponent is not None, "at least three checkpoints"
    finite, refuting = finite_cells(data.increase), _refuting(complete)
    return LossIncreaseLaw(
        size_name=size_name,
        x_name=data.x_name,
        sizes=(float(surface.sizes[0]), float(surface.sizes[-1])),
        holds=accepted is not None,
        all_sizes=len(surface.sizes) == len(data.sizes),
        factor=_number(surface.factor),
        level=_number(surface.level),
        centre_size=float(np.exp(np.log(surface.sizes).mean())),
        centre_tokens=float(np.exp(np.log(surface.x).mean())),
        last_tokens=float(data.x[-1]),
        size_exponent=_number(surface.size_exponent) if surface.size_exponent else None,
        tokens_exponent=_number(exponent),
        tolerance=TOLERANCE,
        typical_deviation=_typical(surface),
        sampling_deviation=float(np.sqrt(np.mean(np.square(surface.ratio_errors)))),
        lack_of_fit_p=surface.lack_of_fit_p,
        points=_points(surface, data),
        tokens_exponents=_exponents_of_tokens(data),
        size_exponents=_exponents_of_size(data),
        onsets=_onsets(surface, part) if accepted else [],
        num_left_out=int((~finite).sum()),
        num_refuting=int(refuting.sum()),
        worst=_worst(complete, refuting),
    )


def _number(interval: Interval) -> LawNumber:
    value, low, high = interval
    return LawNumber(value=value, low=low, high=min(high, float(np.finfo(float).max)))


def _worst(complete: Surface, refuting: NDArray[np.bool_]) -> LawPoint:
    """Return the point that deviates most, of those beyond the tolerance if there are any."""
    candidates = np.flatnonzero(refuting) if refuting.any() else np.arange(len(refuting))
    distance = np.abs(np.log(np.maximum(complete.ratios[candidates], 1e-300)))
    k = int(candidates[distance.argmax()])
    i, j = np.nonzero(complete.used)
    return _point_rows(complete, complete.x[i], complete.sizes[j], refuting)[k]


def _point_rows(surface: Surface, x: Array, sizes: Array, refutes: NDArray[np.bool_]) -> LawPoints:
    """Return a row per cell of the surface, at these x and sizes."""
    low, high = surface.ratio_intervals(0.95)
    columns = zip(sizes, x, surface.means, surface.fitted, surface.ratios, low, high, strict=True)
    return [
        LawPoint(
            size=float(size),
            tokens=float(at),
            increase=float(mean),
            fitted=float(fitted),
            ratio=float(ratio),
            low=float(lower),
            high=float(upper),
            refutes=bool(refuted),
        )
        for (size, at, mean, fitted, ratio, lower, upper), refuted in zip(
            columns, refutes, strict=True
        )
    ]


def _points(surface: Surface, data: LawData) -> LawPoints:
    """Return all points with finite draws against the law, beyond its range too."""
    i, j = np.nonzero(finite_cells(data.increase))
    x, sizes = data.x[i], data.sizes[j]
    everywhere = surface.extended(x, sizes, data.increase[i, j])
    return _point_rows(everywhere, x, sizes, _refuting(everywhere))


def _exponents_of_tokens(data: LawData) -> list[LawExponent]:
    """Return the exponent in tokens of every size alone."""
    result = []
    for j, size in enumerate(data.sizes):
        alone = power_law_surface.fit(data.x, data.sizes[j : j + 1], data.increase[:, j : j + 1])
        if alone and alone.x_exponent:
            result.append(LawExponent(at=float(size), exponent=_number(alone.x_exponent)))
    return result


def _exponents_of_size(data: LawData) -> list[LawExponent]:
    """Return the exponent in the size of every checkpoint alone."""
    result = []
    for i, at in enumerate(data.x):
        alone = power_law_surface.fit(data.x[i : i + 1], data.sizes, data.increase[i : i + 1])
        if alone and alone.size_exponent:
            result.append(LawExponent(at=float(at), exponent=_number(alone.size_exponent)))
    return result


def _onsets(surface: Surface, data: LawData) -> list[LawOnset]:
    """Return where the U begins for every size of the law and some in between."""
    sizes = surface.sizes
    if len(sizes) > 1:
        between = np.geomspace(sizes[0], sizes[-1], 9)
        sizes = np.unique(np.concatenate([sizes, between.clip(sizes[0], sizes[-1])]))
    return onsets(surface, sizes, data.x, data.base)
