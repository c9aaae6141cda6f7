"""Find the suite and the checkpoint that a file of reference numbers is about.

A file names a hub repository and a revision, or a folder as it was where the numbers were made:
`/models/mine/step1000`, `./mine/step1000/`, `/models/mine` with the subfolder `step1000`, a folder
of the hub's cache, or only a trainer's output folder and its iteration. Names are compared, nothing
is guessed: numbers of a model that the suite does not bear are refused until `same_model` says that
it is the same one under another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ucurve.formatting import shortened
from ucurve.registry import presets
from ucurve.registry.names.revisions import infer_positions, parse_revision
from ucurve.registry.presets import SuitePreset
from ucurve.registry.suites import Checkpoint, Suite

# Names of folders that say nothing about the model in them.
COMMON_FOLDERS = frozenset(
    {"checkpoint", "checkpoints", "ckpt", "ckpts", "hf", "model", "models", "out", "output"}
    | {"outputs", "results", "runs"}
)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_CACHE = re.compile(r"(?:^|/)models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})(?:/|$)")
PLAIN_STEP = re.compile(
    r"(?:(?:global|model)?[-_]?(?:step|ckpt|checkpoint|iter|iteration)[-_=]?)?0*(\d+)", re.I
)
TOKENS_TOLERANCE = 0.01
PLACE = (
    "to draw it over pre-training tokens, give its tokens in the suite's table of positions "
    "(`ucurve suites add --help`), or a CSV with tokens"
)


class UnknownCheckpointError(ValueError):
    """The suite or checkpoint of a file is unknown; says what was looked for and what to do."""


@dataclass(frozen=True)
class EvaluatedModel:
    """The model of a file, as the file names it."""

    model: str = ""  # hub repository or folder
    revision: str = ""
    subfolder: str = ""
    step: int | None = None  # of a trainer's config
    tokens_per_step: int | None = None  # of a trainer's config

    @property
    def parts(self) -> tuple[str, ...]:
        """The components of its folder."""
        return _parts(f"{self.model}/{self.subfolder}")

    @property
    def sought(self) -> str:
        """The name of the revision to look for."""
        if self.revision:
            return self.revision
        if self.step is not None:
            return f"step{self.step}"
        last = self.parts[-1] if self.parts else ""
        is_folder = self.subfolder or (self.model and not self.hub)
        return last if is_folder or _number(last) is not None else "main"

    @property
    def hub(self) -> str:
        """Its repository in small letters, where it may be one of a hub."""
        if cached := HUB_CACHE.search(self.model):
            return f"{cached[1]}/{cached[2]}".lower()
        return self.model.lower() if HUB_NAME.fullmatch(self.model) else ""


class FoundCheckpoint(NamedTuple):
    """A checkpoint of a suite, and its position in pre-training."""

    suite: str
    revision: str
    tokens: int


class CheckpointFinder:
    """Finds checkpoints among registered suites and presets.

    name: the suite that the submission names; same_model: the model that the files name, where it
    is that suite's under another name.
    """

    def __init__(self, suites: Iterable[Suite], name: str | None, same_model: str = "") -> None:
        self.suites = {suite.name: suite for suite in suites}
        self.name = name
        self.same_model = same_model.strip().rstrip("/")
        self.matches: set[str] = set()  # suites that the files are about
        self._found: dict[EvaluatedModel, FoundCheckpoint] = {}
        self._registered: dict[str, Checkpoint | None] = {}

    def find(self, evaluated: EvaluatedModel) -> FoundCheckpoint:
        """Return the checkpoint of a file. Raises UnknownCheckpointError."""
        if evaluated not in self._found:
            self._found[evaluated] = self._find(evaluated)
        return self._found[evaluated]

    def _find(self, evaluated: EvaluatedModel) -> FoundCheckpoint:
        suite = self._suite(evaluated)
        self.matches.add(suite.name)
        checkpoint = _at_folder(suite, evaluated) or _by_name(
            _in_repository(suite, evaluated), _names(evaluated)
        )
        _check_tokens_per_step(suite, checkpoint, evaluated)
        if checkpoint is not None and checkpoint.tokens is not None:
            return FoundCheckpoint(suite.name, checkpoint.revision, checkpoint.tokens)
        tokens = _inferred_tokens(suite, evaluated)
        if tokens is None:
            raise UnknownCheckpointError(_unknown_tokens(suite, checkpoint, evaluated))
        if checkpoint is not None:
            return FoundCheckpoint(suite.name, checkpoint.revision, tokens)
        several = any("@" in c.revision for c in suite.checkpoints)
        seed = f"{evaluated.hub.split('/')[-1]}@" if several else ""
        return FoundCheckpoint(suite.name, seed + evaluated.sought, tokens)

    def registered(self, revision: str) -> Checkpoint | None:
        """Return the checkpoint of the named suite with a revision of this name or number."""
        if revision not in self._registered:
            suite = self.suites.get(self.name or "") or Suite(name="")
            self._registered[revision] = _by_name(suite.checkpoints, [revision])
        return self._registered[revision]

    def _suite(self, evaluated: EvaluatedModel) -> Suite:
        if self.name:
            suite = self.suites.get(self.name) or Suite(name=self.name)
            if not self._is_about(suite, evaluated):
                raise UnknownCheckpointError(
                    f"the numbers are about {_quoted(evaluated.model)}, which is not the model of "
                    f"suite {suite.name!r}{_origin(suite)}: name another suite, or, if it is the "
                    f"same model under another name, confirm it with same_model"
                )
            return suite
        suites = self.suites.values()
        candidates = [s for s in suites if _at_folder(s, evaluated)] or [
            s for s in suites if _bears(s, evaluated)
        ]
        if not candidates and evaluated.hub:
            candidates = [
                Suite(name=p.name) for p in presets.suites() if evaluated.hub in _names_of(p)
            ]
        if len(candidates) == 1:
            return candidates[0]
        model = _quoted(evaluated.model) if evaluated.model else "no model"
        reason = (
            f"it belongs to the suites {', '.join(sorted(suite.name for suite in candidates))}"
            if candidates
            else "no suite of this lab was registered from there"
        )
        raise UnknownCheckpointError(
            f"the tokens of its checkpoint are unknown: the file names {model}, and {reason}; name "
            "the suite that the numbers are about"
        )

    def _is_about(self, suite: Suite, evaluated: EvaluatedModel) -> bool:
        model = evaluated.model.rstrip("/")
        if not model or _bears(suite, evaluated):
            return True
        if self.same_model and f"{model}/".startswith(f"{self.same_model}/"):
            return True
        if any(_at_folder(other, evaluated) for other in self.suites.values()):
            return False  # it is another suite's
        if evaluated.hub:  # or a relative folder
            return evaluated.parts[0].lower() in _folder_names(suite) - COMMON_FOLDERS
        shared = _folder_names(suite) & {part.lower() for part in evaluated.parts}
        return bool(shared - COMMON_FOLDERS)


def _bears(suite: Suite, evaluated: EvaluatedModel) -> bool:
    """Whether the suite was registered from this repository, this folder or the one around it."""
    if evaluated.hub and evaluated.hub in _repositories(suite):
        return True
    parts = evaluated.parts
    roots = {_parts(c.location.path)[:-1] for c in suite.checkpoints if _is_local(c)} - {()}
    if _is_absolute(evaluated.model):
        return bool(roots & {parts, parts[:-1]})
    inside = len(parts) > 1 and any(root[-len(parts) :] == parts for root in roots)
    return inside or _at_folder(suite, evaluated) is not None


def _repositories(suite: Suite) -> set[str]:
    """Return all names of the suite's repositories, in small letters."""
    own = {c.location.path.lower() for c in suite.checkpoints if c.location.scheme == "hub"}
    if not own:
        own = {p.hub for p in presets.suites() if p.name == suite.name}
    return {name for repository in own for name in presets.names_of(repository)}


def _folder_names(suite: Suite) -> set[str]:
    """Return names by which a folder may say that it holds this suite, in small letters."""
    folders = {
        _parts(c.location.path)[-2]
        for c in suite.checkpoints
        if _is_local(c) and len(_parts(c.location.path)) > 1
    }
    repositories = {repository.split("/")[-1] for repository in _repositories(suite)}
    return {name.lower() for name in {suite.name, *folders, *repositories}}


def _at_folder(suite: Suite, evaluated: EvaluatedModel) -> Checkpoint | None:
    """Return the checkpoint in the file's folder; a relative one needs two equal components."""
    parts, whole = evaluated.parts, _is_absolute(evaluated.model)
    for checkpoint in suite.checkpoints if evaluated.model else ():
        own = _parts(checkpoint.location.path) if _is_local(checkpoint) else ()
        if own and (own == parts if whole else len(parts) > 1 and own[-len(parts) :] == parts):
            return checkpoint
    return None


def _names(evaluated: EvaluatedModel) -> list[str]:
    """Return the names under which the revision may be registered, best first."""
    cached = HUB_CACHE.search(evaluated.model)
    folder = evaluated.parts[-1] if evaluated.parts and not evaluated.hub else ""
    if evaluated.subfolder:
        folder = evaluated.parts[-1]
    names = [cached[3] if cached else "", evaluated.sought, folder]
    return [name for name in names if name]


def _in_repository(suite: Suite, evaluated: EvaluatedModel) -> list[Checkpoint]:
    """Return the checkpoints of the file's repository, where the suite has several: seeds."""
    names = presets.names_of(evaluated.hub)
    own = [c for c in suite.checkpoints if not _is_local(c) and c.location.path.lower() in names]
    return own or suite.checkpoints


def _by_name(checkpoints: Sequence[Checkpoint], names: Iterable[str]) -> Checkpoint | None:
    """Return the checkpoint of one of these names, commits or plain step numbers."""
    for name in names:
        commit = re.fullmatch(r"[0-9a-f]{7,40}", name)
        number = _number(name)
        for same in (
            [c for c in checkpoints if c.revision == name],
            [c for c in checkpoints if _own_name(c) == name],
            [c for c in checkpoints if commit and (c.location.commit or "").startswith(name)],
            [c for c in checkpoints if number is not None and _number(_own_name(c)) == number],
        ):
            if len(same) == 1:
                return same[0]
    return None


def _own_name(checkpoint: Checkpoint) -> str:
    """Return the revision without its repository, which suites of several put before it."""
    return checkpoint.revision.rpartition("@")[2]


def _number(revision: str) -> int | None:
    match = PLAIN_STEP.fullmatch(revision)
    return int(match[1]) if match else None


def _inferred_tokens(suite: Suite, evaluated: EvaluatedModel) -> int | None:
    """Return the tokens that the revision's name says, or that a preset makes of its step."""
    parsed = parse_revision(evaluated.sought)
    if not evaluated.revision and parsed.step is None:
        return None  # a folder's name, "pythia-70m": its numbers are no tokens
    preset = _preset(suite)
    revisions = {evaluated.sought: parsed}
    positions = infer_positions(revisions, preset.tokens_per_step, preset.phases)
    return positions[evaluated.sought].tokens


def _names_of(preset: SuitePreset) -> frozenset[str]:
    return presets.names_of(preset.hub)


def _preset(suite: Suite) -> SuitePreset:
    """Return what is published about the suite's pre-training, or an empty preset."""
    found = (presets.for_hub(name) for name in sorted(_repositories(suite)))
    return next((p for p in found if p.tokens_per_step is not None), SuitePreset(hub=""))


def _check_tokens_per_step(
    suite: Suite, checkpoint: Checkpoint | None, evaluated: EvaluatedModel
) -> None:
    published = _preset(suite).tokens_per_step
    own = float(published) if isinstance(published, int) else 0.0
    if checkpoint and checkpoint.step and checkpoint.tokens:
        own = checkpoint.tokens / checkpoint.step
    other = evaluated.tokens_per_step
    if own and other and abs(other - own) > TOKENS_TOLERANCE * own:
        raise UnknownCheckpointError(
            f"its run counts {other:,} tokens per step, suite {suite.name!r} {own:,.0f}: they are "
            "two runs; name the suite of this one, or give a CSV with the tokens"
        )


def _unknown_tokens(suite: Suite, checkpoint: Checkpoint | None, evaluated: EvaluatedModel) -> str:
    of_model = f" of {_quoted(evaluated.model)}" if evaluated.model else ""
    remedy = "register it, or give a CSV with tokens"
    phase = parse_revision(evaluated.sought).training_phase
    if checkpoint is not None and checkpoint.training_phase is not None:
        reason = f"suite {suite.name!r} has it, and {after_pre_training(checkpoint)}"
        remedy = PLACE
    elif checkpoint is not None:
        reason = f"suite {suite.name!r} has {_quoted(checkpoint.revision)} without tokens"
        remedy = PLACE
    else:
        known = [_quoted(c.revision) for c in suite.checkpoints]
        holds = f"which has {shortened(known)}" if known else "which is not registered"
        reason = (
            f"revision {_quoted(evaluated.sought)}{of_model} is not in suite {suite.name!r}, "
            f"{holds}"
        )
        if phase is not None:
            reason += f", and its name says training after pre-training ({_quoted(phase)})"
            remedy = "give a CSV with tokens, if it shall stand on the axis of pre-training tokens"
    return f"the tokens of its checkpoint are unknown: {reason}; {remedy}"


def after_pre_training(checkpoint: Checkpoint) -> str:
    """Return why a registered checkpoint has no place on an axis of pre-training tokens."""
    return (
        f"{_quoted(checkpoint.revision)} is registered as training after pre-training "
        f"({_quoted(checkpoint.training_phase or '')}), which counts its own steps"
    )


def _origin(suite: Suite) -> str:
    hubs = [preset.hub for preset in presets.suites() if preset.name == suite.name]
    names = [c.location.path for c in suite.checkpoints] or hubs
    return f" ({names[0]})" if names else ""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:99] + "…")


def _is_local(checkpoint: Checkpoint) -> bool:
    return checkpoint.location.scheme != "hub"


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path) is not None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[\\/]+", path) if part not in ("", "."))
