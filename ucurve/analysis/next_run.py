"""Verdicts on the next pre-training run: pre-training seeds are the unit, not noise seeds.

    families = {"under init_std": {0: conditions, 1: conditions, 2: conditions}}   # by seed
    verdicts(families, shared=True)     # summaries first, then a verdict per setting

Single verdicts are about one run. Here every run gives one effect, and the answer is about a run
that was not made: "yes" when its effect is above zero at `Condition.alpha`, "no" when its 95%
prediction interval excludes the smallest effect of interest or the opposite is significant. With
fewer than 3 runs nothing is said. The minimum of a U is not picked from the runs that are tested:
every earlier checkpoint is a contrast with the last, combined by Simes' method, as in the verdicts
on single runs. Calibrated in `benchmarks/next_run_calibration.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ucurve.analysis import combined_verdicts, next_run_overtraining, next_run_sensitivity
from ucurve.analysis.conditions import Condition
from ucurve.analysis.next_run_verdict import labels_of, too_few, unsaid
from ucurve.analysis.runs import LEAST, aligned
from ucurve.schemas.results import Verdict

Families = Mapping[str, Mapping[int, Sequence[Condition]]]


def verdicts(families: Families, shared: bool, conventions: bool = False) -> list[Verdict]:
    """Return a summary per claim and family and the verdicts per setting.

    families: by scope, such as "under init_std", the conditions of every pre-training seed.
    conventions: the scopes are noise conventions, which get a summary of their own. Nothing for a
    single seed, whose own verdicts say so; one sentence per claim for two.
    """
    claims = {
        next_run_sensitivity.CLAIM: next_run_sensitivity.verdicts,
        next_run_overtraining.CLAIM: next_run_overtraining.verdicts,
    }
    judged: dict[str, dict[str, list[Verdict]]] = {claim: {} for claim in claims}
    most = 0
    for scope, by_seed in families.items():
        settings = [aligned(setting, shared) for setting in _settings(by_seed)]
        most = max([most, *(len(runs.by_seed) for runs in settings)])
        for claim, judge in claims.items():
            judged[claim][scope] = judge(settings)
    if most < 2:
        return []
    if most < LEAST:
        return [unsaid(claim, "", most, too_few(most)) for claim in judged]
    return [verdict for by_scope in judged.values() for verdict in _listed(by_scope, conventions)]


def _settings(by_seed: Mapping[int, Sequence[Condition]]) -> Iterable[Mapping[int, Condition]]:
    """Return every setting's condition by pre-training seed, in order of first appearance."""
    settings: dict[str, dict[int, Condition]] = {}
    for seed, conditions in by_seed.items():
        for condition in conditions:
            key = repr(sorted(labels_of(condition).items()))
            settings.setdefault(key, {})[seed] = condition
    return settings.values()


def _listed(by_scope: Mapping[str, Sequence[Verdict]], conventions: bool) -> list[Verdict]:
    """Return summaries, then single settings."""
    summaries = {
        scope: combined_verdicts.over_conditions(group, scope)
        for scope, group in by_scope.items()
        if group
    }
    first = []
    if conventions:
        names = {scope.removeprefix("under "): verdict for scope, verdict in summaries.items()}
        first = [combined_verdicts.over_conventions(names)]
    return [*first, *summaries.values(), *(v for group in by_scope.values() for v in group)]
