"""The law of the loss increase in one sentence or three: where it holds and where it fails.

sentence("no", law)     # "No single power law: 3 of 20 points refute it, ..."
"""

from __future__ import annotations

from functools import partial

from ucurve.formatting import tokens
from ucurve.schemas.loss_increase_laws import LawNumber, LawOnset, LossIncreaseLaw
from ucurve.schemas.results import Answer


def law_text(law: LossIncreaseLaw) -> str:
    """Return the law for people: "1.2e-05 gamma^1.98 tokens^0.61"."""
    size = f" {law.size_name}^{law.size_exponent.value:.3g}" if law.size_exponent else ""
    return f"{law.factor.value:.3g}{size} {law.x_name}^{law.tokens_exponent.value:.3g}"


def sentence(answer: Answer, law: LossIncreaseLaw) -> str:
    """Return the law with its intervals, where it fails, and how far points deviate."""
    fitted = f"{law_text(law)} (95% CI: {_intervals(law)})"
    low, high = law.sizes
    sizes = f"{law.size_name} {low:g}" + (f" to {high:g}" if high > low else "")
    factor = f"a factor of {law.tolerance:g}"
    text = {
        "yes": f"All {len(law.points)} points follow {fitted} within {factor} ({sizes}).",
        "undetermined": f"No point refutes {fitted} ({sizes}), but deviations by more than "
        f"{factor} are not ruled out.",
        "no": f"No single power law: {law.num_refuting} of {len(law.points)} points refute it.",
    }[answer]
    if answer == "no" and law.holds:
        text += f" Not refuted for {sizes}, a range chosen from the same data: {fitted}."
    elif answer == "no":
        text += f" No shorter range of sizes follows one either. {_spread(law)}"
    deviation = (
        f"Typical deviation: {law.typical_deviation:.0%} (draws alone would give "
        f"{law.sampling_deviation:.0%}; exact law: p = {law.lack_of_fit_p:.2g})."
    )
    parts = [text, f"Most deviating: {_worst(law)}.", deviation, _onset_text(law)]
    if law.size_exponent is None:
        parts.append(f"A single {law.size_name} was measured, so it has no exponent.")
    if law.num_left_out:
        parts.append(f"{law.num_left_out} points with non-finite draws are left out.")
    return " ".join(filter(None, parts))


def _at(law: LossIncreaseLaw, x: float) -> str:
    return f"{tokens(x)} tokens" if law.x_name == "tokens" else f"{x:.3g} {law.x_name}"


def _between(number: LawNumber) -> str:
    return f"{number.low:.3g} to {number.high:.3g}"


def _intervals(law: LossIncreaseLaw) -> str:
    parts = [f"factor {_between(law.factor)}"]
    if law.size_exponent:
        parts.append(f"{law.size_name} exponent {_between(law.size_exponent)}")
    return ", ".join([*parts, f"{law.x_name} exponent {_between(law.tokens_exponent)}"])


def _worst(law: LossIncreaseLaw) -> str:
    worst = law.worst
    place = f"{law.size_name} {worst.size:.3g} at {_at(law, worst.tokens)}"
    return (
        f"{place} has {worst.ratio:.3g} times the loss increase of the law (95% CI: "
        f"{worst.low:.3g} to {worst.high:.3g})"
    )


def _spread(law: LossIncreaseLaw) -> str:
    """Return how the exponents differ where only one factor changes."""
    parts = []
    for name, exponents in (
        (law.x_name, law.tokens_exponents),
        (law.size_name, law.size_exponents),
    ):
        values = [item.exponent.value for item in exponents]
        if len(values) > 1:
            parts.append(f"{name} exponent {min(values):.3g} to {max(values):.3g}")
    return f"Taken one by one: {'; '.join(parts)}." if parts else ""


def _onset_text(law: LossIncreaseLaw) -> str:
    """Return where the U begins for the smallest and the largest size with a U."""
    inside = [onset for onset in law.onsets if onset.tokens < law.last_tokens]
    if not law.onsets:
        return ""
    if not inside:
        return "By this law no U begins within these checkpoints."
    named = [inside[0], inside[-1]] if len(inside) > 1 else inside
    return f"By this law the U begins at {' and '.join(map(partial(_onset, law), named))}."


def _onset(law: LossIncreaseLaw, onset: LawOnset) -> str:
    place = "before the first checkpoint" if onset.before_first else _at(law, onset.low)
    beyond = "beyond " if onset.after_last else ""
    return (
        f"{_at(law, onset.tokens)} for {law.size_name} {onset.size:.3g} (95% CI: from {place} "
        f"to {beyond}{_at(law, onset.high)})"
    )
