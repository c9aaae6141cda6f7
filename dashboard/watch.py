"""What a page knows of the lab: the last answers of the API, kept while it is silent, and one experiment followed.

Pages draw from here, so that a restarting API costs a line at the top of the page and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import session
from ucurve.client import NoAnswerError, RefusedError
from ucurve.experiments import parse
from ucurve.records import Experiment, MeasurementRow, frame
from ucurve.spec import Figure, Verdict

T = TypeVar("T")
ENDED = ("done", "failed", "cancelled")
client = session.client


@st.cache_resource(show_spinner=False)
def _aside() -> ThreadPoolExecutor:
    """For answers that take long and must not hold up the figures."""
    return ThreadPoolExecutor(2, thread_name_prefix="verdicts")


def aside(ask: Callable[[], T]) -> Future[T]:
    """The answer, when it comes."""
    return _aside().submit(ask)


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Load what figures are made with before somebody waits for one."""
    _aside().submit(lambda: [import_module(name) for name in ("pandas", "altair", "scipy.stats")])


def latest(key: str, ask: Callable[[], T]) -> T | None:
    """The answer, or the last one there was while the API is silent; None when there was none."""
    held = st.session_state.setdefault("held", {})
    try:
        held[key] = ask()
        st.session_state["silence"] = None
    except NoAnswerError:
        st.session_state["silence"] = "does not answer"
    except RefusedError as error:
        if error.status == 401:
            session.to_login()
        if error.status < 500:
            raise
        st.session_state["silence"] = f"answers with an error ({error})"
    return held.get(key)  # type: ignore[no-any-return]


def page(body: Callable[[], None], every: float | None, first: Callable[[], None] = lambda: None) -> None:
    """Draw a page and draw it again every so many seconds: its one fragment.

    first: done before anything is drawn, because with the first element a newer request may break the run off.
    """

    silent = bool(st.session_state.get("silence"))

    @st.fragment(run_every=every or (2 if silent else None))
    def tick() -> None:
        first()
        session.me()  # now and then: whose token has ended goes to the login
        top = st.empty()
        if silent_before := st.session_state.get("silence"):
            say_silence(top)  # at once: what is below must not jump up and down while the API is silent
        body()
        if silence := st.session_state.get("silence"):
            say_silence(top)
        elif silent_before:
            top.empty()
        if not every and silent != bool(silence):
            st.rerun()  # a page without a clock has one while the API is silent

    tick()


def say_silence(place: DeltaGenerator) -> None:
    what = f"The API at `{client().url}` {st.session_state['silence']}."
    place.error(
        f"{what} What is shown is the last that arrived; this page keeps asking and goes on by itself. Measuring goes on.",
        icon=":material/cloud_off:",
    )


@dataclass
class Watched:
    """One experiment as last seen: its rows by cursor, and the figures and verdicts made of them."""

    id: int
    experiment: Experiment
    rows: dict[int, MeasurementRow] = field(default_factory=dict)
    cursor: int = 0
    figures: dict[str, Figure] = field(default_factory=dict)
    figure_problem: str | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    verdicts_of: int = 0  # how many points were measured when they were given
    verdict_problem: str | None = None
    refusal: str | None = None  # why the last action was not done
    _drawn: int = -1  # cursor at which the figures were made
    _draw_seconds: float = 0.0
    _draw_at: float = 0.0
    _asked: int = -1  # cursor at which verdicts were asked for
    _asking: Future[list[Verdict]] | None = None
    _asking_of: int = 0
    _seen_at: float = 0.0

    @property
    def ended(self) -> bool:
        return self.experiment.state in ENDED

    @property
    def at_rest(self) -> bool:
        """Ended, and all that came of it is on the page."""
        return self.ended and self._drawn == self.cursor and self._asked == self.cursor and not self.judging

    def follow(self) -> None:
        """Ask what changed since last time; the experiment itself only when something did, or after 3 s."""
        changed, more = False, True
        while more:
            found = client().measurements(self.id, self.cursor)
            self.rows.update({row.id: row for row in found.rows})
            changed |= bool(found.rows) or found.state != self.experiment.state
            self.cursor, more = found.cursor, found.more
        if changed or time.monotonic() - self._seen_at > 3:
            self.experiment = client().experiment(self.id)
            self._seen_at = time.monotonic()
        self._draw()
        self._judge()

    def refresh(self) -> None:
        """After an action: ask for the experiment again at the next turn."""
        self._seen_at = 0.0

    def _draw(self) -> None:
        """Make the figures anew if rows changed, at most half of the time when they are slow."""
        if self._drawn == self.cursor or time.monotonic() < self._draw_at:
            return
        began = time.monotonic()
        try:
            self.figures = parse(self.experiment.spec).figures(frame(self.rows.values()))
            self.figure_problem = None
        except Exception as error:  # a kind's own code, perhaps a lab's: its fault must not hide the table
            self.figure_problem = f"{type(error).__name__}: {error}"
        self._drawn = self.cursor
        self._draw_at = time.monotonic() + (time.monotonic() - began)

    def _judge(self) -> None:
        """Collect verdicts that were asked for, and ask again if there are newer numbers."""
        if self._asking is not None and self._asking.done():
            try:
                self.verdicts, self.verdicts_of, self.verdict_problem = self._asking.result(), self._asking_of, None
            except NoAnswerError:
                self._asked = -1
            except RefusedError as error:
                self.verdict_problem = str(error)
            self._asking = None
        if self._asking is None and self._asked != self.cursor:
            self._asked, self._asking_of = self.cursor, self.experiment.progress.done
            self._asking = _aside().submit(client().verdicts, self.id)

    @property
    def judging(self) -> bool:
        return self._asking is not None


def watched(id: int) -> Watched | None:
    """The experiment, brought up to date; None while nothing is known of it. Raises RefusedError when there is none."""
    kept: dict[int, Watched] = st.session_state.setdefault("watched", {})

    def ask() -> Watched:
        if id not in kept:
            kept[id] = Watched(id, client().experiment(id))
        kept[id].follow()
        return kept[id]

    return latest(f"experiment {id}", ask) or kept.get(id)
