"""Which noise seeds the pre-training seeds of an experiment have, for captions."""

from __future__ import annotations

from collections.abc import Mapping

SHARED = "the same for all pre-training seeds, so that their errors are not independent"


def noise_text(first_seeds: Mapping[int, int], draws: int) -> str:
    """Return a sentence about noise seeds: "Noise seeds: 0 to 7.".

    first_seeds: the first noise seed of every pre-training seed that was measured.
    """
    ranges = {
        replicate: f"{first} to {first + draws - 1}" if draws > 1 else str(first)
        for replicate, first in first_seeds.items()
    }
    own = list(dict.fromkeys(ranges.values()))
    if len(ranges) < 2:
        return f"Noise seeds: {own[0]}." if own else ""
    if len(own) == 1:
        return f"Noise seeds: {own[0]}, {SHARED}."
    each = ", ".join(f"{seeds} (pre-training seed {name})" for name, seeds in ranges.items())
    return f"Noise seeds: {each}."
