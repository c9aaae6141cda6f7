"""The law of the loss increase: against the measured points, its residuals, and the U's onset.

    figures(verdicts, LineEncoding("gamma", "γ", [0.1, 0.2]), row="replicate", column="scale")

All numbers come from the verdicts on `ucurve.analysis.loss_increase_law.CLAIM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ucurve.analysis.curve_rows import clip_bands
from ucurve.analysis.loss_increase_law import CLAIM, TOLERANCE
from ucurve.figures import charts
from ucurve.figures.axes import Axis, tokens_axis
from ucurve.figures.colours import LineEncoding
from ucurve.schemas.loss_increase_laws import LossIncreaseLaw
from ucurve.schemas.results import Figure, Verdict

Row = dict[str, Any]
TOKENS = tokens_axis()
INCREASE = Axis("y", "loss increase / nats", "symlog", constant=0.001)
RATIO = Axis("y", "measured / law")
ONSET = Axis("y", "tokens where the U begins", "log")
OBSERVED, BY_LAW = "measured minimum", "law"

FITTED = (
    "Crosses with 95% intervals: mean loss increase. Lines: the law c size^a tokens^b, one for all "
    "points of a panel, fitted to the range of sizes in which it is not refuted; beyond that range "
    "it is extrapolated."
)
LINEAR_MODEL = " The linear model of the theory predicts a = 2 for small noise."
RESIDUALS = (
    "Measured loss increase over that of the law, with 95% intervals over draws. Points between "
    f"{1 / TOLERANCE:g} and {TOLERANCE:g} agree with the law; a curve that all sizes share means "
    "that tokens follow no power law."
)
ONSETS = (
    "Tokens at which unperturbed loss plus law is lowest, with a 95% band over draws and text that "
    "takes the law as exact. Crosses: minimum of the measured loss among the checkpoints, with its "
    "95% interval. A line along the first or last checkpoint means that the U may begin before it, "
    "or that there is none."
)


def figures(
    verdicts: Sequence[Verdict], lines: LineEncoding, row: str, column: str
) -> dict[str, Figure]:
    """Return the three figures of the laws; without verdicts they have no rows yet.

    lines: the sizes, by the label that holds them; row, column: labels of the panels.
    """
    laws = [
        ({name: verdict.labels.get(name) for name in (row, column)}, verdict.law)
        for verdict in verdicts
        if verdict.claim == CLAIM and verdict.law
    ]
    minima = _minima(verdicts, [panel for panel, _ in laws], lines.field, (row, column))
    onsets = [entry for panel, law in laws for entry in onset_rows(panel, law)]
    charted = partial(charts.curves, row=row, column=column)
    by_line = LineEncoding("line", "", [BY_LAW, OBSERVED], ordered=False)
    return {
        "law": Figure(
            "Power law of the loss increase",
            FITTED + (LINEAR_MODEL if lines.field == "gamma" else ""),
            charted(TOKENS, INCREASE, lines),
            {"curves": [entry for panel, law in laws for entry in fitted_rows(panel, law, lines)]},
        ),
        "law_residuals": Figure(
            "Residuals of the power law",
            RESIDUALS,
            charted(TOKENS, RATIO, lines),
            {"curves": [entry for panel, law in laws for entry in _residuals(panel, law, lines)]},
        ),
        "law_onset": Figure(
            "Where the U begins by the law",
            ONSETS,
            charted(Axis("size", lines.title, "log"), ONSET, by_line),
            {"curves": [*onsets, *minima]},
        ),
    }


def fitted_rows(panel: Mapping[str, Any], law: LossIncreaseLaw, lines: LineEncoding) -> list[Row]:
    """Return a line of the law and a cross per measured point."""
    rows: list[Row] = []
    for point in law.points:
        place = {**panel, lines.field: point.size, "tokens": point.tokens}
        ends = sorted((point.low * point.fitted, point.high * point.fitted))
        rows += [
            {"what": "mean", **place, "y": point.fitted},
            {
                "what": "reference",
                **place,
                "y": point.increase,
                "error_low": ends[0],
                "error_high": ends[1],
                "label": "measured",
            },
        ]
    return rows


def _residuals(panel: Mapping[str, Any], law: LossIncreaseLaw, lines: LineEncoding) -> list[Row]:
    rows = [
        {
            "what": "mean",
            **panel,
            lines.field: point.size,
            "tokens": point.tokens,
            "y": point.ratio,
            "low": point.low,
            "high": point.high,
        }
        for point in law.points
    ]
    return clip_bands(rows)


def onset_rows(panel: Mapping[str, Any], law: LossIncreaseLaw) -> list[Row]:
    return [
        {
            "what": "mean",
            **panel,
            "line": BY_LAW,
            "size": onset.size,
            "y": onset.tokens,
            "low": onset.low,
            "high": onset.high,
        }
        for onset in law.onsets
    ]


def _minima(
    verdicts: Sequence[Verdict],
    panels: Sequence[Mapping[str, Any]],
    field: str,
    names: tuple[str, str],
) -> list[Row]:
    """Return the measured minimum of every size in a panel that has a law."""
    return [
        {
            "what": "reference",
            **{name: verdict.labels[name] for name in names},
            "line": OBSERVED,
            "size": verdict.labels[field],
            "y": verdict.minimum.x,
            "error_low": verdict.minimum.low,
            "error_high": verdict.minimum.high,
            "label": verdict.sentence,
        }
        for verdict in verdicts
        if verdict.minimum
        and field in verdict.labels
        and {name: verdict.labels.get(name) for name in names} in panels
    ]
