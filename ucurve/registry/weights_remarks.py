"""Compare the weights of a suite's revisions: which are one model, in part or in whole.

    weights_remarks(suite.checkpoints, {checkpoint.weights_sha256: WeightsContent(...), ...})

Names promise one training run, in order. Public suites break the promise: two revisions with the
same weights, a checkpoint with a shard of another one, a `main` that is not the last step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from ucurve.registry.averages import averaged_steps
from ucurve.registry.suites import (
    Checkpoint,
    Remark,
    enumerated,
    is_initial,
    sort_checkpoints,
)
from ucurve.registry.tensors.initialisation import why_not_initial
from ucurve.registry.tensors.tensor_matches import Matches, matches_of
from ucurve.registry.tensors.weights_content import WeightsContent

Contents = Mapping[str, WeightsContent]  # by the SHA-256 of the weights
MAINS = ("main", "master")
MAX_PAIRS = 10  # remarks about pairs that share tensors; more are counted
CHECK = "check where the files come from, and register the suite again"
USED_INSTEAD = (
    "scale init_std takes sigma from the initialiser of the config instead; to use a step 0, put "
    "the weights before the first step there and register the suite again"
)


def weights_remarks(checkpoints: Iterable[Checkpoint], contents: Contents) -> list[Remark]:
    """Return what the weights say about a suite's revisions, as far as contents are known."""
    hashed = [c for c in sort_checkpoints(checkpoints) if c.weights_sha256]
    by_revision = {
        c.revision: contents[c.weights_sha256]
        for c in hashed
        if c.weights_sha256 and c.weights_sha256 in contents
    }
    matches = matches_of(by_revision)
    groups = _groups(hashed, matches)
    return [
        *_same_weights(groups, matches),
        *_shared_tensors(groups, matches),
        *_branches(hashed, groups, by_revision),
        *_initialisations(hashed, groups, by_revision, matches),
    ]


def _groups(checkpoints: Sequence[Checkpoint], matches: Matches) -> list[list[Checkpoint]]:
    """Return the checkpoints by weights: one list for each model, in order of pre-training."""
    groups: list[list[Checkpoint]] = []
    for checkpoint in checkpoints:
        for group in groups:
            if any(_is_same(checkpoint, other, matches) for other in group):
                group.append(checkpoint)
                break
        else:
            groups.append([checkpoint])
    return groups


def _is_same(first: Checkpoint, other: Checkpoint, matches: Matches) -> bool:
    if first.weights_sha256 == other.weights_sha256:
        return True
    return matches.likeness(first.revision, other.revision) is not None


def _same_weights(groups: Sequence[Sequence[Checkpoint]], matches: Matches) -> list[Remark]:
    remarks = []
    for group in groups:
        placed = _one_per_position(group)
        if len(placed) < 2:
            continue
        names = [checkpoint.revision for checkpoint in placed]
        if all(map(is_initial, placed)):
            message = f"{enumerated(names)} have identical weights: these runs start alike."
        else:
            message = (
                f"{enumerated(names)} have identical weights{_how(placed, matches)}: not all of "
                f"them are what their names say; {CHECK}."
            )
        remarks.append(Remark(kind="same_weights", revisions=names, message=message))
    return remarks


def _one_per_position(group: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Leave out other names of one checkpoint, and branches beside checkpoints with a place."""
    placed = [c for c in group if c.step is not None or c.tokens is not None]
    starts = [c for c in placed if c.training_phase is not None and not c.step]
    if len(placed) > len(starts):  # a later phase starts from weights of an earlier one
        placed = [c for c in placed if c not in starts]
    if not placed:
        return [c for c in group if c.revision not in MAINS]
    return list({(c.replicate, c.training_phase, c.tokens, c.step): c for c in placed}.values())


def _how(group: Sequence[Checkpoint], matches: Matches) -> str:
    """Return in what the files of equal weights differ."""
    pairs = [p for p in combinations(group, 2) if p[0].weights_sha256 != p[1].weights_sha256]
    if not pairs:
        return ""
    rounded = any(matches.likeness(a.revision, b.revision) == "rounded" for a, b in pairs)
    return " once rounded to 16 bits" if rounded else " in different files"


def _shared_tensors(groups: Sequence[Sequence[Checkpoint]], matches: Matches) -> list[Remark]:
    """Return remarks about pairs that are partly the same, and about what never changes."""
    names = [group[0].revision for group in groups]
    remarks, frozen = [], matches.in_all(names) if len(names) > 2 else 0
    if frozen:
        total = matches.num_tensors(names[0])
        message = (
            f"{frozen} of {total} tensors are the same in all {len(names)} different revisions: "
            "they were not trained."
        )
        remarks.append(Remark(kind="shared_tensors", revisions=names, message=message))
    pairs = {
        pair: shared[0] - frozen
        for pair in combinations(names, 2)
        if (shared := matches.shared(*pair))[0] > frozen
    }
    best = [pair for pair in pairs if _is_best(pair, pairs)]
    for first, other in best[:MAX_PAIRS]:
        _, total, noun = matches.shared(first, other)
        more = f"; {len(best) - MAX_PAIRS} more pairs do" if len(best) > MAX_PAIRS else ""
        message = (
            f"{first} shares {pairs[first, other]} of {total - frozen} {noun} with {other}{more}: "
            f"a part of one may have been saved over the other; {CHECK}."
        )
        remarks.append(Remark(kind="shared_tensors", revisions=[first, other], message=message))
    return remarks


def _is_best(pair: tuple[str, str], pairs: Mapping[tuple[str, str], int]) -> bool:
    """Whether neither of both shares more with another one."""
    return all(
        num <= pairs[pair] for other, num in pairs.items() if pair[0] in other or pair[1] in other
    )


def _branches(
    checkpoints: Sequence[Checkpoint],
    groups: Sequence[Sequence[Checkpoint]],
    by_revision: Mapping[str, WeightsContent],
) -> list[Remark]:
    """Return a remark about a `main` that is not the last step."""
    remarks = []
    steps = [c for c in checkpoints if c.step is not None or c.tokens is not None]
    for main in checkpoints:
        if main.revision not in MAINS or main in steps or not steps:
            continue
        group = next(group for group in groups if main in group)
        equal = [c for c in group if c in steps]
        lasts = list({(c.replicate, c.training_phase): c for c in steps}.values())
        if equal and not any(c in lasts for c in equal):
            message = (
                f"{main.revision} has the weights of {equal[-1].revision}, not of the last step, "
                f"{lasts[0].revision}."
            )
            names = [main.revision, equal[-1].revision]
        elif not equal and _all_compared([main, *steps], by_revision):
            average = averaged_steps(main.revision, steps, by_revision)
            explanation = (
                f"it is the average of {enumerated(average)}" if average else "perhaps an average"
            )
            message = f"{main.revision} has the weights of no step: {explanation}."
            names = [main.revision, *average]
        else:
            continue
        remarks.append(Remark(kind="main", revisions=names, message=message))
    return remarks


def _all_compared(
    checkpoints: Sequence[Checkpoint], by_revision: Mapping[str, WeightsContent]
) -> bool:
    return all(c.revision in by_revision and by_revision[c.revision].tensors for c in checkpoints)


def _initialisations(
    checkpoints: Sequence[Checkpoint],
    groups: Sequence[Sequence[Checkpoint]],
    by_revision: Mapping[str, WeightsContent],
    matches: Matches,
) -> list[Remark]:
    remarks = []
    for initial in filter(is_initial, checkpoints):
        content = by_revision.get(initial.revision)
        reason = why_not_initial(content) if content else None
        later = _later_alike(initial, checkpoints, groups, matches)
        # A warm-up from a rate of 0 leaves the first step as it started.
        drawn = content is not None and content.tensors is not None and reason is None
        if later and not (drawn and later.step == 1):
            is_copy = any(initial in group and later in group for group in groups)
            relation = "has the weights" if is_copy else "shares tensors"
            reason = f"it {relation} {'of' if is_copy else 'with'} {later.revision}"
        if reason:
            message = f"{initial.revision} is not an initialisation: {reason}. {USED_INSTEAD}."
            names = [initial.revision, *([later.revision] if later else [])]
            remarks.append(Remark(kind="initialisation", revisions=names, message=message))
    return remarks


def _later_alike(
    initial: Checkpoint,
    checkpoints: Sequence[Checkpoint],
    groups: Sequence[Sequence[Checkpoint]],
    matches: Matches,
) -> Checkpoint | None:
    """Return the first later checkpoint with all weights of the initial one, else with some."""
    group = next(group for group in groups if initial in group)
    frozen = matches.in_all([group[0].revision for group in groups]) if len(groups) > 2 else 0
    later = [
        c for c in checkpoints if not is_initial(c) and (c.step is not None or c.tokens is not None)
    ]
    copies = [c for c in later if c in group]
    mixed = (c for c in later if matches.shared(initial.revision, c.revision)[0] > frozen)
    return copies[0] if copies else next(mixed, None)
