"""Numbers and verdicts of interventions in pre-training, paired by pre-training seed.

    branches = Branches.of(table)
    change(branches.base, "constant")               # at the largest budget, by seed
    verdicts(table, ["none", "constant"])

The table has a row per branch: labels intervention, replicate, step, tokens and budget, and once
measured nll_mean and the series noise_gamma and noise_loss_SCALE (by gamma, then by noise seed).
Pre-training seeds are the replicates. Numbers that are not measured yet, or not finite, are NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import combined_verdicts, statistics
from ucurve.analysis.statistics import Array
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
MARGIN = 0.01  # nats: the largest rise of the base that keeps it, and the smallest gain of interest
CONTROL = "none"
SCALES = ("current_std", "init_std")
SEEDS = "pre-training seeds"
KEEPS = "keeps the base"
LOWERS = "lowers the loss increase"
BENDS = "bends the U"
BOTH = "keeps the base and bends the U"
TEST = (
    "paired t-tests over pre-training seeds, noise seeds averaged within each; p-values corrected "
    "over the interventions, noise scales and gammas of the claim (Holm)"
)
Condition = tuple[str, float]  # noise scale, gamma


@dataclass(frozen=True)
class Branches:
    """Losses by intervention, [num_budgets, num_seeds], budgets ascending.

    base: unperturbed. after: mean over noise seeds, by noise scale and gamma.
    """

    seeds: Sequence[int]
    budgets: Sequence[float]
    base: Mapping[str, Array]
    after: Mapping[Condition, Mapping[str, Array]]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Branches:
        """Return the losses of a table, in part NaN while it is being measured."""
        if table.empty or "budget" not in table:
            return cls([], [], {}, {})
        seeds, budgets = sorted(set(table["replicate"])), sorted(set(table["budget"]))
        shape = (len(budgets), len(seeds))
        base: dict[str, Array] = {}
        after: dict[Condition, dict[str, Array]] = {}
        for row in table.to_dict("records"):
            name, place = (
                row["intervention"],
                (
                    budgets.index(row["budget"]),
                    seeds.index(row["replicate"]),
                ),
            )
            own = base.setdefault(name, np.full(shape, np.nan))
            if row["state"] != "done":
                continue
            own[place] = _finite(row.get("nll_mean"))
            for condition, losses in noise_losses(row["series"]).items():
                curves = after.setdefault(condition, {})
                curve = curves.setdefault(name, np.full(shape, np.nan))
                curve[place] = _finite(losses.mean())
        return cls(seeds, budgets, base, after)

    def increase(self, condition: Condition) -> dict[str, Array]:
        """Return the loss after noise minus that before, by intervention."""
        return {name: after - self.base[name] for name, after in self.after[condition].items()}


def _finite(value: Any) -> float:
    return float(value) if value is not None and np.isfinite(value) else np.nan


def noise_losses(series: Mapping[str, Sequence[float | None]]) -> dict[Condition, Array]:
    """Return the losses after noise by scale and gamma, [num_noise_seeds]."""
    gammas = series.get("noise_gamma", [])
    found: dict[Condition, Array] = {}
    for scale in SCALES:
        if losses := series.get(f"noise_loss_{scale}"):
            rows = np.array(losses, dtype=float).reshape(len(gammas), -1)
            found |= {(scale, float(g)): row for g, row in zip(gammas, rows, strict=True) if g}
    return found


def change(curves: Mapping[str, Array], name: str) -> Array:
    """Return the value at the largest budget minus that of the control, by seed, without NaN."""
    if name not in curves or CONTROL not in curves:
        return np.array([])
    differences = curves[name][-1] - curves[CONTROL][-1]
    return differences[np.isfinite(differences)]


def rises(curves: Mapping[str, Array], name: str) -> Array:
    """Return the rise from the minimum to the largest budget, by seed; NaN where not measured.

    The minimum of a seed is where the mean curve of the control over all other seeds is lowest:
    the numbers that choose it are not those that are judged. NaN with one seed or one budget.
    """
    control = curves.get(CONTROL, np.full((0, 0), np.nan))
    num_budgets, num_seeds = control.shape
    result = np.full(num_seeds, np.nan)
    if num_budgets < 2 or name not in curves:
        return result
    for seed in range(num_seeds):
        others = np.delete(control[:-1], seed, axis=1)
        others = others[:, np.isfinite(others).all(axis=0)]
        if others.shape[1]:
            minimum = int(others.mean(axis=1).argmin())
            result[seed] = curves[name][-1, seed] - curves[name][minimum, seed]
    return result


def change_of_rise(curves: Mapping[str, Array], name: str) -> Array:
    """Return the rise minus that of the control, by seed, without NaN."""
    differences = rises(curves, name) - rises(curves, CONTROL)
    return differences[np.isfinite(differences)]


def p_below(values: Array, limit: float) -> float:
    """Return the one-sided p-value of a t-test that the mean is below a limit; 1 for one value."""
    if len(values) < 2:
        return 1.0
    error = max(float(values.std(ddof=1)) / np.sqrt(len(values)), 1e-12)
    t = np.array([(limit - values.mean()) / error])
    return float(statistics.t_survival(t, len(values) - 1)[0])


# ---- verdicts


def verdicts(table: pd.DataFrame, branches: Sequence[str]) -> list[Verdict]:
    """Return the claims of every intervention: both together first, then each."""
    measured = Branches.of(table)
    names = [name for name in branches if name != CONTROL]
    if not measured.base or not names:
        return []
    keeps = _keeps(measured, names)
    bends = _by_condition(measured, names, BENDS)
    lowers = _by_condition(measured, names, LOWERS)
    summaries = [_over(bends, name) for name in names]
    together = [
        _both(name, base, bent)
        for name, base, bent in zip(names, keeps, summaries, strict=True)
        if bent is not None
    ]
    return [
        *together,
        *keeps,
        *(summary for summary in summaries if summary is not None),
        *bends,
        *(summary for name in names if (summary := _over(lowers, name)) is not None),
        *lowers,
    ]


def _title(name: str) -> str:
    text = name.replace("_", " ")
    return f"{text} (fewer tokens)" if name == "early_stop" else text


def _keeps(measured: Branches, names: Sequence[str]) -> list[Verdict]:
    """Return for every intervention whether the base stays below the margin."""
    changes = [change(measured.base, name) for name in names]
    p_values = statistics.holm([p_below(values, MARGIN) for values in changes])
    single = []
    for name, values, p in zip(names, changes, p_values, strict=True):
        mean, low, high = _interval(values)
        answer: Answer = "undetermined"
        if p < ALPHA:
            answer = "yes"
        elif low > MARGIN:
            answer = "no"
        sentence = (
            f"At the largest budget the unperturbed loss is {mean:+.4f} nats from that of the "
            f"control (95% CI: {low:+.4f} to {high:+.4f}); up to {MARGIN:+g} keeps it."
        )
        more = None
        if answer == "undetermined":
            sentence, more = _undecided(values, sentence, abs(mean - MARGIN), len(names))
        single.append(
            Verdict(
                claim=KEEPS,
                scope=_title(name),
                answer=answer,
                sentence=sentence,
                p_value=p if len(values) > 1 else None,
                test=f"{TEST}; yes: the change is below {MARGIN:g} nats",
                labels={"intervention": name},
                smallest_effect=MARGIN,
                more_draws=more,
                **_effect(values, "unperturbed loss minus that of the control, nats"),
            )
        )
    return single


def _by_condition(measured: Branches, names: Sequence[str], claim: str) -> list[Verdict]:
    """Return a verdict per intervention, noise scale and gamma on the change of a number."""
    cells = [(name, condition) for name in names for condition in sorted(measured.after)]
    values = []
    for name, condition in cells:
        if claim == BENDS:
            values.append(change_of_rise(measured.after[condition], name))
        else:
            values.append(change(measured.increase(condition), name))
    p_values = statistics.holm([p_below(differences, 0.0) for differences in values])
    has_u = _has_u(measured)
    single = []
    for (name, condition), differences, p in zip(cells, values, p_values, strict=True):
        obstacle = "" if claim == LOWERS or has_u[condition] else _no_u(measured, condition)
        single.append(_changed(claim, name, condition, differences, p, obstacle, len(cells)))
    return single


def _changed(
    claim: str,
    name: str,
    condition: Condition,
    values: Array,
    p: float,
    obstacle: str,
    num_tests: int,
) -> Verdict:
    """Return whether a number is lower than the control's under one noise scale and gamma."""
    scale, gamma = condition
    mean, low, high = _interval(values)
    what = "The rise after the minimum" if claim == BENDS else "The loss increase"
    sentence = (
        f"{what} is {mean:+.4f} nats from that of the control (95% CI: {low:+.4f} to {high:+.4f})."
    )
    answer: Answer = "undetermined"
    more = None
    if obstacle:
        sentence = obstacle
    elif p < ALPHA:
        answer = "yes"
    elif low > -MARGIN:
        answer = "no"
    else:
        sentence, more = _undecided(values, sentence, -mean, num_tests)
    of = (
        "rise of the loss after noise, minimum to largest budget"
        if claim == BENDS
        else ("loss increase at the largest budget")
    )
    return Verdict(
        claim=claim,
        scope=f"gamma {gamma:g} under {scale}, {_title(name)}",
        answer=answer,
        sentence=sentence,
        p_value=p if len(values) > 1 and not obstacle else None,
        test=TEST,
        labels={"intervention": name, "scale": scale, "gamma": gamma},
        smallest_effect=MARGIN,
        more_draws=more,
        **_effect(values, f"{of}, minus that of the control, nats"),
    )


def _has_u(measured: Branches) -> dict[Condition, bool]:
    """Return where the loss of the control after noise rises after its minimum."""
    conditions = list(measured.after)
    rising = [_known(rises(measured.after[condition], CONTROL)) for condition in conditions]
    p_values = statistics.holm([p_below(-values, 0.0) for values in rising])
    return {condition: p < ALPHA for condition, p in zip(conditions, p_values, strict=True)}


def _no_u(measured: Branches, condition: Condition) -> str:
    """Return why there is no U to bend."""
    values = _known(rises(measured.after[condition], CONTROL))
    if len(values) < 2:
        return "The rise of the control needs two budgets and two pre-training seeds."
    mean, low, high = statistics.mean_interval(values)
    return (
        f"There is no U to bend: the loss of the control rises by {mean:+.4f} nats after its "
        f"minimum (95% CI: {low:+.4f} to {high:+.4f}), which is not established."
    )


def _known(values: Array) -> Array:
    known: Array = values[np.isfinite(values)]
    return known


def _over(verdicts: Sequence[Verdict], name: str) -> Verdict | None:
    """Summarize the verdicts of an intervention over gammas, then over noise scales."""
    by_scale = {
        scale: [
            verdict
            for verdict in verdicts
            if verdict.labels["intervention"] == name and verdict.labels["scale"] == scale
        ]
        for scale in SCALES
    }
    over = {
        scale: combined_verdicts.over_conditions(group, f"{_title(name)}, {scale}")
        for scale, group in by_scale.items()
        if group
    }
    return combined_verdicts.over_conventions(over, _title(name)) if over else None


def _both(name: str, base: Verdict, bent: Verdict) -> Verdict:
    """Return whether an intervention keeps the base and bends the U."""
    answers = {base.answer, bent.answer}
    answer: Answer = "undetermined"
    if answers == {"yes"}:
        answer = "yes"
    elif "no" in answers:
        answer = "no"
    summary = combined_verdicts.over_conditions(
        [base.model_copy(update={"claim": BOTH}), bent.model_copy(update={"claim": BOTH})],
        _title(name),
    )
    sentence = (
        f"{KEEPS.capitalize()}: {base.answer}. {BENDS.capitalize()}: {bent.answer}. {base.sentence}"
    )
    return summary.model_copy(
        update={"answer": answer, "sentence": sentence, "holds_for": [], "draw_name": SEEDS}
    )


def _interval(values: Array) -> tuple[float, float, float]:
    if not len(values):
        return np.nan, -np.inf, np.inf
    return statistics.mean_interval(values)


def _effect(values: Array, name: str) -> dict[str, Any]:
    """Return the fields of a verdict that say how large the effect is."""
    mean, low, high = _interval(values)
    return {
        "effect": mean if len(values) else None,
        "effect_name": name,
        "interval": (low, high) if len(values) > 1 else None,
        "num_draws": len(values),
        "draw_name": SEEDS,
    }


def _undecided(
    values: Array, sentence: str, effect: float, num_tests: int
) -> tuple[str, int | None]:
    """Return why there is no answer yet, and how many further seeds would probably give one."""
    if len(values) < 2:
        return f"Needs more seeds: {len(values)} measured, and two are the least.", None
    needed = statistics.draws_needed(effect, float(values.std(ddof=1)), ALPHA / num_tests)
    more = max(1, needed - len(values)) if needed < 1000 else None
    return f"Needs more seeds. {sentence}", more


def plane(measured: Branches, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row per intervention, noise scale and gamma: both changes with their intervals."""
    for name in names:
        base = change(measured.base, name)
        for condition in sorted(measured.after):
            values = change(measured.increase(condition), name)
            if name == CONTROL or not len(base) or not len(values):
                continue
            x, x_low, x_high = _interval(base)
            y, low, high = _interval(values)
            wide = min(len(base), len(values)) > 1
            yield {
                "what": "mean",
                "intervention": name,
                "scale": condition[0],
                "gamma": condition[1],
                "x": x,
                "x_low": x_low if wide else None,
                "x_high": x_high if wide else None,
                "y": y,
                "low": low if wide else None,
                "high": high if wide else None,
                "num_draws": len(values),
            }
