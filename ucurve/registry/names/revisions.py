"""Revision names: which step, how many tokens, which part of training they mean.

>>> parse_revision("stage1-step928646-tokens3896B")
Revision(step=928646, tokens=3896000000000, stage=1)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from ucurve.registry.names.token_batches import Batches, parse_batches, tokens_at
from ucurve.registry.names.training_phases import find_phase


class Revision(NamedTuple):
    """Numbers in a revision's name.

    None where the name has none. Counts may restart with a stage.
    """

    step: int | None = None  # optimiser step, iteration or checkpoint number
    tokens: int | None = None
    stage: int | None = None
    replicate: int | None = None  # seed or ingredient
    words: int | None = None  # of text; how many tokens they are is not known
    training_phase: str | None = None  # after pre-training, with a count of its own
    replicate_name: str | None = None  # a seed that is a word

    @property
    def has_position(self) -> bool:
        """Whether the name gives a position in training."""
        return (self.step, self.tokens, self.stage, self.words) != (None, None, None, None)

    def __repr__(self) -> str:
        numbers = [f"{n}={v!r}" for n, v in zip(self._fields, self, strict=True) if v is not None]
        return f"Revision({', '.join(numbers)})"


class Phase(NamedTuple):
    """Step of a stage from which on the learning rate is in a phase."""

    stage: int | None
    first_step: int
    phase: str


class Position(NamedTuple):
    """Position of a checkpoint in training; None where unknown."""

    step: int | None
    tokens: int | None
    replicate: int
    phase: str | None
    words: int | None = None
    training_phase: str | None = None
    replicate_name: str | None = None


class Reading(NamedTuple):
    """What was read in a name, from which of its parts, and what was not."""

    revision: Revision
    source: str  # "step: step-50k, tokens: 105b"
    unread: str  # words that mean nothing here, joined by hyphens
    question: str | None = None  # what the name leaves open


START, END = r"(?<![^-_/|=+, ])", r"(?=$|[-_/|=+, ]|\.(?!\d))"
JOIN = r"[-_=]{0,2}"
COUNT = r"(\d{1,18}(?:\.\d+)?)"
STEP_WORDS = r"steps?|iters?|iterations?|updates?"
CHECKPOINT_WORDS = r"ckpts?|chck|checkpoints?"
# step1000, step=10k | ckpt_010 | ep1-ba4500 (batches); 3T directly after them: tokens.
STEP = re.compile(
    rf"{START}(?:global{JOIN}|model{JOIN})?(?:{STEP_WORDS}|{CHECKPOINT_WORDS}|ba){JOIN}"
    rf"(\d{{1,18}}){END}(?:[-_]{COUNT}([bt]){END})?"
    rf"|{START}(?:global{JOIN}|model{JOIN})?(?:{STEP_WORDS}){JOIN}"
    rf"{COUNT}([km]){END}(?:[-_]{COUNT}([bt]){END})?"
)
STEP_BEHIND = re.compile(rf"{START}{COUNT}([km]?)[-_]?(?:{STEP_WORDS}){END}")  # 100k-steps
# tokens3896B, tokens-15T | 2BT, 240b_tokens, 1.5t-tokens | train_02200B, ckpt-100B
TOKENS = re.compile(
    rf"{START}tok(?:en)?s?{JOIN}{COUNT}([kmbt]?){END}"
    rf"|{START}{COUNT}([kmbt])(?:t|[-_]?tok(?:en)?s?){END}"
    rf"|{START}(?:train|{CHECKPOINT_WORDS}){JOIN}{COUNT}([bt]){END}"
)
# chck_10M | 10M_words | words10M
WORDS = re.compile(
    rf"{START}chck{JOIN}{COUNT}([km]){END}"
    rf"|{START}{COUNT}([kmb]?)[-_]?words?{END}|{START}words?{JOIN}{COUNT}([kmb]?){END}"
)
STAGE = re.compile(rf"{START}(?:stage|phase){JOIN}(\d{{1,9}}){END}")
REPLICATE = re.compile(rf"{START}(?:seed|ingredient|replicate){JOIN}(\d{{1,9}}){END}")
SEED_NAME = re.compile(rf"{START}seed[-_=]([a-z][a-z0-9]*(?:[-_][a-z0-9]+)*)")
EPOCH = re.compile(rf"{START}(?:epochs?|ep){JOIN}(\d{{1,9}}){END}")
UNCLEAR = re.compile(rf"{START}(?:{CHECKPOINT_WORDS}){JOIN}{COUNT}[km]{END}")
LAST_NUMBER = re.compile(r"[-_=](\d{3,18})$")
EXPONENTS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}
MAX_COUNT = 2**62  # more is no count of steps or tokens
# Words of names that say nothing about training.
NEUTRAL = re.compile(
    r"base|main|master|final|last|raw|of|hf|huggingface|transformers|safetensors|converted"
    r"|(?:checkpoint|ckpt|chkpt|model|weight|param)s?|float|fp|bf|rank|revision|global"
    r"|intermediate|(?:pre)?train(?:ed|ing)?|(?:un)?shard(?:ed)?|consolidated"
)


def parse_revision(name: str) -> Revision:
    """Read step, tokens, stage and replicate from a revision's name; nothing is guessed.

    Numbers without a word, such as 1000 or 10B, mean something only beside others of their kind:
    `ucurve.registry.names.suite_names`.

    >>> parse_revision("step143000").step, parse_revision("ckpt_010").step
    (143000, 10)
    >>> parse_revision("step-001000-2BT").tokens, parse_revision("240b_tokens").tokens
    (2000000000, 240000000000)
    >>> parse_revision("main").has_position
    False
    """
    return read_name(name).revision


def read_name(name: str) -> Reading:
    """Return what a name says, and from which of its parts."""
    scan = _Scan(name.lower())
    epoch = scan.take("epoch", EPOCH)
    replicate, stage = scan.take("seed", REPLICATE), scan.take("stage", STAGE)
    words = scan.take("words", WORDS)
    step = scan.take("step", STEP) or scan.take("step", STEP_BEHIND)
    tokens = scan.take("tokens", TOKENS)
    seed_name = scan.take("seed", SEED_NAME)
    unclear = UNCLEAR.search(scan.unread)
    counted = _numbers(step)
    revision = Revision(
        step=counted[0] if counted else None,
        tokens=next(iter(_numbers(tokens) or counted[1:]), None),
        stage=int(stage[1]) if stage else None,
        replicate=int(replicate[1]) if replicate else None,
        words=next(iter(_numbers(words)), None),
        replicate_name=seed_name[1] if seed_name else None,
    )
    phase = find_phase(scan.unread)
    if phase is not None and stage is None:  # stages have an order, and continue one another
        source = f"{scan.source}, phase: {phase}, which has counts of its own".lstrip(", ")
        return Reading(_in_phase(revision, phase), source, "")
    question = None
    if unclear:
        question = f"{unclear[0]} may count steps, words or tokens"
    elif epoch and not revision.has_position:
        question = "an epoch is no count of steps or tokens"
    return Reading(revision, scan.source, unread_words(scan.unread), question)


def unread_words(text: str) -> str:
    """Return the words of a text that say something unknown, joined by hyphens."""
    words = re.findall(r"(?<![a-z0-9.])[a-z]{2,}(?![a-z0-9])", text)
    return "-".join(word for word in words if not NEUTRAL.fullmatch(word))


class _Scan:
    """A name, of which parts are read one after another."""

    def __init__(self, name: str) -> None:
        self.unread, self.found = name, list[str]()

    @property
    def source(self) -> str:
        return ", ".join(self.found)

    def take(self, kind: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return the first match, which later patterns do not see."""
        match = pattern.search(self.unread)
        if match:
            self.found.append(f"{kind}: {match[0]}")
            self.unread = f"{self.unread[: match.start()]}|{self.unread[match.end() :]}"
        return match


def _numbers(match: re.Match[str] | None) -> list[int]:
    """Return the counts of a match: each number with the k, M, B or T after it."""
    counts: list[int] = []
    groups = [group for group in match.groups() if group is not None] if match else []
    for position, group in enumerate(groups):
        if group and group[0].isdigit():
            unit = groups[position + 1] if position + 1 < len(groups) else ""
            exponent = EXPONENTS.get(unit, 0)
            counts.append(int(Decimal(group).scaleb(exponent)))
    return [count for count in counts if count <= MAX_COUNT]


def _in_phase(revision: Revision, phase: str) -> Revision:
    """Place a revision in a phase: a number at the end of its name is the step."""
    revision = revision._replace(tokens=None, words=None)  # counts of the phase
    last = LAST_NUMBER.search(phase)
    if last is None:
        return revision._replace(training_phase=phase)
    start = "" if revision.step is None else f"-from-{revision.step}"  # step_5000_cooldown_5500
    return revision._replace(step=int(last[1]), training_phase=phase[: last.start()] + start)


def infer_positions(
    revisions: Mapping[str, Revision],
    tokens_per_step: int | str | None = None,
    phases: Sequence[Phase] = (),
) -> dict[str, Position]:
    """Return the position in training of each revision of one repository, by name.

    Tokens are those in the name, else those of its steps at `tokens_per_step` (a number, or ranges
    as in `token_batches`), else None. A later stage whose counts restart below the end of the stage
    before (OLMo 2) continues after that stage's last revision; one whose counts continue (SmolLM3)
    is left alone; without an earlier stage in `revisions`, tokens are None. Stages count from 1.
    Branches of a stage that name an ingredient or a seed are replicates. Training after
    pre-training has no tokens: its numbers count from its own start.
    """
    batches = None if tokens_per_step is None else parse_batches(tokens_per_step)
    before = {name: r for name, r in revisions.items() if r.training_phase is None}
    positions: dict[str, Position] = {}
    end: int | None = 0  # tokens at the end of the stages before; None: unknown
    for stage in sorted({revision.stage or 1 for revision in before.values()}):
        members = {name: r for name, r in before.items() if (r.stage or 1) == stage}
        counts = {name: _tokens(revision, batches) for name, revision in members.items()}
        smallest = min((count for count in counts.values() if count is not None), default=None)
        if stage > 1 and not any(position.tokens for position in positions.values()):
            end = None
        restarts = stage > 1 and end is not None and smallest is not None and smallest < end
        for name, revision in members.items():
            count = counts[name]
            tokens = None if count is None or end is None else count + (end if restarts else 0)
            positions[name] = _position(revision, tokens, _phase(revision, phases))
        end = max((p.tokens for p in positions.values() if p.tokens is not None), default=None)
    after = {name: _position(r, None, None) for name, r in revisions.items() if r.training_phase}
    return positions | after


def _position(revision: Revision, tokens: int | None, phase: str | None) -> Position:
    return Position(
        step=revision.step,
        tokens=None if tokens is None or tokens > MAX_COUNT else tokens,
        replicate=revision.replicate or 0,
        phase=phase,
        words=revision.words,
        training_phase=revision.training_phase,
        replicate_name=revision.replicate_name,
    )


def _tokens(revision: Revision, batches: Batches | None) -> int | None:
    if revision.tokens is not None or revision.step is None or batches is None:
        return revision.tokens
    return tokens_at(batches, revision.step)


def _phase(revision: Revision, phases: Sequence[Phase]) -> str | None:
    """Return the phase of the same stage with the latest first step that is not after this
    revision.
    """
    if revision.step is None:
        return None
    begun = [p for p in phases if p.stage == revision.stage and p.first_step <= revision.step]
    return max(begun, key=lambda p: p.first_step).phase if begun else None
