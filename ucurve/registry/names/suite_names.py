"""The names of all revisions of a suite, read together: what one leaves open, the others tell.

>>> understood = read_names(["1000", "2000", "main"])
>>> understood.positions["2000"].step, understood.left_out
(2000, {'main': 'the name gives no step or tokens'})
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from ucurve.registry.names.revisions import (
    EXPONENTS,
    MAX_COUNT,
    Phase,
    Position,
    Reading,
    Revision,
    infer_positions,
    read_name,
)
from ucurve.registry.names.training_phases import natural_order

# 1000, base_0720000: what the number counts is not said. 10B, 1.2T: tokens, or the model's size.
NUMBER = re.compile(r"(?:(base|model|pretrain(?:ed|ing)?|weights|save)[-_])?(\d{1,18})")
SIZE = re.compile(
    r"(?:(base|model|pretrain(?:ed|ing)?|weights|save)[-_])?(\d{1,6}(?:\.\d+)?)([kmbt])"
)
NO_POSITION = "the name gives no step or tokens"
DEFAULTS = frozenset({"main", "master", "head", "latest", "final", "last"})
MANY = 2 / 3  # of the names: the rest is something else


@dataclass
class Understood:
    """Positions of the revisions of a suite, where they were read, and what is not certain."""

    positions: dict[str, Position]
    sources: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # name: reason


def read_names(
    names: Iterable[str],
    tokens_per_step: int | str | None = None,
    phases: Sequence[Phase] = (),
    seeds: Mapping[str, int] | None = None,
    keep_all: bool = False,
) -> Understood:
    """Read the names of all revisions of one repository or folder.

    seeds: numbers that named seeds have already. Names that give no position are left out,
    unless none does or `keep_all` is set.
    """
    readings = {name: read_name(name) for name in sorted(names)}
    questions: list[str] = []
    for read in (_number_names, _size_names, _unknown_words):
        more, asks = read(readings)
        readings |= more
        questions += asks
    readings |= _number_seeds(readings, seeds or {})
    chosen = {
        name: reading
        for name, reading in readings.items()
        if keep_all or reading.revision.has_position
    } or readings
    revisions = {name: reading.revision for name, reading in chosen.items()}
    open_names = [(n, r.question) for n, r in readings.items() if r.question]
    questions += [f"{name}: {question}." for name, question in open_names[:5]]
    if len(open_names) > 5:
        questions.append(f"{len(open_names) - 5} more names leave open what they count.")
    return Understood(
        positions=infer_positions(revisions, tokens_per_step, phases),
        sources={name: reading.source for name, reading in chosen.items()},
        questions=questions,
        left_out={n: r.question or NO_POSITION for n, r in readings.items() if n not in chosen},
    )


Read = tuple[dict[str, Reading], list[str]]  # readings that replace others, questions


def _number_names(readings: Mapping[str, Reading]) -> Read:
    """Read names like 1000 as steps where most of the names look so."""
    numbers = _alike(readings, NUMBER)
    if not numbers:
        return {}, []
    values = [int(match[2]) for match in numbers.values()]
    listed = _some(numbers)
    reason = None
    if not _most(readings, numbers):
        reason = "most other names are not numbers"
    elif all(1950 <= value <= 2100 for value in values):
        reason = "they may be years"
    elif all(_is_date(match[2]) for match in numbers.values()):
        reason = "they may be dates"
    elif max(values) < 100:
        reason = "numbers this small may be versions or epochs"
    if reason:
        return {}, [f"{listed}: numbers without a word are not read as steps, because {reason}."]
    more = {
        name: Reading(
            Revision(step=int(match[2])), f"step: {match[2]}, a number like its siblings", ""
        )
        for name, match in numbers.items()
        if int(match[2]) <= MAX_COUNT
    }
    return more, [f"{listed}: numbers without a word are read as steps, as most names have them."]


def _size_names(readings: Mapping[str, Reading]) -> Read:
    """Read names like 10B as tokens where most of the names look so."""
    sizes = _alike(readings, SIZE)
    if not sizes:
        return {}, []
    listed = _some(sizes)
    if any(match[3] in "km" for match in sizes.values()):
        return {}, [f"{listed}: numbers without a word may count steps, words or tokens."]
    if not _most(readings, sizes):
        return {}, [f"{listed}: not read as tokens, because this may be the size of the model."]
    more = {}
    for name, match in sizes.items():
        tokens = int(float(match[2]) * 1000) * 10 ** (EXPONENTS[match[3]] - 3)
        source = f"tokens: {match[2]}{match[3].upper()}, a number like its siblings"
        more[name] = Reading(Revision(tokens=tokens), source, "")
    return more, [f"{listed}: numbers without a word are read as tokens, as most names have them."]


def _alike(readings: Mapping[str, Reading], pattern: re.Pattern[str]) -> dict[str, re.Match[str]]:
    """Return the matches of names that give no position by themselves."""
    return {
        name: match
        for name, reading in readings.items()
        if not reading.revision.has_position and reading.revision.training_phase is None
        if (match := pattern.fullmatch(name.lower()))
    }


def _most(readings: Mapping[str, Reading], alike: Mapping[str, object]) -> bool:
    """Return whether several names, and most of those that could be positions, are alike."""
    others = [
        name
        for name, reading in readings.items()
        if name not in alike and reading.revision.training_phase is None
        if name.lower() not in DEFAULTS and any(character.isdigit() for character in name)
    ]
    return len(alike) > max(1, len(others))


def _is_date(digits: str) -> bool:
    try:
        return len(digits) == 8 and 1990 <= date.fromisoformat(digits).year <= 2100
    except ValueError:
        return False


def _unknown_words(readings: Mapping[str, Reading]) -> Read:
    """Keep names with other words than most apart: their numbers may count something else."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, reading in readings.items():
        if reading.revision.has_position and reading.revision.training_phase is None:
            groups[reading.unread].append(name)
    if len(groups) < 2:
        return {}, []
    sizes = Counter({word: len(names) for word, names in groups.items()})
    most, size = sizes.most_common(1)[0]
    words = ", ".join(f"“{word}”" for word in sorted(groups) if word and word != most)
    if size < MANY * sizes.total() or not words:
        every = ", ".join(f"“{word}”" for word in sorted(groups) if word)
        return {}, [f"The names differ in {every}: all are taken for the same training."]
    apart = {
        name: readings[name]._replace(
            revision=readings[name].revision._replace(training_phase=word),
            source=f"{readings[name].source}, phase: {word}, an unknown word",
        )
        for word, names in groups.items()
        if word and word != most
        for name in names
    }
    return apart, [
        f"{_some(apart)}: {words} means nothing here, so they are kept apart from pre-training, as "
        "a training phase of their own."
    ]


def _number_seeds(
    readings: Mapping[str, Reading], numbered: Mapping[str, int]
) -> dict[str, Reading]:
    """Number seeds that are words: those known as before, then default, then by name."""
    names = {r.revision.replicate_name for r in readings.values() if r.revision.replicate_name}
    taken = {r.revision.replicate for r in readings.values() if r.revision.replicate is not None}
    taken |= set(numbered.values())
    numbers = {name: numbered[name] for name in names if name in numbered}
    free = (number for number in itertools.count() if number not in taken)
    for name in sorted(names - numbers.keys(), key=lambda n: (n != "default", natural_order(n))):
        numbers[name] = next(free)
    return {
        name: reading._replace(
            revision=reading.revision._replace(replicate=numbers[reading.revision.replicate_name])
        )
        for name, reading in readings.items()
        if reading.revision.replicate_name
    }


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"{', '.join(listed[:3])}{more}"
