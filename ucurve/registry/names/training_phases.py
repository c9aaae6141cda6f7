"""Training after pre-training, as revision names say it: extension, long-context, anneal, sft.

Such a phase counts its steps from its own start, so a number in the name is no position in
pre-training.

>>> find_phase("lc-4k-to-32k-|"), find_phase("|-cooldown_5500"), find_phase("|")
('lc-4k-to-32k', 'cooldown_5500', None)
"""

from __future__ import annotations

import re

# In the usual order; which of two phases came first is known only where names or the user say it.
WORDS = (
    r"mid(?:[-_]?train(?:ing|ed)?)?",
    r"continu(?:al|ed)(?:[-_]?pre[-_]?train(?:ing|ed)?)?|cpt",
    r"(?<!weight[-_])(?<!lr[-_])(?:anneal(?:ing|ed)?|decay(?:ing|ed)?|cool[-_]?down)",
    r"lc|lctx|long[-_]?(?:context|ctx)|(?:context|ctx)[-_]?ext(?:ension|ended)?|ext(?:ension|ended)?",
    r"post[-_]?train(?:ing|ed)?|align(?:ed|ment)?",
    r"sft|instruct(?:ion)?|chat|fine[-_]?tun(?:e|ed|ing)|ft",
    r"dpo|apo|orpo|kto|preference",
    r"rl|rlhf|rlvr|ppo|grpo|reward",
)
PATTERNS = tuple(re.compile(rf"(?<![a-z0-9])(?:{words})\d*(?![a-z0-9])") for words in WORDS)


def find_phase(unread: str) -> str | None:
    """Return the part of a name that names a phase.

    unread: a revision's name in lower case, "|" where step, tokens, stage and seed were read.
    """
    for part in unread.split("|"):
        if any(pattern.search(part) for pattern in PATTERNS):
            return part.strip("-_/=+,. ")
    return None


def phase_order(phase: str | None) -> tuple[int, list[tuple[bool, int, str]]]:
    """Return a sort key: pre-training (None) first, then the usual order, then numbers and names.

    >>> sorted(["sft", "lc-32k-to-64k", "lc-4k-to-32k", "anneal"], key=phase_order)
    ['anneal', 'lc-4k-to-32k', 'lc-32k-to-64k', 'sft']
    """
    if phase is None:
        return -1, []
    ranks = [i for i, pattern in enumerate(PATTERNS) if pattern.search(phase)]
    return min(ranks, default=len(PATTERNS)), natural_order(phase)


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which numbers in names sort as numbers.

    >>> sorted(["small-aux-10", "small-aux-2"], key=natural_order)
    ['small-aux-2', 'small-aux-10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(part[0] in "0123456789", int(part) if part.isdecimal() else 0, part) for part in parts]
