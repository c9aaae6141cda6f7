"""Discover the checkpoints of a suite: in a folder, or in a repository of the hub.

>>> discover(Path("/models/mine"), "mine").checkpoints[0].tokens    # doctest: +SKIP
2097152000
>>> discover("EleutherAI/pythia-70m", "pythia-70m").evaluation      # doctest: +SKIP
'wikitext-2'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from ucurve.registry import artifacts, hub, presets
from ucurve.registry.hub_cache import HubError
from ucurve.registry.model_files import RegistrationError
from ucurve.registry.revisions import Position, infer_positions, parse_revision
from ucurve.registry.roots import LocationError, open_file, registered
from ucurve.registry.suites import PENDING, Checkpoint, Location, Suite, sort_checkpoints
from ucurve.settings import settings

WAITING = f"{PENDING}: waiting"
MAX_MANIFEST_BYTES = 16_000_000
MAX_FOLDERS = 10_000


@dataclass(frozen=True)
class Discovered:
    """Checkpoints of a suite, still to be hashed, in the order of pre-training.

    What the source says about it.
    """

    checkpoints: list[Checkpoint]
    description: str = ""
    evaluation: str | None = None


def discover(source: Path | str, suite: str, tokens_per_step: int | None = None) -> Discovered:
    """List the checkpoints of a suite.

    Args:
        source: a folder with one sub-folder per revision, or the name of a hub repository with one
            branch or tag per revision.
        suite: the name that the checkpoints get.
        tokens_per_step: where revision names give steps only; that of the preset when None.

    Raises:
        RegistrationError: nothing can be registered from there.
    """
    try:
        if isinstance(source, Path):
            return _in_folder(source, suite, tokens_per_step)
        return _on_hub(source, suite, tokens_per_step)
    except (HubError, LocationError, OSError) as error:
        raise RegistrationError(str(error)) from error


def _in_folder(folder: Path, suite: str, tokens_per_step: int | None) -> Discovered:
    """Every sub-folder with a config.json; positions from suite.json, else from the names."""
    names = _model_folders(folder)
    revisions = {name: parse_revision(name) for name in names}
    positions = infer_positions(revisions, tokens_per_step)
    manifest = _manifest(folder / "suite.json")
    for entry in manifest.checkpoints:
        if entry.revision in positions:
            positions[entry.revision] = Position(
                entry.step, entry.tokens, entry.replicate, entry.phase
            )
    locations = {name: artifacts.location_of(folder / name) for name in names}
    return Discovered(
        _checkpoints(suite, positions, locations), manifest.description, manifest.evaluation
    )


def _model_folders(folder: Path) -> list[str]:
    """Return the names of the sub-folders with a config.json. Raises LocationError where the
    folder, or a link in it, leads outside the folders that may be read.
    """
    if not registered(folder).is_dir():
        raise RegistrationError(f"{folder} is not a folder that the server can read")
    entries = list(islice(folder.iterdir(), MAX_FOLDERS + 1))
    if len(entries) > MAX_FOLDERS:
        raise RegistrationError(f"{folder} has more than {MAX_FOLDERS:,} entries")
    names = [
        entry.name
        for entry in entries
        if registered(entry).is_dir() and (entry / "config.json").is_file()
    ]
    if not names and (folder / "config.json").is_file():
        raise RegistrationError(
            f"{folder} is one checkpoint; give the parent folder, with one sub-folder per revision"
        )
    if not names:
        raise RegistrationError(
            f"no sub-folder of {folder} has a config.json; expected {folder}/REVISION/config.json"
        )
    return names


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


def _on_hub(repository: str, suite: str, tokens_per_step: int | None) -> Discovered:
    """Every branch and tag whose name gives a position; all of them when none does."""
    preset = presets.for_hub(repository)
    commits = hub.revisions(repository, settings().artefacts / "hub")
    revisions = {name: parse_revision(name) for name in commits}
    positioned = {name: r for name, r in revisions.items() if r.has_position} or revisions
    positions = infer_positions(
        positioned, tokens_per_step or preset.tokens_per_step, preset.phases
    )
    locations = {
        name: Location(scheme="hub", path=repository, commit=commits[name]) for name in positions
    }
    description = preset.description
    if left_out := sorted(commits.keys() - positions.keys()):
        note = f"Left out, because the name gives no step or tokens: {', '.join(left_out)}."
        description = f"{description} {note}".strip()
    return Discovered(_checkpoints(suite, positions, locations), description, preset.evaluation)


def _checkpoints(
    suite: str, positions: Mapping[str, Position], locations: Mapping[str, Location]
) -> list[Checkpoint]:
    return sort_checkpoints(
        Checkpoint(
            suite=suite,
            revision=name,
            location=locations[name],
            unresolved=WAITING,
            **position._asdict(),
        )
        for name, position in positions.items()
    )
