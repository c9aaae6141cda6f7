"""What pages know about the lab: cached answers of the API and the experiments being polled.

Pages read from here, so that a restarting API costs one line at the top of the page.
"""

from __future__ import annotations

import gc
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
from dashboard.components.theme import empty_state, message
from dashboard.live import refresh
from dashboard.live.poller import ExperimentPoller, ExperimentSnapshot
from dashboard.live.shared_query import INTERVAL, SharedQuery
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
MAX_QUERIES = 200  # shared queries kept, each with its latest answer
MAX_ANSWERS = 30  # per session
MAX_POLLERS = 24  # experiments whose rows are kept
UNREACHABLE = "does not respond"
client = session.client
_stores_lock = Lock()


@st.cache_resource(show_spinner=False)
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="background")


def run_in_background(task: Callable[[], T]) -> Future[T]:
    """Run slow work in a thread, so that it does not delay a page."""
    return _executor().submit(task)


def warm_up() -> None:
    """Import what pages and figures need before the first visitor waits for it."""
    for name in (
        "dashboard.forms.widgets",
        "dashboard.components.chart",
        "dashboard.components.verdicts",
        "pandas",
        "altair",
        "scipy.stats",
    ):
        import_module(name)
    bundle()
    # Streamlit collects garbage after every run: without the 150,000 objects of the modules
    # that takes a fraction of the time.
    gc.collect()
    gc.freeze()


class Answers:
    """The latest answers that a session has seen: a page that stays open for days sees many."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, object] = OrderedDict()

    def get(self, key: str) -> object:
        """Return an answer, None if there is none."""
        return self._answers.get(key)

    def put(self, key: str, answer: object) -> None:
        """Keep an answer; drop the one that was used longest ago."""
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)

    def __len__(self) -> int:
        return len(self._answers)


def cached(key: str, fetch: Callable[[], T]) -> T | None:
    """Return the answer, or the last one while the API is unreachable; None before the first."""
    answers: Answers = st.session_state.setdefault("answers", Answers())
    try:
        answers.put(key, fetch())
        st.session_state["silence"] = None
    except ApiUnavailableError:
        st.session_state["silence"] = UNREACHABLE
    except RequestRejectedError as error:
        if error.status == 401:
            session.to_login()
        if error.status < 500:
            raise
        st.session_state["silence"] = f"responds with an error ({error})"
    return answers.get(key)  # type: ignore[return-value]


def run(
    body: Callable[[], None],
    interval: float | None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Draw a page, poll its queries every `interval` seconds and redraw it when one changed.

    before: called before anything is drawn, since a newer request may interrupt the run from
    the first element on.
    """

    @st.fragment
    def draw() -> None:
        refresh.begin()
        before()
        session.me()  # checks the token now and then; an invalid one leads to the login
        top, space = st.empty(), st.empty()
        if was_silent := st.session_state.get("silence"):
            show_silence(top)  # at once: the page below must not jump while the API is away
        try:
            body()
        except RequestRejectedError as error:
            show_refusal(top, error)
            return
        if silence := st.session_state.get("silence"):
            show_silence(top)
        elif was_silent:
            top.empty()
        show_full_disks(space)
        with st.container(key="pulse"):
            if interval or silence:  # without an interval a page polls only for the API's return
                refresh.poll(interval or 2, max_age=2 if silence else refresh.MAX_AGE)

    draw()


def show_silence(place: DeltaGenerator) -> None:
    place.error(
        f"The API at `{client().url}` {st.session_state['silence']}. This page shows the latest "
        "data and reconnects automatically. Workers continue.",
        icon=":material/cloud_off:",
    )


def show_full_disks(place: DeltaGenerator) -> None:
    """Say which disk is full, or will be soon."""
    states = shared_query("disks", _disk_messages, interval=5) or []
    if states:
        show = place.error if any(state == "full" for state, _ in states) else place.warning
        show(" ".join(message(text) for _, text in states), icon=":material/hard_drive:")


def _disk_messages(client: Client) -> list[tuple[str, str]]:
    return [(disk.state, disk.message) for disk in client.disks() if disk.message]


def show_refusal(place: DeltaGenerator, error: RequestRejectedError) -> None:
    """Say why the API refused what the page shows; the page does not poll any more."""
    titles = {403: "You do not have access", 404: "Not found", 410: "Deleted"}
    with place.container():
        empty_state(titles.get(error.status, "This page cannot be shown"), message(str(error)))


@st.cache_resource(show_spinner=False)
def _pollers() -> OrderedDict[int, ExperimentPoller]:
    """Return the pollers of recently viewed experiments, shared by all sessions."""
    return OrderedDict()


@st.cache_resource(show_spinner=False)
def _queries() -> OrderedDict[str, SharedQuery[Any]]:
    """Return the other queries that sessions share."""
    return OrderedDict()


def _get_or_create(store: OrderedDict[K, V], key: K, create: Callable[[], V], size: int) -> V:
    """Return the entry, created if missing; drop the least recently used beyond `size`."""
    with _stores_lock:
        if key not in store:
            store[key] = create()
        store.move_to_end(key)
        while len(store) > size:
            store.popitem(last=False)
        return store[key]


def _poller(id: int) -> ExperimentPoller:
    return _get_or_create(
        _pollers(), id, lambda: ExperimentPoller(id, run_in_background), MAX_POLLERS
    )


def shared_query(key: str, fetch: Callable[[Client], T], interval: float = INTERVAL) -> T | None:
    """Return as `cached`, for answers that are the same for every user: one request for all.

    A session that the API has not authenticated yet sends its own request.
    """
    if session.me() is None:
        return cached(key, lambda: fetch(client()))
    query: SharedQuery[T] = _get_or_create(
        _queries(), key, lambda: SharedQuery(fetch, interval), MAX_QUERIES
    )
    get = partial(query.get, client())
    return cached(key, lambda: refresh.track(key, get))


def invalidate(*keys: str) -> None:
    """Send these shared queries again at once, after an action."""
    with _stores_lock:
        queries = [_queries().get(key) for key in keys]
    for query in queries:
        if query:
            query.invalidate()


def current_snapshot(id: int) -> ExperimentSnapshot | None:
    """Return the experiment, up to date; None before its first answer.

    Raises RequestRejectedError when there is no such experiment. A session sees other sessions'
    answers only once the API has authenticated it.
    """
    key, get = f"experiment {id}", partial(_poller(id).get, client())
    snapshot = cached(key, lambda: refresh.track(key, get))
    return snapshot or (_poller(id).last if session.me() else None)


def has_existed(id: int) -> bool:
    """Return whether the experiment was seen, so that its absence means it was deleted."""
    return _poller(id).last is not None


def set_refusal(id: int, message: str | None) -> None:
    """Remember for this session why its latest action on the experiment was refused."""
    st.session_state[f"refusal {id}"] = message
    _poller(id).invalidate()


def refusal(id: int) -> str | None:
    return st.session_state.get(f"refusal {id}")
