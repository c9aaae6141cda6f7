"""What a page was drawn from: it is drawn again when an answer, a silence or a refusal is another one, and not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dashboard.live import refresh
from dashboard.live.refresh import Drawing
from ucurve.client import ApiUnavailableError


def failing(error: Exception) -> Callable[[], Any]:
    def ask() -> Any:
        raise error

    return ask


SILENT = failing(ApiUnavailableError("no answer"))


@pytest.mark.parametrize(
    ("ask", "shown", "changed"),
    [
        (lambda: {"done": 3}, {"done": 3}, False),
        (lambda: {"done": 4}, {"done": 3}, True),
        (SILENT, {"done": 3}, True),
        (SILENT, ApiUnavailableError, False),
        (lambda: {"done": 3}, ApiUnavailableError, True),
    ],
    ids=[
        "the same answer",
        "another answer",
        "silence after an answer",
        "silence as before",
        "an answer after silence",
    ],
)
def test_a_page_is_drawn_again_when_what_it_was_drawn_from_has_changed(
    ask: Callable[[], Any], shown: Any, changed: bool
) -> None:
    drawing = Drawing({"other": (lambda: 1, 1), "asked": (ask, shown)})
    assert drawing.changed() is changed


def test_every_drawing_has_a_number_of_its_own_by_which_the_browser_knows_it() -> None:
    assert Drawing().number != Drawing().number


def test_a_page_that_asks_no_more_is_forgotten_with_what_it_was_drawn_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, closed = Drawing(asked=10.0), Drawing(asked=5.0)
    monkeypatch.setattr(refresh, "drawings", {"kept": kept, "closed": closed})
    refresh.forget(before=7.0)
    assert refresh.drawings == {"kept": kept}
