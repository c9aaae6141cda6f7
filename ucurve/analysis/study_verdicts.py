"""What several experiments say together: their own claims side by side, growth as a ratio, and the published numbers.

Nothing is tested anew that an experiment has tested already: answers come from its verdicts, so every p value keeps its
correction and its calibration. Only inflection points are compared with each other (`ucurve.analysis.inflection_points`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ucurve.analysis import combined_verdicts, inflection_points, replication
from ucurve.analysis.conditions import Answer
from ucurve.analysis.study_experiment import Part
from ucurve.spec import Verdict

GROWTH = "growth of sensitivity"
OF_CONDITIONS = ("inflection point", GROWTH)


def verdicts(parts: Sequence[Part]) -> list[Verdict]:
    """Published numbers first, then claims side by side, inflection points, growth, and what only single experiments say."""
    return [
        *(
            verdict
            for part in parts
            for verdict in part.verdicts
            if verdict.claim == replication.CLAIM
        ),
        *side_by_side(parts),
        *inflection_points.verdicts(parts),
        *growth(parts),
        *of_runs(parts),
    ]


def general(part: Part, claim: str) -> Verdict | None:
    """The experiment's most general answer to the claim: the first of its summed-up verdicts, where it sums it up."""
    return next(
        (
            verdict
            for verdict in part.verdicts
            if verdict.claim == claim and "parts" in verdict.evidence
        ),
        None,
    )


def side_by_side(parts: Sequence[Part]) -> list[Verdict]:
    """Every claim that experiments sum up: yes or no where all say so; what only one of them says is passed on."""
    claims = dict.fromkeys(
        v.claim for part in parts for v in part.verdicts if "parts" in v.evidence
    )
    made = []
    for claim in claims:
        found = {part.name: verdict for part in parts if (verdict := general(part, claim))}
        if len(found) == 1:
            made += [verdict.model_copy(update={"scope": name}) for name, verdict in found.items()]
            continue
        answers = {verdict.answer for verdict in found.values()}
        answer: Answer = next(iter(answers)) if len(answers) == 1 else "undetermined"
        told = "; ".join(
            f"{name}: {verdict.answer}{_scope(verdict)}" for name, verdict in found.items()
        )
        made.append(
            Verdict(
                claim=claim,
                scope="all experiments",
                answer=answer,
                sentence=f"{answer}: {told}."
                + (" The experiments differ." if {"yes", "no"} <= answers else ""),
                evidence={"experiments": {name: verdict.answer for name, verdict in found.items()}},
            )
        )
    return made


def _scope(verdict: Verdict) -> str:
    return f" ({verdict.scope})" if verdict.scope else ""


def growth(parts: Sequence[Part]) -> list[Verdict]:
    """The damage at the last checkpoint over that at the first, per experiment over all its conditions."""
    made = []
    for part in parts:
        asked = [verdict for verdict in part.verdicts if verdict.claim == GROWTH]
        known = [
            (v.effect, *v.interval, v.scope)
            for v in asked
            if v.effect is not None and v.interval is not None
        ]
        if not asked:
            continue
        above = sum(low > 1 for _, low, _, _ in known)
        below = sum(high < 1 for _, _, high, _ in known)
        answer: Answer = (
            "yes"
            if known and above == len(known)
            else "no"
            if known and below == len(known)
            else "undetermined"
        )
        largest = max(known, default=(math.nan, math.nan, math.nan, ""))
        told = (
            f"{answer}: between {min(known)[0]:.3g}- and {largest[0]:.3g}-fold over {len(known)} of {len(asked)} conditions, above "
            f"1 in {above} and below in {below}; the largest is {largest[0]:.3g}-fold (95%: {largest[1]:.3g} to {largest[2]:.3g}) "
            f"at {largest[3]}."
            if known
            else "undetermined: in no condition can the damage at the first checkpoint be told from zero."
        )
        made.append(
            Verdict(
                claim=GROWTH,
                scope=part.name,
                answer=answer,
                sentence=told,
                effect=statistics.median(effect for effect, *_ in known) if known else None,
                effect_name="median ratio over conditions, last checkpoint over first; from the lowest lower to the highest upper "
                "95% limit",
                interval=(min(low for _, low, _, _ in known), max(high for _, _, high, _ in known))
                if known
                else None,
                test="all conditions must agree, so none is picked; bootstrap over draws in each",
                num_draws=min((verdict.num_draws or 0 for verdict in asked), default=None),
            )
        )
    return made


def of_runs(parts: Sequence[Part]) -> list[Verdict]:
    """Claims about whole pre-training runs (the base; what a sweep of learning rates says), over the runs."""
    summed = {
        verdict.claim for part in parts for verdict in part.verdicts if "parts" in verdict.evidence
    }
    found: dict[tuple[str, str], list[Verdict]] = {}
    for part in parts:
        for verdict in part.verdicts:
            if (
                "replicate" in verdict.scope
                and verdict.claim not in summed
                and verdict.claim not in OF_CONDITIONS
            ):
                found.setdefault((verdict.claim, part.name), []).append(verdict)
    told: dict[str, Verdict] = {}
    for (claim, name), mine in found.items():
        told.setdefault(
            claim, combined_verdicts.over_replicates(mine, name)
        )  # what several experiments say of one suite is said once
    return list(told.values())
