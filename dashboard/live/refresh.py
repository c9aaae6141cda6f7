"""Redraws a page when an answer it shows has changed, and regularly, since pages show ages.

    refresh.begin()
    users = refresh.track("users", client.users)    # polled by the page's browser
    ...
    refresh.poll(interval=0.4)

The browser polls a route of its own (refresh.js): drawing a page costs a hundred times as much as
polling, in the browser and on the server, and pages redrawn every second lagged with ten viewers.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import threading
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
MIN_AGE = 0.5  # seconds before a page is redrawn
MAX_AGE = 10.0  # seconds after which a page is redrawn in any case
TIMEOUT = 120.0  # seconds without a poll after which a page and its rows are dropped


@dataclass
class RenderedPage:
    """The queries a page was drawn from, which need no session, and their answers.

    The page's script adds queries while the polling route reads them in another thread.
    """

    queries: dict[str, tuple[Callable[[], Any], Any]] = field(default_factory=dict)
    polled_at: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=partial(next, itertools.count(1)))
    stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, key: str, fetch: Callable[[], Any], answer: Any) -> None:
        with self._lock:
            self.queries[key] = fetch, answer

    def changed(self) -> bool:
        """Return whether any query has another outcome than the one drawn."""
        with self._lock:
            queries = list(self.queries.values())
        return any(_outcome(fetch) != answer for fetch, answer in queries)


pages: dict[str, RenderedPage] = {}
_pages_lock = threading.Lock()


def _failure(error: ClientError) -> tuple[type[ClientError], int | None]:
    """Return what distinguishes one failure from another."""
    return type(error), getattr(error, "status", None)


def _outcome(fetch: Callable[[], Any]) -> Any:
    """Return the answer, or the kind of failure."""
    try:
        return fetch()
    except ClientError as error:
        return _failure(error)


@st.cache_resource(show_spinner=False)
def _component() -> Any:
    return st.components.v2.component(
        "ucurve_pulse", html="<i></i>", js=Path(__file__).with_name("refresh.js").read_text()
    )


def begin() -> None:
    """Forget the queries of the previous drawing."""
    st.session_state["rendered page"] = RenderedPage()


def _page() -> RenderedPage:
    page: RenderedPage = st.session_state.setdefault("rendered page", RenderedPage())
    return page


def track(key: str, fetch: Callable[[], T]) -> T:
    """Return the answer of `fetch` and redraw the page when it changes or fails.

    `fetch` must not need a session: the polling route calls it, too.
    """
    page = _page()
    try:
        answer = fetch()
    except ClientError as error:
        page.add(key, fetch, _failure(error))
        raise
    page.add(key, fetch, answer)
    return answer


def stop() -> None:
    """Do not poll for this drawing: what it shows is final until the page is reloaded."""
    _page().stopped = True


def poll(interval: float, max_age: float = MAX_AGE) -> None:
    """Let the browser poll every `interval` seconds; call it last, in a container of its own."""
    run, page = get_script_run_ctx(), _page()
    if page.stopped:
        return
    session = f"{run and run.session_id} pulse".encode()
    address = hmac.new(SECRET, session, hashlib.sha256).hexdigest()
    with _pages_lock:
        pages[address] = page
    drop_pages(polled_before=time.monotonic() - TIMEOUT)
    data = {
        "address": f"pulse/{address}",
        "interval": interval,
        "minAge": MIN_AGE,
        "maxAge": max(max_age, interval),
        "drawn": page.number,
    }
    _component()(key="pulse:beat", data=data, on_due_change=lambda: None, height=1)


def drop_pages(polled_before: float) -> None:
    """Drop pages that no longer poll: closed, or in a tab that the browser has suspended."""
    with _pages_lock:
        for address, page in list(pages.items()):
            if page.polled_at < polled_before:
                del pages[address]


def answer_poll(request: Request) -> JSONResponse:
    """Answer GET /pulse/{page}; not async, so that it runs in a thread."""
    with _pages_lock:
        page = pages.get(request.path_params["page"])
    if page is not None:
        page.polled_at = time.monotonic()
    changed = page is not None and page.changed()
    return JSONResponse({"changed": changed}, headers={"Cache-Control": "no-store"})


ROUTES = [Route("/pulse/{page}", answer_poll, methods=["GET"])]
