"""Where a page shows a figure: in which tab, and by which switches among the tab's figures.

PLACES = {"loss": ("U-curve", "loss", "after"), "loss_change": ("U-curve", "loss", "increase")}
figures = placed(figures, PLACES)
tabs(figures)                                    # {"U-curve": ["loss", "loss_change"]}
switches(figures, "loss")                        # [["loss"], ["after", "increase"]]
switched(figures, "loss", 1, "increase")         # "loss_change"

A tab shows one figure at a time. Figures without a place have a tab of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ucurve.schemas.results import Figure

# Of curves over checkpoints: what is drawn, and against what.
CURVES = {
    "perplexity": ("U-curve", "perplexity", "after"),
    "loss": ("U-curve", "loss", "after"),
    "bits_per_byte": ("U-curve", "bits per byte", "after"),
    "perplexity_change": ("U-curve", "perplexity", "increase"),
    "loss_change": ("U-curve", "loss", "increase"),
    "law": ("Power law", "fit"),
    "law_residuals": ("Power law", "residuals"),
    "law_onset": ("Power law", "onset of the U"),
}


def placed(
    figures: Mapping[str, Figure], places: Mapping[str, tuple[str, ...]]
) -> dict[str, Figure]:
    """Return the figures with their places: the tab, then a choice per switch."""
    return {
        name: replace(figure, tab=places[name][0], variant=places[name][1:])
        if name in places
        else figure
        for name, figure in figures.items()
    }


def tab_of(figure: Figure) -> str:
    return figure.tab or figure.title


def tabs(figures: Mapping[str, Figure]) -> dict[str, list[str]]:
    """Return the names of the figures of every tab, in their order."""
    result: dict[str, list[str]] = {}
    for name, figure in figures.items():
        result.setdefault(tab_of(figure), []).append(name)
    return result


def switches(figures: Mapping[str, Figure], name: str) -> list[list[str]]:
    """Return the choices of every switch of a figure's tab; a later one depends on those before."""
    chosen = figures[name].variant
    others = [figures[other].variant for other in tabs(figures)[tab_of(figures[name])]]
    return [
        list(
            dict.fromkeys(
                variant[index]
                for variant in others
                if variant[:index] == chosen[:index] and len(variant) > index
            )
        )
        for index in range(len(chosen))
    ]


def switched(figures: Mapping[str, Figure], name: str, index: int, choice: str) -> str:
    """Return the figure that a switch leads to; later switches stay where that is possible."""
    chosen = figures[name].variant
    wanted = (*chosen[:index], choice)
    matches = [
        other
        for other in tabs(figures)[tab_of(figures[name])]
        if figures[other].variant[: index + 1] == wanted
    ]
    return max(
        matches, key=lambda other: figures[other].variant[index + 1 :] == chosen[index + 1 :]
    )
