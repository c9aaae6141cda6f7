"""Discover the checkpoints of a suite: in a folder, or in a repository of the hub.

>>> discover(Path("/models/mine"), "mine").checkpoints[0].tokens    # doctest: +SKIP
2097152000
>>> discover("EleutherAI/pythia-70m", "pythia-70m").evaluation      # doctest: +SKIP
'wikitext-2'
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from ucurve.registry import artifacts, hub, presets
from ucurve.registry.foreign_files import foreign_files
from ucurve.registry.hub_cache import HubError
from ucurve.registry.misplaced_models import misplaced
from ucurve.registry.names.revisions import Position, parse_revision
from ucurve.registry.names.suite_names import Understood, read_names
from ucurve.registry.roots import LocationError, open_file, registered
from ucurve.registry.suites import PENDING, Checkpoint, Location, Suite, sort_checkpoints
from ucurve.registry.tensors.model_files import RegistrationError
from ucurve.settings import settings

WAITING = f"{PENDING}: waiting"
MAX_MANIFEST_BYTES = 16_000_000
MAX_FOLDERS = 10_000


@dataclass(frozen=True)
class Discovered:
    """Checkpoints of a suite, still to be hashed, in the order of training.

    What the source says about it, what its names leave open, and revisions whose names give no
    position.
    """

    checkpoints: list[Checkpoint]
    description: str = ""
    evaluation: str | None = None
    questions: list[str] = field(default_factory=list)
    left_out: list[Checkpoint] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)  # why they are left out, by revision


def discover(
    source: Path | str | Sequence[str],
    suite: str,
    tokens_per_step: int | str | None = None,
    seeds: Mapping[str, int] | None = None,
) -> Discovered:
    """List the checkpoints of a suite.

    Args:
        source: a folder with one sub-folder per revision, or the name of a hub repository with one
            branch or tag per revision, or several of these: one pre-training seed each.
        suite: the name that the checkpoints get.
        tokens_per_step: where revision names give steps only, a number or ranges as in
            `token_batches`; that of the preset when None.
        seeds: numbers that named seeds have already.

    Raises:
        RegistrationError: nothing can be registered from there.
    """
    try:
        if isinstance(source, Path):
            return _in_folder(source, suite, tokens_per_step, seeds)
        if isinstance(source, str):
            return _on_hub(source, suite, tokens_per_step, seeds)
        return _replicated(source, suite, tokens_per_step)
    except (HubError, LocationError, OSError) as error:
        raise RegistrationError(str(error)) from error


def _in_folder(
    folder: Path, suite: str, tokens_per_step: int | str | None, seeds: Mapping[str, int] | None
) -> Discovered:
    """Every sub-folder with a config.json; positions from suite.json, else from the names."""
    names = _model_folders(folder)
    read = read_names(names, tokens_per_step, seeds=seeds, keep_all=True)
    manifest = _manifest(folder / "suite.json")
    for entry in manifest.checkpoints:
        if entry.revision in read.positions:
            read.positions[entry.revision] = Position(
                **{name: getattr(entry, name) for name in Position._fields}
            )
            read.sources[entry.revision] = "suite.json"
    locations = {name: artifacts.location_of(folder / name) for name in names}
    return Discovered(
        _checkpoints(suite, read, locations),
        manifest.description,
        manifest.evaluation,
        read.questions,
    )


def _model_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders with a config.json, and of those named like a revision
    that hold another program's files, which are listed with the reason.

    Raises LocationError where the folder, or a link in it, leads outside the folders that may be
    read.
    """
    if not registered(folder).is_dir():
        raise RegistrationError(f"{folder} is not a folder that the server can read")
    entries = list(islice(folder.iterdir(), MAX_FOLDERS + 1))
    if len(entries) > MAX_FOLDERS:
        raise RegistrationError(f"{folder} has more than {MAX_FOLDERS:,} entries")
    folders = [entry for entry in entries if registered(entry).is_dir()]
    names = [entry.name for entry in folders if (entry / "config.json").is_file()]
    others = _foreign_folders(entry for entry in folders if entry.name not in names)
    if not names and (folder / "config.json").is_file():
        raise RegistrationError(
            f"{folder} is one checkpoint; give the parent folder, with one sub-folder per revision"
        )
    if not names:
        reasons = [f"{name} holds {reason}" for name, reason in sorted(others.items())]
        if reason := foreign_files(entry.name for entry in entries):
            reasons.append(f"{folder} holds {reason}")
        raise RegistrationError(
            next(iter(reasons), f"no sub-folder of {folder} has a config.json")
            + f"; expected {folder}/REVISION/config.json"
        )
    return [*names, *(name for name in others if parse_revision(name).has_position)]


def _foreign_folders(folders: Iterable[Path]) -> dict[str, str]:
    """Return what checkpoints without a config.json hold, by their names."""
    contents = {folder.name: _foreign(folder) for folder in folders}
    return {name: reason for name, reason in contents.items() if reason}


def _foreign(folder: Path) -> str | None:
    """Return what a folder without a config.json holds, there or below; None for anything else."""
    names = os.listdir(folder)
    beside = not parse_revision(folder.name).has_position  # the checkpoints: is not searched
    return (None if beside else misplaced(folder, names)) or foreign_files(names)


def _manifest(path: Path) -> Suite:
    """Return the suite.json of a folder; an empty suite when there is none."""
    try:
        with open_file(path) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError:
        return Suite(name="")
    if len(content) > MAX_MANIFEST_BYTES:
        raise RegistrationError(f"{path} is larger than {MAX_MANIFEST_BYTES // 10**6} MB")
    try:
        return Suite.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RegistrationError(f"{path} is not a suite: {first['loc']} {first['msg']}") from error


def _on_hub(
    repository: str, suite: str, tokens_per_step: int | str | None, seeds: Mapping[str, int] | None
) -> Discovered:
    """Every branch and tag whose name gives a position; all of them when none does."""
    preset = presets.for_hub(repository)
    read, locations = _read_refs(repository, tokens_per_step, seeds)
    description = preset.description
    if read.left_out:
        names = ", ".join(sorted(read.left_out))
        note = f"Left out, because the name gives no step or tokens: {names}."
        description = f"{description} {note}".strip()
    return Discovered(
        _checkpoints(suite, read, locations),
        description,
        preset.evaluation,
        read.questions,
        [_checkpoint(suite, name, NOWHERE, locations[name]) for name in sorted(read.left_out)],
        read.left_out,
    )


def _read_refs(
    repository: str, tokens_per_step: int | str | None, seeds: Mapping[str, int] | None = None
) -> tuple[Understood, dict[str, Location]]:
    """Return what the names of a repository's refs say, and the location of each."""
    preset = presets.for_hub(repository)
    commits = hub.revisions(repository, settings().artefacts / "hub")
    locations = {
        name: Location(scheme="hub", path=repository, commit=commit)
        for name, commit in commits.items()
    }
    per_step = tokens_per_step or preset.tokens_per_step
    return read_names(commits, per_step, preset.phases, seeds), locations


def _replicated(
    repositories: Sequence[str], suite: str, tokens_per_step: int | str | None
) -> Discovered:
    """One suite of several repositories, a pre-training seed each."""
    seeds = number_repositories(repositories)
    everything, locations = Understood({}), {}
    for repository in repositories:
        read, refs = _read_refs(repository, tokens_per_step)
        if any(p.replicate or p.replicate_name for p in read.positions.values()):
            raise RegistrationError(
                f"the revisions of {repository} name seeds themselves: register it alone"
            )
        short = repository.rsplit("/", 1)[-1]
        for name, position in read.positions.items():
            revision = f"{short}@{name}"
            everything.positions[revision] = position._replace(
                replicate=seeds[repository], replicate_name=short
            )
            everything.sources[revision] = f"{read.sources[name]}, seed: {repository}"
            locations[revision] = refs[name]
        everything.questions += [f"{short}: {question}" for question in read.questions]
    preset = presets.replicated_by(repositories)
    return Discovered(
        _checkpoints(suite, everything, locations),
        preset.description if preset else "",
        preset.evaluation if preset else None,
        everything.questions,
    )


def number_repositories(repositories: Sequence[str]) -> dict[str, int]:
    """Number repositories by the seeds in their names; those without take the first free numbers.

    >>> number_repositories(["EleutherAI/pythia-14m-seed3", "EleutherAI/pythia-14m"])
    {'EleutherAI/pythia-14m-seed3': 3, 'EleutherAI/pythia-14m': 0}
    """
    shorts = {repository.rsplit("/", 1)[-1].lower() for repository in repositories}
    if len(shorts) < len(repositories):
        raise RegistrationError("two of the repositories have the same name")
    named = {name: parse_revision(name.rsplit("/", 1)[-1]).replicate for name in repositories}
    numbers = [number for number in named.values() if number is not None]
    if len(set(numbers)) < len(numbers):
        named = dict.fromkeys(repositories)
        numbers = []
    free = (number for number in range(len(repositories) + len(numbers)) if number not in numbers)
    return {name: next(free) if seed is None else seed for name, seed in named.items()}


NOWHERE = Position(step=None, tokens=None, replicate=0, phase=None)


def _checkpoints(
    suite: str, read: Understood, locations: Mapping[str, Location]
) -> list[Checkpoint]:
    return sort_checkpoints(
        _checkpoint(suite, name, position, locations[name], read.sources.get(name))
        for name, position in read.positions.items()
    )


def _checkpoint(
    suite: str, name: str, position: Position, location: Location, source: str | None = None
) -> Checkpoint:
    return Checkpoint(
        suite=suite,
        revision=name,
        location=location,
        unresolved=WAITING,
        position_source=source,
        **position._asdict(),
    )
