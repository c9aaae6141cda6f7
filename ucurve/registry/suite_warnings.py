"""What to know of a suite before it is used: the warnings of lists, plans and pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ucurve.registry.suites import (
    AT_THE_SUITE,
    TRYING,
    Checkpoint,
    Remark,
    enumerated,
    sort_checkpoints,
)

HINT_TABLE = "correct the table of positions (`ucurve suites add --help`)"
HINT_TOKENS = (
    "register the suite with the tokens per step (`--tokens-per-step` of `ucurve suites add`)"
)
HINT_POSITION = (
    "name it like step1000 or 2B_tokens, or add a suite.json beside the folders "
    "(`ucurve suites add --help`)"
)
HINT_HUB_TOKENS = (
    "no file of the repository says them, its model card may: register the suite with the tokens "
    "per step (`--tokens-per-step` of `ucurve suites add`), or " + HINT_TABLE
)
HINT_HUB_POSITION = (
    "neither their names nor the repository's files say them, its model card may: " + HINT_TABLE
)
EARLIER = (
    "read by an earlier release, which placed training after pre-training by its number and took "
    "the weights of an older save where a newer index lies beside them"
)
REREAD = (
    "Register the suite again from the same folder or repository, which reads both again: finished "
    "points of the same weights are reused"
)


def suite_warnings(checkpoints: Iterable[Checkpoint], remarks: Iterable[Remark] = ()) -> list[str]:
    """Return warnings about a suite: remarks about its weights, and revisions that cannot be used
    or placed.
    """
    checkpoints = sort_checkpoints(checkpoints)
    by_reason: dict[str, list[str]] = defaultdict(list)
    at_the_suite: dict[str, list[str]] = defaultdict(list)
    for checkpoint in checkpoints:
        for remark in checkpoint.remarks if checkpoint.is_read else ():
            if remark.endswith(AT_THE_SUITE):
                at_the_suite[remark].append(checkpoint.revision)
        if checkpoint.unresolved and not checkpoint.is_pending:
            by_reason[checkpoint.unresolved].append(checkpoint.revision)
    trying = [c for c in checkpoints if (c.unresolved or "").startswith(TRYING)]
    pending = [c.revision for c in checkpoints if c.is_pending and c not in trying]
    without_tokens = [c for c in checkpoints if c.tokens is None and c.training_phase is None]
    only_step = [c.revision for c in without_tokens if c.step is not None]
    only_words = [c.revision for c in without_tokens if c.step is None and c.words is not None]
    neither = [c for c in without_tokens if c.step is None and c.words is None]
    unplaced = [c.revision for c in neither if c.location.scheme != "hub"]
    unplaced_on_hub = [c.revision for c in neither if c.location.scheme == "hub"]
    messages = [remark.message for remark in remarks]
    messages += [f"{enumerated(names)}: {reason}" for reason, names in by_reason.items()]
    messages += [f"{enumerated(names)}: {what}." for what, names in at_the_suite.items()]
    if pending:
        messages.append(f"{enumerated(pending)}: still being hashed.")
    if trying:
        messages.append(f"{enumerated([c.revision for c in trying])}: {trying[0].unresolved}.")
    if only_step:
        hint = HINT_HUB_TOKENS if without_tokens[0].location.scheme == "hub" else HINT_TOKENS
        messages.append(f"{enumerated(only_step)}: step known, tokens unknown: {hint}.")
    if only_words:
        messages.append(f"{enumerated(only_words)}: words known, tokens unknown: {HINT_TABLE}.")
    if unplaced:
        messages.append(f"{enumerated(unplaced)}: step and tokens unknown: {HINT_POSITION}.")
    if unplaced_on_hub:
        names = enumerated(unplaced_on_hub)
        messages.append(f"{names}: step and tokens unknown: {HINT_HUB_POSITION}.")
    return [
        *messages,
        *_earlier_warnings(checkpoints),
        *_phase_warnings(checkpoints),
        *_same_position_warnings(checkpoints),
    ]


def _earlier_warnings(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Say where an earlier release read the names and files of a suite.

    It left `position_source` null, which is text today, empty where a name gives no position.
    """
    if any(c.position_source is not None for c in checkpoints):
        return []
    earlier = [
        c
        for c in checkpoints
        if c.location.scheme in ("path", "hub") and c.weights_sha256 and c.unresolved is None
    ]
    if not earlier:
        return []
    untried = "" if any(c.structure for c in earlier) else ", and tried no model"
    return [f"{enumerated([c.revision for c in earlier])}: {EARLIER}{untried}. {REREAD}."]


def _phase_warnings(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Say which checkpoints are no part of pre-training, and what that means."""
    after = [c for c in checkpoints if c.training_phase is not None]
    if not after:
        return []
    phases = enumerated(list(dict.fromkeys(c.training_phase or "" for c in after)))
    return [
        f"{enumerated([c.revision for c in after])}: trained after pre-training ({phases}), with "
        "a count of steps of its own. Charts and verdicts over pre-training tokens leave these "
        'out, and so do "all" and log-spaced choices of checkpoints. Name them to measure them; '
        f"to place them, {HINT_TABLE}."
    ]


def _same_position_warnings(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Name checkpoints of one seed that claim the same position."""
    places: dict[tuple[int, int | None, int | None], list[Checkpoint]] = defaultdict(list)
    for c in checkpoints:
        if c.tokens is not None and c.training_phase is None:
            places[c.replicate, c.tokens, c.step].append(c)
    return [
        f"{enumerated([c.revision for c in same])} have the same position and pre-training seed: "
        f"where they are different runs, {HINT_TABLE}."
        for same in places.values()
        if len({c.weights_sha256 or c.revision for c in same}) > 1
    ]
