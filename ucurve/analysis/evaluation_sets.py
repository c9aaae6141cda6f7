"""Several evaluation sets in one experiment: each judged alone, then one answer over all of them.

    verdicts(table, judge)      # judge(rows of one set, its name); of a single set: just its own

No curve, test or family mixes sets. The first verdict of a claim says on how many sets it holds:
"yes" where every set is a yes, "no" where every set is a no. A yes on all sets needs no correction
(intersection-union test: all of them must be significant); that a set is among those that are named
does, since one of several is a yes by chance more often: Holm's method over sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ucurve.analysis import combined_verdicts, effect_sizes, statistics
from ucurve.formatting import compact, counted
from ucurve.schemas.results import Answer, Verdict

if TYPE_CHECKING:
    import pandas as pd

LABEL = "evaluation"
Judge = Callable[["pd.DataFrame", str], list[Verdict]]
RULE = (
    "yes on all sets where each of them is a yes, which needs no correction (intersection-union "
    "test); the settled ones are Holm-corrected over sets: alpha is the probability that any of "
    "them is wrong; a no is not corrected over sets"
)


def tables(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of every evaluation set by name, in the order of the plan.

    Without the column that tells sets apart there is one, whose name is empty.
    """
    if LABEL not in table:
        return {"": table}
    names = dict.fromkeys(table[LABEL])
    return {name: table[table[LABEL] == name].drop(columns=LABEL) for name in names}


def verdicts(table: pd.DataFrame, judge: Judge) -> list[Verdict]:
    """Return the answers over all sets, then those of every set, claim by claim."""
    parts = tables(table)
    judged = {name: judge(rows, name) for name, rows in parts.items()}
    return combined(judged) if len(judged) > 1 else next(iter(judged.values()))


def combined(judged: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
    """Return the verdicts of several sets, with those over all sets first in every claim."""
    result: list[Verdict] = []
    for claim in dict.fromkeys(v.claim for group in judged.values() for v in group):
        about = {name: [v for v in group if v.claim == claim] for name, group in judged.items()}
        named = [of_set(verdict, name) for name, group in about.items() for verdict in group]
        result += over_all_sets(about)
        result += [verdict for verdict in named if verdict.is_summary]
        result += [verdict for verdict in named if not verdict.is_summary]
    return result


def over_all_sets(judged: Mapping[str, Sequence[Verdict]]) -> list[Verdict]:
    """Return a verdict over sets for every scope that is summarized on each of them.

    judged: the verdicts on one claim by set, summaries and single settings.
    """
    summaries = {
        name: {verdict.scope: verdict for verdict in group if verdict.is_summary}
        for name, group in judged.items()
    }
    scopes = next(iter(summaries.values()), {})
    return [
        over_sets(
            {name: group[scope] for name, group in summaries.items()},
            {name: _within(group, scope) for name, group in judged.items()},
        )
        for scope in scopes
        if all(scope in group for group in summaries.values())
    ]


def over_replicates_and_sets(
    judged: Sequence[tuple[str, Verdict]], scope: str, least: int = 1
) -> list[Verdict]:
    """Return the verdicts on one claim over pre-training seeds per set, that over sets first.

    judged: (set, verdict on one pre-training seed). least: of a single set, the pre-training seeds
    from which on there is anything to summarize.
    """
    details: dict[str, list[Verdict]] = {}
    for name, verdict in judged:
        details.setdefault(name, []).append(verdict)
    by_set = {
        name: combined_verdicts.over_replicates(group, scope) for name, group in details.items()
    }
    if len(by_set) < 2:
        return list(by_set.values()) if len(judged) >= least else []
    return [over_sets(by_set, details), *(of_set(v, name) for name, v in by_set.items())]


def of_set(verdict: Verdict, name: str) -> Verdict:
    """Return a verdict that says on which set it is."""
    scope = f"{verdict.scope}, {name}" if verdict.scope else name
    labels = verdict.labels if verdict.is_summary else {**verdict.labels, LABEL: name}
    return verdict.model_copy(update={"scope": scope, "labels": labels})


def over_sets(
    summaries: Mapping[str, Verdict], details: Mapping[str, Sequence[Verdict]] | None = None
) -> Verdict:
    """Return on how many evaluation sets a claim holds.

    summaries: one verdict on the claim per set. details: those of its settings, whose effects are
    compared.
    """
    by_answer: dict[Answer, list[str]] = {"yes": [], "no": [], "undetermined": []}
    for name, verdict in summaries.items():
        by_answer[verdict.answer].append(name)
    answer = next((a for a, names in by_answer.items() if len(names) == len(summaries)), None)
    listed = "; ".join(
        f"{answer} on {_named(names, summaries)}" for answer, names in by_answer.items() if names
    )
    num_yes = len(by_answer["yes"])
    adjusted, alpha = _adjusted(summaries)
    settled = [name for name, p in adjusted.items() if p < alpha]
    sizes = mean_effects(details) if details else ({}, 0)
    first = next(iter(summaries.values()))
    summary = combined_verdicts.summary(
        [of_set(verdict, name) for name, verdict in summaries.items()],
        ", ".join(part for part in (first.scope, f"{len(summaries)} evaluation sets") if part),
        answer or "undetermined",
        f"On {num_yes} of {counted(len(summaries), 'evaluation set')}: {listed}."
        + (" The sets disagree." if num_yes and by_answer["no"] else "")
        + _joint_text(by_answer["yes"], settled, len(summaries), alpha, bool(adjusted))
        + (_sizes_text(*sizes) if num_yes else ""),
        settled if adjusted else by_answer["yes"],
    )
    evidence: dict[str, Any] = {
        "sets": {name: verdict.answer for name, verdict in summaries.items()},
        "num_yes": num_yes,
        "num_sets": len(summaries),
        "mean_effects": sizes[0],
        "rule": RULE,
    }
    if adjusted:
        evidence |= {"settled": settled, "holm_p_values": adjusted, "alpha": alpha}
    return summary.model_copy(update={"evidence": {**summary.evidence, **evidence}})


def _named(names: Sequence[str], summaries: Mapping[str, Verdict]) -> str:
    return ", ".join(name + combined_verdicts.where(summaries[name]) for name in names)


def _adjusted(summaries: Mapping[str, Verdict]) -> tuple[dict[str, float], float]:
    """Return Holm's p-value of every set and the level; empty where a yes has no p-value.

    A set that is not a yes counts as p = 1, which only makes the others harder to settle.
    """
    levels = [v.evidence["alpha"] for v in summaries.values() if v.evidence.get("alpha")]
    p_values = [v.evidence.get("p_value") if v.answer == "yes" else 1.0 for v in summaries.values()]
    known = [p for p in p_values if p is not None]
    if len(known) < len(p_values) or not levels:
        return {}, 0.0
    return dict(zip(summaries, statistics.holm(known), strict=True)), min(levels)


def _joint_text(
    yes: Sequence[str], settled: Sequence[str], num: int, alpha: float, tested: bool
) -> str:
    """Return for which sets together a yes holds."""
    if not yes or not tested:
        return ""
    rule = f" Corrected over the {num} sets (Holm, alpha = {alpha:.2g})"
    if len(settled) == len(yes):
        return f"{rule}, yes holds for {'each of them' if len(yes) > 1 else yes[0]}."
    kept = (
        f"{len(settled)} of these {len(yes)}: {', '.join(settled)}" if settled else "none of them"
    )
    text = f"{rule}, yes holds for {kept}."
    if len(yes) == num:
        text += " That it holds on all of them needs no correction."
    return text


def mean_effects(details: Mapping[str, Sequence[Verdict]]) -> tuple[dict[str, float], int]:
    """Return the mean effect of every set over the settings that all sets have, and their number.

    Effects in the unit of the loss only. Settings are matched by their labels; none is picked, so
    that no set gains by the luck of its largest effect.
    """
    effects = {
        name: {
            repr(sorted((key, v) for key, v in verdict.labels.items() if key != LABEL)): effect
            for verdict in group
            if verdict.claim in effect_sizes.CLAIMS
            and not verdict.is_summary
            and (effect := verdict.effect) is not None
        }
        for name, group in details.items()
    }
    shared = set.intersection(*(set(group) for group in effects.values())) if effects else set()
    if not shared:
        return {}, 0
    means = {
        name: float(np.mean([group[setting] for setting in sorted(shared)]))
        for name, group in effects.items()
    }
    return means, len(shared)


def _sizes_text(means: Mapping[str, float], num: int) -> str:
    """Return which set has the smallest effect, and the effects of the others."""
    if len(means) < 2:
        return ""
    ordered = sorted(means, key=lambda name: means[name])
    others = ", ".join(f"{name} {compact(means[name])}" for name in ordered[1:])
    return (
        f" Smallest effect: {ordered[0]}, {compact(means[ordered[0]])} nats on average over the "
        f"{counted(num, 'setting')} of all sets ({others})."
    )


def _within(verdicts: Iterable[Verdict], scope: str) -> list[Verdict]:
    """Return the settings that a summary is about: "under init_std" those with that scale.

    Without a scope those of every scale that its answer needs.
    """
    value = scope.removeprefix("under ")
    return [
        verdict
        for verdict in verdicts
        if not verdict.is_summary
        and (
            value in verdict.labels.values()
            if scope
            else verdict.labels.get("scale") not in combined_verdicts.BESIDE
        )
    ]
