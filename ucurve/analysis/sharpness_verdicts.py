"""Verdicts of sharpness: does the trace grow, and does it explain the loss under small noise?

verdicts(table)[0].sentence
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import combined_verdicts, statistics, text_error, trends
from ucurve.analysis.conditions import METHOD, METHOD_TEXT, alpha, finite_values, threshold_text
from ucurve.analysis.sharpness import LIMIT, Curve, curves, departures
from ucurve.analysis.statistics import Array
from ucurve.formatting import compact, counted, tokens
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

DRAW_NAME = "directions"
GROWS, EXPLAINS = "sharpness grows", "curvature explains the smallest noise"
TREND_TEST = (
    f"largest p-value of Page's trend test ({DRAW_NAME} as blocks), a t-test on their rank "
    "correlations and a t-test on their slopes"
)


def verdicts(table: pd.DataFrame, look: int = 1) -> list[Verdict]:
    """Return the summaries over pre-training seeds first, then the verdicts of each."""
    by_seed = curves(table)
    families = [
        [_grows(curve, f"pre-training seed {seed}", look) for seed, curve in by_seed.items()],
        [
            _explains(curve, f"pre-training seed {seed}")
            for seed, curve in by_seed.items()
            if curve.rises
        ],
    ]
    present = [family for family in families if family]
    summaries = [combined_verdicts.over_replicates(family, "") for family in present]
    return [*summaries, *(verdict for family in present for verdict in family)]


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
    num = max(len(curve.x), 1)
    smallest = [
        departure for departure in departures(curve, 1 - 0.05 / num) if departure.sigma == sigma
    ]
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
    inside = all(departure.low > -LIMIT and departure.high < LIMIT for departure in smallest)
    outside = any(departure.low > LIMIT or departure.high < -LIMIT for departure in smallest)
    answer: Answer = "yes" if inside else "no" if outside else "undetermined"
    return Verdict(
        **common,
        answer=answer,
        sentence=f"At σ {sigma:g} the measured loss increase differs from σ²/2 · vᵀHv along the "
        f"same directions by at most {worst.value:+.2%}, after {tokens(worst.tokens)} tokens.",
        effect=worst.value,
        effect_name="largest departure from the Hessian's prediction, as a share of it",
        interval=(worst.low, worst.high),
        num_draws=min(departure.num_draws for departure in smallest),
        x=curve.x.tolist(),
        smallest_effect=LIMIT,
        test="t interval of the ratio of means over directions, Bonferroni-corrected over "
        f"{counted(num, 'checkpoint')}: yes where all lie within ±{LIMIT:.0%}",
        evidence={"departure": [departure.value for departure in smallest]},
    )
