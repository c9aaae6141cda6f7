"""Revision names: which step, how many tokens, which stage of pre-training they mean.

>>> parse_revision("stage1-step928646-tokens3896B")
Revision(step=928646, tokens=3896000000000, stage=1, replicate=None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple


class Revision(NamedTuple):
    """Numbers in a revision's name.

    None where the name has none. Counts may restart with a stage.
    """

    step: int | None = None  # optimiser step, iteration or checkpoint number
    tokens: int | None = None
    stage: int | None = None
    replicate: int | None = None  # seed or ingredient

    @property
    def has_position(self) -> bool:
        """Whether the name gives a position in pre-training."""
        return (self.step, self.tokens, self.stage) != (None, None, None)


class Phase(NamedTuple):
    """Step of a stage from which on the learning rate is in a phase."""

    stage: int | None
    first_step: int
    phase: str


class Position(NamedTuple):
    """Position of a checkpoint in pre-training; None where unknown."""

    step: int | None
    tokens: int | None
    replicate: int
    phase: str | None


START, END = r"(?:^|[-_/])", r"(?=$|[-_/])"
STEP = re.compile(
    rf"{START}(?:global[-_]?)?(?:steps?|iter(?:ation)?|ckpt|checkpoint)[-_]?(\d+){END}"
)
# tokens3896B, tokens-15T, tokens1000000 | 2BT, 240b_tokens, 1.5t-tokens
TOKENS = re.compile(
    rf"{START}tokens?[-_]?(\d+(?:\.\d+)?)([kmbt]?){END}"
    rf"|{START}(\d+(?:\.\d+)?)([kmbt])(?:t|[-_]?tokens?){END}"
)
STAGE = re.compile(rf"{START}(?:stage|phase)[-_]?(\d+){END}")
REPLICATE = re.compile(rf"{START}(?:seed|ingredient|replicate)[-_]?(\d+){END}")
EXPONENTS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}


def parse_revision(name: str) -> Revision:
    """Read step, tokens, stage and replicate from a revision's name; nothing is guessed.

    >>> parse_revision("step143000").step, parse_revision("ckpt_010").step
    (143000, 10)
    >>> parse_revision("step-001000-2BT").tokens, parse_revision("240b_tokens").tokens
    (2000000000, 240000000000)
    >>> parse_revision("main").has_position
    False
    """
    name = name.lower()
    step, stage, replicate = (pattern.search(name) for pattern in (STEP, STAGE, REPLICATE))
    return Revision(
        step=int(step[1]) if step else None,
        tokens=_token_count(name),
        stage=int(stage[1]) if stage else None,
        replicate=int(replicate[1]) if replicate else None,
    )


def _token_count(name: str) -> int | None:
    match = TOKENS.search(name)
    if match is None:
        return None
    exponent = EXPONENTS[match[2] or match[4] or ""]
    return int(Decimal(match[1] or match[3]).scaleb(exponent))


def infer_positions(
    revisions: Mapping[str, Revision],
    tokens_per_step: int | None = None,
    phases: Sequence[Phase] = (),
) -> dict[str, Position]:
    """Return the position in pre-training of each revision of one repository, by name.

    Tokens are those in the name, else step x `tokens_per_step`, else None. A later stage whose
    counts restart below the end of the stage before (OLMo 2) continues after that stage's last
    revision; one whose counts continue (SmolLM3) is left alone; without an earlier stage in
    `revisions`, tokens are None. Stages count from 1. Branches of a stage that name an ingredient
    or a seed are replicates.
    """
    positions: dict[str, Position] = {}
    end: int | None = 0  # tokens at the end of the stages before; None: unknown
    for stage in sorted({revision.stage or 1 for revision in revisions.values()}):
        members = {name: r for name, r in revisions.items() if (r.stage or 1) == stage}
        counts = {name: _tokens(revision, tokens_per_step) for name, revision in members.items()}
        smallest = min((count for count in counts.values() if count is not None), default=None)
        if stage > 1 and not any(position.tokens for position in positions.values()):
            end = None
        restarts = stage > 1 and end is not None and smallest is not None and smallest < end
        for name, revision in members.items():
            count = counts[name]
            positions[name] = Position(
                step=revision.step,
                tokens=None if count is None or end is None else count + (end if restarts else 0),
                replicate=revision.replicate or 0,
                phase=_phase(revision, phases),
            )
        end = max((p.tokens for p in positions.values() if p.tokens is not None), default=None)
    return positions


def _tokens(revision: Revision, tokens_per_step: int | None) -> int | None:
    if revision.tokens is not None or revision.step is None or tokens_per_step is None:
        return revision.tokens
    return revision.step * tokens_per_step


def _phase(revision: Revision, phases: Sequence[Phase]) -> str | None:
    """Return the phase of the same stage with the latest first step that is not after this
    revision.
    """
    if revision.step is None:
        return None
    begun = [p for p in phases if p.stage == revision.stage and p.first_step <= revision.step]
    return max(begun, key=lambda p: p.first_step).phase if begun else None
