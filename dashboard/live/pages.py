"""What a page knows of the lab: the last answers of the API, kept while it is silent, and the experiments being followed.

Pages draw from here, so that a restarting API costs a line at the top of the page and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from threading import Lock
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard.auth import session
from dashboard.components.chart import bundle
from dashboard.live import refresh
from dashboard.live.poller import Follower, Watched
from dashboard.live.shared_query import EVERY, Question
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError

T = TypeVar("T")
K = TypeVar("K")
Q = TypeVar("Q")
QUESTIONS = 200  # filters and pages of lists, each with its last answer
FOLLOWED = 24  # experiments whose rows are kept while nobody looks
client = session.client
_keeping = Lock()


@st.cache_resource(show_spinner=False)
def _aside() -> ThreadPoolExecutor:
    """For what takes long and must not hold up a page."""
    return ThreadPoolExecutor(4, thread_name_prefix="aside")


def aside(ask: Callable[[], T]) -> Future[T]:
    """The answer, when it comes."""
    return _aside().submit(ask)


def warm_up() -> None:
    """Load what pages and figures are made with before the first visitor waits for it; the server does so as it starts."""
    for name in (
        "dashboard.forms.widgets",
        "dashboard.components.chart",
        "dashboard.components.results",
        "pandas",
        "altair",
        "scipy.stats",
    ):
        import_module(name)
    bundle()


def latest(key: str, ask: Callable[[], T]) -> T | None:
    """The answer, or the last one there was while the API is silent; None when there was none."""
    held = st.session_state.setdefault("held", {})
    try:
        held[key] = ask()
        st.session_state["silence"] = None
    except ApiUnavailableError:
        st.session_state["silence"] = "does not answer"
    except RequestRejectedError as error:
        if error.status == 401:
            session.to_login()
        if error.status < 500:
            raise
        st.session_state["silence"] = f"answers with an error ({error})"
    return held.get(key)  # type: ignore[no-any-return]


def page(
    body: Callable[[], None], every: float | None, first: Callable[[], None] = lambda: None
) -> None:
    """Draw a page, and draw it again when an answer it was drawn from has changed, asked for every so many seconds.

    first: done before anything is drawn, because with the first element a newer request may break the run off.
    """

    @st.fragment
    def drawn() -> None:
        refresh.begin()
        first()
        session.me()  # now and then: whose token has ended goes to the login
        top = st.empty()
        if silent_before := st.session_state.get("silence"):
            say_silence(
                top
            )  # at once: what is below must not jump up and down while the API is silent
        body()
        if silence := st.session_state.get("silence"):
            say_silence(top)
        elif silent_before:
            top.empty()
        with st.container(key="pulse"):
            if every or silence:  # a page without a clock has one while the API is silent
                refresh.beat(every or 2, oldest=2 if silence else refresh.OLDEST)

    drawn()


def say_silence(place: DeltaGenerator) -> None:
    what = f"The API at `{client().url}` {st.session_state['silence']}."
    place.error(
        f"{what} What is shown is the last that arrived; this page keeps asking and goes on by itself. Measuring goes on.",
        icon=":material/cloud_off:",
    )


@st.cache_resource(show_spinner=False)
def _followers() -> OrderedDict[int, Follower]:
    """One per experiment that somebody looked at lately, for all sessions."""
    return OrderedDict()


@st.cache_resource(show_spinner=False)
def _questions() -> OrderedDict[str, Question[Any]]:
    """The other questions that sessions ask together."""
    return OrderedDict()


def _kept(store: OrderedDict[K, Q], key: K, make: Callable[[], Q], most: int) -> Q:
    """The store's own, made where missing; what nobody asked for lately makes room."""
    with _keeping:
        if key not in store:
            store[key] = make()
        store.move_to_end(key)
        while len(store) > most:
            store.popitem(last=False)
        return store[key]


def _follower(id: int) -> Follower:
    return _kept(_followers(), id, lambda: Follower(id, aside), FOLLOWED)


def shared(key: str, ask: Callable[[Client], T], every: float = EVERY) -> T | None:
    """As `latest`, for what is the same to everybody: one question for all sessions, asked by whichever comes first.

    Whom the API has not said to know asks for themselves.
    """
    if session.me() is None:
        return latest(key, lambda: ask(client()))
    question: Question[T] = _kept(_questions(), key, lambda: Question(ask, every), QUESTIONS)
    look = partial(question.look, client())
    return latest(key, lambda: refresh.drawn_from(key, look))


def anew(*keys: str) -> None:
    """After an action: these shared questions are asked again at once."""
    for key in keys:
        if question := _questions().get(key):
            question.refresh()


def watched(id: int) -> Watched | None:
    """The experiment, brought up to date; None while nothing is known of it. Raises RequestRejectedError when there is none.

    What other sessions were shown is for this one too, but not before the API has said that it knows who looks.
    """
    key, look = f"experiment {id}", partial(_follower(id).look, client())
    now = latest(key, lambda: refresh.drawn_from(key, look))
    return now or (_follower(id).known if session.me() else None)


def refused(id: int, words: str | None) -> None:
    """Remember for this session why its last action on the experiment was not done."""
    st.session_state[f"refusal {id}"] = words
    _follower(id).refresh()


def refusal(id: int) -> str | None:
    return st.session_state.get(f"refusal {id}")
