"""What a suite's registration finds at its source, together with what the lab knows already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from api.errors import invalid
from api.registration import registered_path
from ucurve.registry import presets
from ucurve.registry.discover import Discovered, discover
from ucurve.registry.names.revisions import Position
from ucurve.registry.position_tables import FROM_TABLE, TableError, corrected
from ucurve.registry.suites import Checkpoint, Suite
from ucurve.registry.tensors.model_files import RegistrationError
from ucurve.schemas.catalogue import SuiteSubmission

SOURCES = ("path", "hub", "repositories", "preset")
POSITION = (*Position._fields, "position_source")
# What was read of a commit's files, which never change.
READ = tuple(
    name
    for name in Checkpoint.model_fields
    if name not in ("suite", "revision", "location", *POSITION)
)


def discovered_at(submission: SuiteSubmission, existing: Suite | None) -> Discovered:
    """Return what is at the submission's source, its positions corrected; 422 where nothing is."""
    field, source = _source(submission)
    before = {c.revision: c for c in existing.checkpoints} if existing else {}
    seeds = {c.replicate_name: c.replicate for c in before.values() if c.replicate_name}
    try:
        discovered = discover(source, submission.name, submission.tokens_per_step, seeds)
    except RegistrationError as error:
        raise invalid(f"/{field}", f"{error}.") from error
    discovered.checkpoints[:] = [
        _as_known(c, before.get(c.revision)) for c in discovered.checkpoints
    ]
    if submission.positions is None:
        return discovered
    try:
        return corrected(discovered, submission.positions)
    except TableError as error:
        raise invalid("/positions", f"{error}.") from error


def _source(submission: SuiteSubmission) -> tuple[str, Path | str | Sequence[str]]:
    """Return the field that names the source, and the source."""
    named = [name for name in SOURCES if getattr(submission, name) is not None]
    if len(named) != 1:
        raise invalid(
            "/path",
            "Give one of path (a folder), hub (a repository), repositories (several of one model, "
            "a pre-training seed each) and preset.",
        )
    if submission.path is not None:
        return "path", registered_path("/path", submission.path)
    if submission.hub is not None:
        return "hub", submission.hub
    if submission.repositories is not None:
        return "repositories", submission.repositories
    groups = {preset.name: preset.repositories for preset in presets.replicated()}
    single = {preset.name: preset.hub for preset in presets.suites()}
    source = groups.get(submission.preset or "") or single.get(submission.preset or "")
    if source is None:
        names = ", ".join([*groups, *single])
        raise invalid("/preset", f"There is no preset {submission.preset!r}; there are {names}.")
    return "preset", source


def _as_known(checkpoint: Checkpoint, old: Checkpoint | None) -> Checkpoint:
    """Keep what a table said, and tokens that the source does not give this time.

    What an earlier release read of a name counts only where this one reads the same.
    """
    if old is None:
        return checkpoint
    lost = (
        checkpoint.tokens is None
        and old.tokens is not None
        and checkpoint.training_phase == old.training_phase
    )
    if old.position_source is None:
        same = checkpoint.step is not None and checkpoint.step == old.step
        return checkpoint.model_copy(update={"tokens": old.tokens}) if lost and same else checkpoint
    if old.position_source != FROM_TABLE and not lost:
        return checkpoint
    return checkpoint.model_copy(update={name: getattr(old, name) for name in POSITION})


def with_known_files(checkpoints: Sequence[Checkpoint], existing: Suite | None) -> list[Checkpoint]:
    """Give hub checkpoints what the suite has read of their files: a commit never changes.

    What an earlier release read is read again: it knew less.
    """
    usable = {
        (c.revision, c.location): c
        for c in (existing.checkpoints if existing else [])
        if c.location.scheme == "hub" and c.is_read and c.structure
    }
    return [
        c.model_copy(update={name: getattr(old, name) for name in READ} | {"unresolved": None})
        if (old := usable.get((c.revision, c.location)))
        else c
        for c in checkpoints
    ]


def places(checkpoints: Sequence[Checkpoint]) -> set[tuple[str, str]]:
    """Return the repositories and folders that checkpoints come from."""
    locations = [checkpoint.location for checkpoint in checkpoints]
    return {
        (place.scheme, place.path if place.scheme == "hub" else str(Path(place.path).parent))
        for place in locations
    }
