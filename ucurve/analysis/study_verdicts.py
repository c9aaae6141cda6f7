"""Verdicts of a study: what its experiments say together.
 Claims side by side, growth as a ratio, and the published numbers. No experiment's claim is tested
again: answers come from its verdicts, so every p-value keeps its correction and its calibration.
Only inflection points are compared with each other (`ucurve.analysis.inflection_points`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ucurve.analysis import combined_verdicts, inflection_points, replication
from ucurve.analysis.study_experiment import StudyExperiment
from ucurve.schemas.results import Answer, Verdict, VerdictRef

GROWTH = "growth of sensitivity"
OF_CONDITIONS = ("inflection point", GROWTH)


def verdicts(experiments: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return all verdicts: published numbers, claims side by side, inflection points, growth.

    Claims about single pre-training runs come last.
    """
    return [
        *(
            verdict
            for experiment in experiments
            for verdict in experiment.verdicts
            if verdict.claim == replication.CLAIM
        ),
        *side_by_side(experiments),
        *inflection_points.verdicts(experiments),
        *growth(experiments),
        *of_runs(experiments),
    ]


def most_general(experiment: StudyExperiment, claim: str) -> Verdict | None:
    """Return the experiment's most general answer to the claim: the first of its summaries."""
    summaries = (v for v in experiment.verdicts if v.claim == claim and v.is_summary)
    return next(summaries, None)


def side_by_side(experiments: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return a verdict per summarized claim: yes or no when all experiments agree.

    A claim that only one experiment makes is passed on.
    """
    claims = dict.fromkeys(
        v.claim for experiment in experiments for v in experiment.verdicts if v.is_summary
    )
    rows = []
    for claim in claims:
        by_name = {
            experiment.name: verdict
            for experiment in experiments
            if (verdict := most_general(experiment, claim))
        }
        if len(by_name) == 1:
            rows += [
                verdict.model_copy(update={"scope": name}) for name, verdict in by_name.items()
            ]
        else:
            rows.append(_side_by_side(claim, by_name))
    return rows


def _side_by_side(claim: str, by_name: dict[str, Verdict]) -> Verdict:
    answers = {verdict.answer for verdict in by_name.values()}
    answer: Answer = next(iter(answers)) if len(answers) == 1 else "undetermined"
    listed = "; ".join(
        f"{name}: {verdict.answer}{f' ({verdict.scope})' if verdict.scope else ''}"
        for name, verdict in by_name.items()
    )
    return Verdict(
        claim=claim,
        scope="all experiments",
        answer=answer,
        sentence=f"{listed}." + (" The experiments disagree." if {"yes", "no"} <= answers else ""),
        summarizes=[
            VerdictRef(scope=name, answer=verdict.answer, p_value=verdict.p_value)
            for name, verdict in by_name.items()
        ],
    )


def growth(experiments: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return, per experiment, the ratio of the last checkpoint's loss increase to the first's.

    Over all of its conditions: yes when every interval lies above 1, no when every one lies below.
    """
    rows = []
    for experiment in experiments:
        conditions = [verdict for verdict in experiment.verdicts if verdict.claim == GROWTH]
        if conditions:
            rows.append(_growth(experiment.name, conditions))
    return rows


def _growth(name: str, conditions: Sequence[Verdict]) -> Verdict:
    ratios = [
        (v.effect, *v.interval, v.scope)
        for v in conditions
        if v.effect is not None and v.interval is not None
    ]
    above = sum(low > 1 for _, low, _, _ in ratios)
    below = sum(high < 1 for _, _, high, _ in ratios)
    answer: Answer = "undetermined"
    if ratios and above == len(ratios):
        answer = "yes"
    elif ratios and below == len(ratios):
        answer = "no"
    sentence = (
        "In no condition is the loss increase at the first checkpoint significantly above zero."
    )
    if ratios:
        largest, low, high, scope = max(ratios)
        sentence = (
            f"Between {min(ratios)[0]:.3g}-fold and {largest:.3g}-fold over {len(ratios)} of "
            f"{len(conditions)} conditions, significantly above 1 in {above} and below 1 in "
            f"{below}; the largest is {largest:.3g}-fold (95% CI: {low:.3g} to {high:.3g}) for "
            f"{scope}."
        )
    return Verdict(
        claim=GROWTH,
        scope=name,
        answer=answer,
        sentence=sentence,
        effect=statistics.median(effect for effect, *_ in ratios) if ratios else None,
        effect_name="median over conditions of the ratio last over first checkpoint; range of the "
        "95% limits over conditions",
        interval=(min(low for _, low, _, _ in ratios), max(high for _, _, high, _ in ratios))
        if ratios
        else None,
        test="bootstrap over draws in each condition; all conditions must agree, so none is "
        "selected",
        num_draws=min((verdict.num_draws or 0 for verdict in conditions), default=None),
    )


def of_runs(experiments: Sequence[StudyExperiment]) -> list[Verdict]:
    """Return claims about whole pre-training runs, summarized over the runs.

    Such as the unperturbed loss, or what a sweep of learning rates says. A claim that several
    experiments make about one suite is reported once.
    """
    summarized = {
        verdict.claim
        for experiment in experiments
        for verdict in experiment.verdicts
        if verdict.is_summary
    }
    runs: dict[tuple[str, str], list[Verdict]] = {}
    for experiment in experiments:
        for verdict in experiment.verdicts:
            if (
                inflection_points.run_of(verdict)
                and verdict.claim not in summarized
                and verdict.claim not in OF_CONDITIONS
            ):
                runs.setdefault((verdict.claim, experiment.name), []).append(verdict)
    by_claim: dict[str, Verdict] = {}
    for (claim, name), group in runs.items():
        by_claim.setdefault(claim, combined_verdicts.over_replicates(group, name))
    return list(by_claim.values())
