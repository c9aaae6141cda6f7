"""Models one or two folders below where a checkpoint is looked for, and where to move them.

Some trainers write `step1000/model/consolidated/config.json`, and newer DeepSpeed a folder that is
called pytorch_model.bin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from ucurve.registry.foreign_files import foreign_files

WEIGHTS = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")
MAX_FOLDERS = 64  # that are looked into


def misplaced(folder: Path, names: Collection[str]) -> str | None:
    """Return where the model of a folder lies instead, and what to do; None where it is in place,
    or nothing is known of it.

    names: of what is in the folder.
    """
    for name in filter(WEIGHTS.fullmatch, sorted(names)):
        if (folder / name).is_dir():
            return (
                f"a folder that is called {name}, as zero_to_fp32.py of DeepSpeed writes it: move "
                "the files in it one level up, beside config.json"
            )
    if "config.json" in names and any(map(WEIGHTS.fullmatch, names)):
        return None
    below = list(islice(_below(folder), MAX_FOLDERS))
    for inner, files in below:
        if "config.json" in files and any(map(WEIGHTS.fullmatch, files)):
            return f"a model in its sub-folder {inner}: move the files of {inner} up into {folder}"
    if foreign_files(names) or any(map(WEIGHTS.fullmatch, names)):
        return None
    reasons = ((inner, foreign_files(files)) for inner, files in below)
    return next(
        (f"in its sub-folder {inner} {reason}" for inner, reason in reasons if reason), None
    )


def _below(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders one and two levels below, and the names in them; no link is followed."""
    for name in _folders(folder):
        yield name, _names(folder / name)
        for inner in _folders(folder / name):
            yield f"{name}/{inner}", _names(folder / name / inner)


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:  # may not be read: nothing is known of it
        return []


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
