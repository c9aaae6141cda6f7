"""Select the checkpoints of a suite that an experiment measures, and order them.

>>> [c.revision for c in choose(pythia, LogSpaced(log_spaced=5))]  # doctest: +SKIP
['step1', 'step16', 'step512', 'step7000', 'step143000']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ucurve.registry.suites import Checkpoint, Suite, enumerated, is_initial
from ucurve.schemas.strict_numbers import StrictNumbers
from ucurve.spec import MAX_REVISIONS, Name, SpecError


class LogSpaced(StrictNumbers):
    """Checkpoints of each replicate, evenly spaced in log tokens, first and last included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log_spaced: int = Field(ge=2, le=1000, title="How many")


Choice = Literal["all"] | LogSpaced | Annotated[list[Name], Field(max_length=MAX_REVISIONS)]


def choose(suite: Suite, choice: Choice) -> list[Checkpoint]:
    """Return the selected checkpoints in the order of the suite, without duplicate weights.

    "all" selects every checkpoint of pre-training after step 0 and requires that all are usable, so
    that none is dropped silently. LogSpaced selects from the usable ones after step 0. A list
    selects these revisions, of any training phase. Raises SpecError naming the field, the reason
    and the fix.
    """
    candidates = _candidates(suite, choice)
    if not isinstance(choice, LogSpaced):
        return candidates
    return [
        c
        for replicate in by_replicate(candidates)
        for c in log_spaced(replicate, choice.log_spaced)
    ]


def count_chosen(suite: Suite, choice: Choice) -> int:
    """Return the number of checkpoints that are measured: those of `choose`, by distinct weights.

    Raises SpecError as `choose` does.
    """
    sizes = [len(replicate) for replicate in by_replicate(_candidates(suite, choice))]
    most = choice.log_spaced if isinstance(choice, LogSpaced) else max(sizes, default=0)
    return sum(min(size, most) for size in sizes)


def selection_warnings(suite: Suite, choice: Choice) -> list[str]:
    """Return which of the selected checkpoints are not measured again, and whose numbers they have.

    Raises SpecError as `choose` does.
    """
    selected = _selected(suite, choice)
    first = {c.weights_sha256: c.revision for c in reversed(selected)}
    copies = [
        f"{c.revision} (the weights of {first[c.weights_sha256]})"
        for c in selected
        if c.revision != first[c.weights_sha256]
    ]
    warnings = []
    if copies:
        warnings.append(
            f"checkpoints: left out {enumerated(copies)}: equal weights are measured once."
        )
    named = Counter(choice) if isinstance(choice, list) else Counter[str]()
    if repeated := [name for name, num in named.items() if num > 1]:
        warnings.append(
            f"checkpoints: named more than once, and measured once: {enumerated(repeated)}."
        )
    return warnings


def _candidates(suite: Suite, choice: Choice) -> list[Checkpoint]:
    """Return the checkpoints from which LogSpaced selects, or those of any other choice."""
    selected = _selected(suite, choice)
    return selected if isinstance(choice, LogSpaced) else _distinct(selected)


def _selected(suite: Suite, choice: Choice) -> list[Checkpoint]:
    """Return what a choice names, in the order of the suite; some may have the same weights."""
    reasons = {
        c.revision: c.unresolved or "its hash is unknown"
        for c in suite.checkpoints
        if not usable(c)
    }
    if len(reasons) == len(suite.checkpoints):
        reason = next(iter(reasons.values()), "it has none")
        raise SpecError("suite", f"No checkpoint of {suite.name!r} can be planned yet: {reason}.")
    if isinstance(choice, list):
        names = set(choice)
        unknown = sorted(names - {checkpoint.revision for checkpoint in suite.checkpoints})
        if unknown:
            more = f" (and {len(unknown) - 10} more)" if unknown[10:] else ""
            raise SpecError(
                "checkpoints", f"{suite.name!r} has no revision {', '.join(unknown[:10])}{more}."
            )
        _require_usable(reasons, choice, "Leave it out, or register the suite again.")
        return [checkpoint for checkpoint in suite.checkpoints if checkpoint.revision in names]
    positioned = [c for c in suite.checkpoints if c.tokens and c.training_phase is None]
    if not positioned:
        raise SpecError(
            "checkpoints",
            f"The tokens of the checkpoints of {suite.name!r} are unknown: register the suite "
            "again with the tokens per step, or with a table of positions.",
        )
    if isinstance(choice, LogSpaced):
        pending = [checkpoint.revision for checkpoint in suite.checkpoints if checkpoint.is_pending]
        _require_usable(reasons, pending, "Wait until all are ready: the choice would change.")
        return [checkpoint for checkpoint in positioned if usable(checkpoint)]
    remedy = (
        'Wait, or give checkpoints as a list or as {"log_spaced": n}, which takes usable ones only.'
    )
    _require_usable(reasons, [checkpoint.revision for checkpoint in positioned], remedy)
    return positioned


def usable(checkpoint: Checkpoint) -> bool:
    """Return whether the checkpoint is resolved: its weights and config have a hash."""
    return checkpoint.unresolved is None and checkpoint.weights_sha256 is not None


def initialisations(suite: Suite) -> list[Checkpoint]:
    """Return the usable checkpoints before the first step, without those whose weights, a remark of
    the suite says, are not an initialisation.
    """
    refused = {r.revisions[0] for r in suite.remarks if r.kind == "initialisation"}
    return [
        c for c in suite.checkpoints if is_initial(c) and usable(c) and c.revision not in refused
    ]


def by_replicate(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Group checkpoints with distinct weights by replicate, each group sorted by tokens."""
    replicates: dict[int, list[Checkpoint]] = {}
    for checkpoint in _distinct(checkpoints):
        replicates.setdefault(checkpoint.replicate, []).append(checkpoint)
    return [
        sorted(replicate, key=lambda c: (c.tokens is None, c.tokens or 0))
        for _, replicate in sorted(replicates.items())
    ]


def log_spaced(checkpoints: Sequence[Checkpoint], num: int) -> list[Checkpoint]:
    """Return at most `num` checkpoints, evenly spaced in log tokens, first and last included.

    The checkpoints must have tokens > 0 in ascending order.
    """
    if len(checkpoints) <= num:
        return list(checkpoints)
    logs = [math.log(checkpoint.tokens or 1) for checkpoint in checkpoints]
    chosen: set[int] = set()
    for i in range(num):
        # The nearest checkpoint not chosen yet, so that a sparse start loses none of `num`.
        target = logs[0] + (logs[-1] - logs[0]) * i / (num - 1)
        chosen.add(
            min(
                (j for j in range(len(logs)) if j not in chosen),
                key=lambda j: abs(logs[j] - target),
            )
        )
    return [checkpoints[i] for i in sorted(chosen)]


def bisection_levels(num: int) -> list[int]:
    """Return the stage of each of `num` checkpoints: 0 for ends, 1 for the middle, 2 for quarters.

    >>> bisection_levels(5)
    [0, 2, 1, 2, 0]
    """
    levels = [0] * num
    gaps, level = [(0, num - 1)], 1
    while gaps:
        halves = [(low, (low + high) // 2, high) for low, high in gaps if high - low > 1]
        for _, middle, _ in halves:
            levels[middle] = level
        gaps = [half for low, middle, high in halves for half in ((low, middle), (middle, high))]
        level += 1
    return levels


def _distinct(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Return the first of all checkpoints with the same weights, which share one measurement.

    `selection_warnings` names the others.
    """
    return list({c.weights_sha256: c for c in reversed(list(checkpoints))}.values())[::-1]


def _require_usable(reasons: Mapping[str, str], selected: Iterable[str], remedy: str) -> None:
    """Raise SpecError when a selected revision has a reason why it is unusable."""
    unusable = [revision for revision in selected if revision in reasons]
    if unusable:
        more = f" (and {len(unusable) - 1} more)" if unusable[1:] else ""
        raise SpecError(
            "checkpoints",
            f"{unusable[0]}{more} cannot be planned yet: {reasons[unusable[0]]}. {remedy}",
        )
