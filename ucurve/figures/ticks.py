"""Where a logarithmic axis has its ticks: at least three wherever it spans two different values.

    ticks(2.1e9, 8.4e9)             # [4e9, 6e9, 8e9]
    alt.Axis(values=alt.expr(TICKS), labelExpr=TICK_LABEL)    # follows the zoom of the axis

Multiples of 1, 2 and 5 over a decade or more, equal steps below that, one tick for one value.
"""

from __future__ import annotations

import math

DECADE = 10.0
MANY_DECADES = 4  # from here on, powers of ten are ticks enough
POWERS = range(-4, 16)
PIXELS_PER_DECADE = 90  # that labels at 1, 2 and 5 need
ALL = [float(f"{digit}e{power}") for power in POWERS for digit in (1, 2, 5)]
TENS = ALL[::3]


def ticks(low: float, high: float) -> list[float]:
    """Return the ticks between two positive values, of which a logarithmic axis is made."""
    if high <= low * (1 + 1e-9):
        return [low]
    if high < DECADE * low:
        step = _nice((high - low) / 3)
        first, last = math.ceil(low / step), math.floor(high * (1 + 1e-9) / step)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    digits = (1,) if high >= 10**MANY_DECADES * low else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = (float(f"{digit}e{power}") for power in powers for digit in digits)
    return [value for value in every if low <= value <= high]


def _nice(step: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit for digit in (5, 2, 1, 0.5) if digit * power <= step) * power


def compact(digits: int) -> str:
    """Return the Vega expression of tokens in short, such as 0.9M, 2.1B or 1.2T."""
    return (
        "datum.value == 0 ? '0'"
        f" : datum.value >= 1e12 ? format(datum.value / 1e12, '.{digits}~r') + 'T'"
        f" : datum.value >= 1e9 ? format(datum.value / 1e9, '.{digits}~r') + 'B'"
        f" : datum.value >= 1e5 ? format(datum.value / 1e6, '.{digits}~r') + 'M'"
        f" : format(datum.value, datum.value < 1e3 ? '.{digits}~r' : '.{digits}~s')"
    )


def _expression() -> str:
    """Return `ticks` as an expression of Vega over the scale named x, wherever it is zoomed to."""
    low, high, rise = "domain('x')[0]", "domain('x')[1]", "(span(domain('x')) / 3)"
    power = f"pow(10, floor(log({rise}) / LN10))"
    step = f"(({rise} >= 5 * {power} ? 5 : {rise} >= 2 * {power} ? 2 : 1) * {power})"
    decades = f"log({high} / {low}) / LN10"
    crowded = f"{decades} > max({MANY_DECADES}, abs(span(range('x'))) / {PIXELS_PER_DECADE})"
    steps = f"sequence(ceil({low} / {step}) * {step}, {high} * (1 + 1e-9), {step})"
    return (
        f"{high} <= {low} * (1 + 1e-9) ? [{low}] : {high} < {DECADE:g} * {low} ? {steps}"
        f" : {crowded} ? {TENS} : {ALL}"
    )


TICKS = _expression()
# Ticks within a few per cent of one another differ in their fourth digit or later.
TICK_LABEL = (
    "domain('x')[1] > domain('x')[0] && domain('x')[1] < 1.1 * domain('x')[0]"
    f" ? ({compact(6)}) : ({compact(3)})"
)
