"""A suite is one model at many checkpoints; revision names say after how many tokens.

>>> parse_revision("stage1-step928646-tokens3896B")
Revision(step=928646, tokens=3896000000000, stage=1)
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class Location(BaseModel):
    """Where a worker finds a checkpoint or a text: under the package, the artefact root, an absolute path, or a hub."""

    model_config = ConfigDict(frozen=True)

    scheme: Literal["builtin", "artefacts", "path", "hub"]
    path: str  # folder of the checkpoint / file of the text; for a hub the repository "owner/name"
    commit: str | None = None  # hub only: the 40 hex digits that were resolved at registration


class Checkpoint(BaseModel):
    """One saved state of the model's weights."""

    model_config = ConfigDict(frozen=True)

    suite: str
    revision: str  # unique in its suite
    location: Location
    step: int | None = None
    tokens: int | None = None  # pre-training tokens seen; None where nobody knows
    replicate: int = 0  # seed of the pre-training run: curves are drawn per replicate
    phase: str | None = (
        None  # learning-rate phase: "warm-up", "constant", "decay", "annealed"; None where unknown
    )
    num_parameters: int | None = None
    context: int | None = None  # tokens of the longest row that it reads, where its config says so
    weights_sha256: str | None = None  # of the weights file(s)
    config_sha256: str | None = None
    tokenizer_sha256: str | None = None
    size_bytes: int | None = None
    unresolved: str | None = (
        None  # why the hashes are missing ("not plannable yet: ..."), None when resolved
    )


class Suite(BaseModel):
    """A named list of checkpoints, sorted by replicate and tokens."""

    name: str
    description: str = ""
    checkpoints: list[Checkpoint] = []
    evaluation: str | None = None  # the evaluation set meant by "the suite's own"
    recipe: str | None = None  # hash of the pre-training spec that makes it, if ours
    warnings: list[str] = []


class Dataset(BaseModel):
    """An evaluation set, a training text, or examples to fine-tune on: a built-in generator, registered files, or a hub preset."""

    name: str
    description: str = ""
    kind: Literal[
        "language", "text", "examples"
    ]  # the built-in synthetic language, a text file, train and validation files
    parameters: dict[
        str, str | int | float
    ] = {}  # of the generator; of examples: their files below the location, and columns
    location: Location | None = None
    sha256: str | None = (
        None  # of the file's bytes (of both files), or of the generator's name, version and parameters
    )
    size_bytes: int | None = None
    unresolved: str | None = None


class Revision(NamedTuple):
    """What a revision's name says of itself; None where it says nothing. Tokens and steps may restart with a stage."""

    step: int | None = (
        None  # optimiser step, iteration or checkpoint number: whatever the name counts
    )
    tokens: int | None = None
    stage: int | None = None


class Phase(NamedTuple):
    """From which step on the learning rate is in which phase."""

    stage: int | None
    first_step: int
    phase: str


START, END = r"(?:^|[-_/])", r"(?=$|[-_/])"
STEP = re.compile(
    rf"{START}(?:global[-_]?)?(?:steps?|iter(?:ation)?|ckpt|checkpoint)[-_]?(\d+){END}"
)
# tokens3896B, tokens-15T, tokens1000000 | 2BT, 240b_tokens, 1.5t-tokens
TOKENS = re.compile(
    rf"{START}tokens?[-_]?(\d+(?:\.\d+)?)([kmbt]?){END}|{START}(\d+(?:\.\d+)?)([kmbt])(?:t|[-_]?tokens?){END}"
)
STAGE = re.compile(rf"{START}(?:stage|phase)[-_]?(\d+){END}")
REPLICATE = re.compile(rf"{START}(?:seed|ingredient|replicate)[-_]?(\d+){END}")
UNITS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}


def parse_revision(name: str) -> Revision:
    """Step, tokens and stage as far as the name tells; nothing is guessed.

    >>> parse_revision("step143000"), parse_revision("ckpt_010"), parse_revision("iter_0058000")
    (Revision(step=143000, tokens=None, stage=None), Revision(step=10, tokens=None, stage=None), \
Revision(step=58000, tokens=None, stage=None))
    >>> parse_revision("step-001000-2BT").tokens, parse_revision("240b_tokens").tokens, parse_revision("main").tokens
    (2000000000, 240000000000, None)
    """
    name = name.lower()
    step, tokens, stage = STEP.search(name), TOKENS.search(name), STAGE.search(name)
    return Revision(
        step=int(step[1]) if step else None,
        tokens=int(Decimal(tokens[1] or tokens[3]).scaleb(UNITS[tokens[2] or tokens[4] or ""]))
        if tokens
        else None,
        stage=int(stage[1]) if stage else None,
    )


def place(
    names: Iterable[str], tokens_per_step: int | None = None, phases: Sequence[Phase] = ()
) -> dict[str, dict[str, Any]]:
    """Where each revision of one repository stands in pre-training: {name: {step, tokens, replicate, phase}}.

    tokens: what the name says, else step x `tokens_per_step`, else None. A later stage whose counts restart below the end
    of the stage before (OLMo 2) continues after that stage's last revision in the list; one whose counts go on (SmolLM3) is left
    alone; where the list has no earlier stage, nobody knows, and tokens are None. Stages count from 1. Branches of a
    stage that name an ingredient or a seed are replicates.
    """
    parsed = {name: parse_revision(name) for name in names}
    placed: dict[str, dict[str, Any]] = {}
    end: int | None = 0  # tokens at the end of the stages before; None: unknown
    for stage in sorted({revision.stage or 1 for revision in parsed.values()}):
        members = {
            name: revision for name, revision in parsed.items() if (revision.stage or 1) == stage
        }
        counts = {name: _tokens(revision, tokens_per_step) for name, revision in members.items()}
        known = [count for count in counts.values() if count is not None]
        if stage > 1 and not any(place["tokens"] for place in placed.values()):
            end = None
        restarts = stage > 1 and end is not None and bool(known) and min(known) < end
        for name, revision in members.items():
            count = counts[name]
            seed = REPLICATE.search(name.lower())
            placed[name] = {
                "step": revision.step,
                "tokens": None
                if count is None or end is None
                else count + (end if restarts else 0),
                "replicate": int(seed[1]) if seed else 0,
                "phase": _phase(revision, phases),
            }
        end = max(
            (place["tokens"] for place in placed.values() if place["tokens"] is not None),
            default=None,
        )
    return placed


def _tokens(revision: Revision, tokens_per_step: int | None) -> int | None:
    if revision.tokens is not None or revision.step is None or tokens_per_step is None:
        return revision.tokens
    return revision.step * tokens_per_step


def _phase(revision: Revision, phases: Sequence[Phase]) -> str | None:
    """The phase with the latest first step not after this one, of the same stage."""
    if revision.step is None:
        return None
    begun = [p for p in phases if p.stage == revision.stage and p.first_step <= revision.step]
    return max(begun, key=lambda p: p.first_step).phase if begun else None


def arrange(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Sorted by replicate, then tokens, then step; those of unknown tokens last."""

    def key(c: Checkpoint) -> tuple[Any, ...]:
        return (
            c.replicate,
            c.tokens is None,
            c.tokens or 0,
            c.step is None,
            c.step or 0,
            c.revision,
        )

    return sorted(checkpoints, key=key)


def warnings_of(checkpoints: Iterable[Checkpoint]) -> list[str]:
    """What a user must know before believing a curve over these: revisions that share their weights, and those left out."""
    checkpoints = list(checkpoints)
    holders: dict[str, list[str]] = defaultdict(list)
    reasons: dict[str, list[str]] = defaultdict(list)
    pending = []
    for checkpoint in arrange(checkpoints):
        if checkpoint.weights_sha256:
            holders[checkpoint.weights_sha256].append(checkpoint.revision)
        if checkpoint.unresolved and checkpoint.unresolved.startswith(PENDING):
            pending.append(checkpoint.revision)
        elif checkpoint.unresolved:
            reasons[checkpoint.unresolved].append(checkpoint.revision)
    steps = [c.revision for c in arrange(checkpoints) if c.tokens is None and c.step is not None]
    nothing = [c.revision for c in arrange(checkpoints) if c.tokens is None and c.step is None]
    shared = [names for names in holders.values() if len(names) > 1]
    return [
        *(
            f"{_listed(names)} hold the same weights: not all of them are what their names say."
            for names in shared
        ),
        *(f"{_listed(names)}: {reason}" for reason, names in reasons.items()),
        *([f"{_listed(pending)}: still being hashed."] if pending else []),
        *(
            [f"{_listed(steps)}: the name tells the step, but not the tokens: {SAY_TOKENS}."]
            if steps
            else []
        ),
        *(
            [f"{_listed(nothing)}: the name tells neither step nor tokens: {SAY_PLACE}."]
            if nothing
            else []
        ),
    ]


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:5]) + ([f"{len(names) - 5} more"] if len(names) > 5 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


# How to say where checkpoints stand in pre-training.
SAY_TOKENS = "register it again with the tokens of one step (--tokens-per-step)"
SAY_PLACE = "call it like step1000 or 2B_tokens, or say it in a suite.json beside the folders (`ucurve suites add --help`)"
FOLDER_FORMAT = """\
DIR/step1000/config.json, model.safetensors, tokenizer.json     one sub-folder per revision, as save_pretrained writes it
DIR/step2000/...
DIR/suite.json                                                  optional: where revisions stand whose names do not say it

Names tell steps (step1000, iter_0058000, ckpt_010), tokens (step-001000-2BT, 240b_tokens), stages (stage2-step500) and
replicates (seed-1-step1000). suite.json, as GET /v1/suites/NAME answers it, has at least
  {"name": "mine", "checkpoints": [{"suite": "mine", "revision": "early", "tokens": 2000000000, "replicate": 0,
    "location": {"scheme": "path", "path": "early"}}]}"""

PENDING = "hashing"  # `unresolved` begins with this while somebody is working on it: the reason is temporary


def weights_files(names: Iterable[str]) -> list[str]:
    """The files among `names` that hold the weights: safetensors if there are any, else pickles; sorted."""
    names = [name for name in names if "/" not in name]
    for start, end in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        single = start + end
        found = (
            [single]
            if single in names
            else sorted(n for n in names if n.startswith(f"{start}-") and n.endswith(end))
        )
        if found:
            return found
    return []


def combined_sha256(hashes: Mapping[str, str]) -> str:
    """One hash for {file name: hash} of the weights: the file's own when there is one, else that of lines "name hash"."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(
        "".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode()
    ).hexdigest()
