"""When a page is drawn again: when an answer it was drawn from has changed, and now and then, since it says how old things are.

    pulse.begin()
    users = pulse.drawn_from("users", client.users)    # asked again by the page's browser
    ...
    pulse.beat(every=0.4)

The browser asks by a route of its own (pulse.js): drawing a page takes a hundred times as long as asking, here and there, and
pages that are drawn every second were late with ten people looking.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboard.components.downloads import SECRET
from ucurve.client import ClientError

T = TypeVar("T")
YOUNGEST, OLDEST = (
    0.5,
    10.0,
)  # seconds: a page is not drawn again before, nor left as it is for longer
FORGOTTEN = 120.0  # seconds after which a page that asks no more is forgotten, with the rows it was drawn from


@dataclass
class Drawing:
    """What a page was drawn from: questions, which need no session, and their answers."""

    questions: dict[str, tuple[Callable[[], Any], Any]] = field(default_factory=dict)
    asked: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=partial(next, itertools.count(1)))

    def changed(self) -> bool:
        return any(_asked(ask) != answer for ask, answer in self.questions.values())


drawings: dict[str, Drawing] = {}


def _asked(ask: Callable[[], Any]) -> Any:
    """The answer, or the sort of silence or refusal."""
    try:
        return ask()
    except ClientError as error:
        return type(error)


@st.cache_resource(show_spinner=False)
def _element() -> Any:
    return st.components.v2.component(
        "ucurve_pulse", html="<i></i>", js=Path(__file__).with_name("refresh.js").read_text()
    )


def begin() -> None:
    """Forget what the page was drawn from before."""
    st.session_state["drawing"] = Drawing()


def drawn_from(key: str, ask: Callable[[], T]) -> T:
    """Ask, and have the page drawn again when `ask`, which needs no session, gives another answer, or fails otherwise."""
    questions = st.session_state.setdefault("drawing", Drawing()).questions
    try:
        answer = ask()
    except ClientError as error:
        questions[key] = ask, type(error)
        raise
    questions[key] = ask, answer
    return answer


def beat(every: float, oldest: float = OLDEST) -> None:
    """Let the browser ask every so many seconds from now on; call it when everything is drawn, in a place of its own."""
    run, drawing = get_script_run_ctx(), st.session_state["drawing"]
    mine = hmac.new(SECRET, f"{run and run.session_id} pulse".encode(), hashlib.sha256).hexdigest()
    drawings[mine] = drawing
    forget(time.monotonic() - FORGOTTEN)
    data = {
        "address": f"pulse/{mine}",
        "every": every,
        "youngest": YOUNGEST,
        "oldest": max(oldest, every),
        "drawn": drawing.number,
    }
    _element()(key="pulse:beat", data=data, on_due_change=lambda: None, height=1)


def forget(before: float) -> None:
    """Drop the pages that have not asked since that moment: closed, or in a tab that its browser has put to sleep."""
    for page in [page for page, drawing in list(drawings.items()) if drawing.asked < before]:
        drawings.pop(page, None)


def look(request: Request) -> JSONResponse:
    """GET /pulse/{page}; a plain function, so that it runs beside the event loop."""
    found = drawings.get(request.path_params["page"])
    if found is not None:
        found.asked = time.monotonic()
    return JSONResponse(
        {"changed": found is not None and found.changed()}, headers={"Cache-Control": "no-store"}
    )


ROUTES = [Route("/pulse/{page}", look, methods=["GET"])]
