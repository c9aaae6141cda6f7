"""Verdicts of sharpness: does the trace grow, and does it explain the loss under small noise?

The second along the directions of the trace themselves, and for measured Gaussian noise of the
smallest gamma under each noise scale.

verdicts(table)[0].sentence
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import combined_verdicts, statistics, text_error, trends
from ucurve.analysis.conditions import METHOD, METHOD_TEXT, alpha, finite_values, threshold_text
from ucurve.analysis.sharpness import LIMIT, Curve, Departure, curves, departures
from ucurve.analysis.sharpness_noise import SCALES, NoiseCost, estimates, noise_costs
from ucurve.analysis.statistics import Array
from ucurve.formatting import compact, counted, tokens
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

DRAW_NAME = "directions"
GROWS, EXPLAINS = "sharpness grows", "curvature explains the smallest noise"
PREDICTS = "curvature predicts the cost of noise"  # its own: absolute numbers, two conventions
TREND_TEST = (
    f"largest p-value of Page's trend test ({DRAW_NAME} as blocks), a t-test on their rank "
    "correlations and a t-test on their slopes"
)


def verdicts(table: pd.DataFrame, look: int = 1, gammas: Sequence[float] = ()) -> list[Verdict]:
    """Return the summaries over pre-training seeds first, then the verdicts of each.

    gammas: of the noise measured beside the curvature.
    """
    by_seed = curves(table)
    families = [
        [_grows(curve, f"pre-training seed {seed}", look) for seed, curve in by_seed.items()],
        [
            _explains(curve, f"pre-training seed {seed}")
            for seed, curve in by_seed.items()
            if curve.rises
        ],
    ]
    scopes = ["", ""]
    costs = noise_costs(estimates(table, gammas)) if gammas else []
    for scale in SCALES:
        families.append([_predicts(cost) for cost in costs if cost.scale == scale])
        scopes.append(f"under {scale}")
    present = [(family, scope) for family, scope in zip(families, scopes, strict=True) if family]
    summaries = [combined_verdicts.over_replicates(family, scope) for family, scope in present]
    return [*summaries, *(verdict for family, _ in present for verdict in family)]


def _grows(curve: Curve, scope: str, look: int) -> Verdict:
    """Test whether the trace grows over checkpoints, along the same directions."""
    x, forms = _complete(curve)
    common: dict[str, Any] = {"claim": GROWS, "scope": scope, "draw_name": DRAW_NAME}
    common |= {"num_draws": forms.shape[1], "x": x.tolist(), "alpha": alpha(look)}
    if obstacle := _obstacle(x, forms):
        num_nonfinite = int((~np.isfinite(forms)).sum())
        return Verdict(
            **common, answer="undetermined", sentence=obstacle, num_nonfinite=num_nonfinite
        )
    trend = trends.trend(forms)
    growth, low, high = statistics.mean_interval(forms[-1] - forms[0])
    blocks = _complete_blocks(curve)
    if blocks is not None:
        half = text_error.half_width(blocks[-1] - blocks[0])
        low, high = text_error.widened((low, high), growth, half)
    falls = trend.p_falling < alpha(look) and growth < 0
    answer: Answer = "undetermined"
    if trend.p_rising < alpha(look) and growth > 0:
        answer = "yes"
    elif falls or high < 0:
        answer = "no"
    means = forms.mean(axis=1)
    first, last = (compact(float(f"{means[index]:.3g}")) for index in (0, -1))
    return Verdict(
        **common,
        answer=answer,
        sentence=f"The trace of the Hessian goes from {first} to {last} between "
        f"{tokens(x[0])} and {tokens(x[-1])} tokens; it grows at "
        f"{int((np.diff(means) > 0).sum())} of {counted(len(x) - 1, 'step')}.",
        effect=growth,
        effect_name="growth of the trace from the first to the last checkpoint"
        + (f" ({text_error.ON_THIS_TEXT})" if blocks is None else ""),
        interval=(low, high),
        p_value=trend.p_falling if falls else trend.p_rising,
        test=f"{TREND_TEST} (one-sided, {threshold_text(look)}); "
        f"no also where the interval of the growth lies below 0{METHOD_TEXT}",
        method=METHOD,
        evidence={"trace": finite_values(means), "rank_correlation": trend.correlation},
        num_unused=int(curve.forms.size - forms.size),
    )


def _obstacle(x: Array, forms: Array) -> str:
    """Return why the growth of a trace cannot be tested, or ""."""
    if len(x) < 3 or forms.shape[1] < 2:
        return f"At least 3 checkpoints with 2 {DRAW_NAME} each are needed."
    if np.isfinite(forms).all():
        return ""
    broken = [tokens(at) for at, row in zip(x, forms, strict=True) if not np.isfinite(row).all()]
    return (
        f"The Hessian is not finite after {', '.join(broken)} tokens, and cannot be compared with "
        "the others. Leave out these checkpoints."
    )


def _complete_blocks(curve: Curve) -> Array | None:
    """Return the blocks of the checkpoints and directions of `_complete`."""
    if curve.blocks is None:
        return None
    num = curve.measured.sum(axis=1)
    used = (num > 0) & (num * 2 >= num.max(initial=0))
    blocks: Array = curve.blocks[used][:, curve.measured[used].all(axis=0)]
    return blocks


def _complete(curve: Curve) -> tuple[Array, Array]:
    """Return tokens and forms of checkpoints with most directions, and of the directions of all."""
    num = curve.measured.sum(axis=1)
    used = (num > 0) & (num * 2 >= num.max(initial=0))
    full = curve.measured[used].all(axis=0) & used.any()
    return curve.x[used], curve.forms[used][:, full]


def _explains(curve: Curve, scope: str) -> Verdict:
    """Test whether the rise under the smallest sigma is that of the Hessian, to within LIMIT."""
    sigma = min(curve.rises)
    smallest = _smallest(curve)
    common: dict[str, Any] = {"claim": EXPLAINS, "scope": scope, "draw_name": DRAW_NAME}
    num_missing = len(curve.x) - len(smallest)
    if num_missing:
        return Verdict(
            **common,
            answer="undetermined",
            sentence=f"{num_missing} of {counted(len(curve.x), 'checkpoint')} lack "
            f"2 finite {DRAW_NAME} with σ {sigma:g} and a positive trace.",
        )
    worst = max(smallest, key=lambda departure: abs(departure.value))
    return Verdict(
        **common,
        **_within(curve, smallest, DRAW_NAME),
        sentence=f"At σ {sigma:g} the measured loss increase differs from σ²/2 · vᵀHv along the "
        f"same directions by at most {worst.value:+.2%}, after {tokens(worst.tokens)} tokens.",
        evidence={"departure": [departure.value for departure in smallest]},
    )


def _predicts(cost: NoiseCost) -> Verdict:
    """Test whether the smallest measured noise costs what the Hessian says, to within LIMIT."""
    curve, gamma = cost.curve, min(cost.curve.rises)
    common: dict[str, Any] = {
        "claim": PREDICTS,
        "scope": f"γ {gamma:g} under {cost.scale}, pre-training seed {cost.replicate}",
        "draw_name": "noise seeds",
        "labels": {"replicate": cost.replicate, "scale": cost.scale, "gamma": gamma},
    }
    smallest = _smallest(curve)
    num_missing = len(curve.x) - len(smallest)
    if cost.problem or num_missing:
        sentence = f"{cost.problem[:1].upper()}{cost.problem[1:]}."
        if not cost.problem:
            sentence = (
                f"{num_missing} of {counted(len(curve.x), 'checkpoint')} lack 2 noise seeds with "
                f"finite losses under γ {gamma:g} and a positive prediction."
            )
        return Verdict(**common, answer="undetermined", sentence=sentence)
    worst = max(smallest, key=lambda departure: abs(departure.value))
    predicted, measured = _means(curve, gamma)
    here = int(np.flatnonzero(curve.x == worst.tokens)[0])
    difference, low, high = statistics.mean_interval(_differences(curve, gamma)[here])
    return Verdict(
        **common,
        **_within(curve, smallest, "noise seeds"),
        sentence=f"Over γ²/2, noise of γ {gamma:g} costs {measured[here]:.3g} nats after "
        f"{tokens(worst.tokens)} tokens, where the Hessian predicts {predicted[here]:.3g}: a "
        f"difference of {difference:+.2g} ({low:+.2g} to {high:+.2g}) or {worst.value:+.0%}, the "
        f"largest share of {counted(len(curve.x), 'checkpoint')}.",
        evidence={
            "predicted": predicted,
            "measured": measured,
            "departure": [departure.value for departure in smallest],
        },
    )


def _smallest(curve: Curve) -> list[Departure]:
    """Return the departures under the smallest change, Bonferroni-corrected over checkpoints."""
    corrected = departures(curve, 1 - 0.05 / max(len(curve.x), 1))
    return [departure for departure in corrected if departure.sigma == min(curve.rises)]


def _within(curve: Curve, smallest: Sequence[Departure], draw_name: str) -> dict[str, Any]:
    """Return the answer, whether all departures are within LIMIT, and its numbers."""
    worst = max(smallest, key=lambda departure: abs(departure.value))
    inside = all(departure.low > -LIMIT and departure.high < LIMIT for departure in smallest)
    outside = any(departure.low > LIMIT or departure.high < -LIMIT for departure in smallest)
    answer: Answer = "yes" if inside else "no" if outside else "undetermined"
    return {
        "answer": answer,
        "effect": worst.value,
        "effect_name": "largest departure from the Hessian's prediction, as a share of it",
        "interval": (worst.low, worst.high),
        "num_draws": min(departure.num_draws for departure in smallest),
        "x": curve.x.tolist(),
        "smallest_effect": LIMIT,
        "test": f"t interval of the ratio of means over {draw_name}, Bonferroni-corrected over "
        f"{counted(max(len(curve.x), 1), 'checkpoint')}: yes where all lie within ±{LIMIT:.0%}",
    }


def _differences(curve: Curve, gamma: float) -> list[Array]:
    """Return measured minus predicted cost over gamma^2 / 2 of the usable draws, by checkpoint."""
    rows = curve.rises[gamma] * 2 / gamma**2 - curve.forms
    return [row[np.isfinite(row)] for row in rows]


def _means(curve: Curve, gamma: float) -> tuple[list[float], list[float]]:
    """Return predicted and measured cost over gamma^2 / 2 of every checkpoint, of draws of both."""
    usable = np.isfinite(curve.rises[gamma]) & np.isfinite(curve.forms)
    pairs = (curve.forms, curve.rises[gamma] * 2 / gamma**2)
    predicted, measured = (
        [float(row[used].mean()) for row, used in zip(values, usable, strict=True)]
        for values in pairs
    )
    return predicted, measured
