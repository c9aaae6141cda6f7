"""One experiment followed for everybody who looks at it: asked about once per tick, its figures and verdicts made once.

    follower = Follower(7, aside)      # one per experiment and process
    now = follower.look(client)        # by every session at its own tick; see asking.py

Whoever may look at the dashboard may read every experiment, so what one session's question brought is shown to all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

from dashboard.live.shared_query import Question
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.experiments import parse
from ucurve.schemas.experiments import Experiment, MeasurementRow, frame
from ucurve.spec import Figure, Verdict

PATIENCE = 0.4  # seconds that numbers wait for their figures, to be shown together with them
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Watched:
    """One experiment as it was seen: its rows, and the figures and verdicts made of them. Never changed, for many read it.

    Two are equal when a page shows the same of both, but for what may be shown with the next change.
    """

    id: int
    experiment: Experiment
    rows: Mapping[int, MeasurementRow] = field(default_factory=dict)
    cursor: int = 0
    figures: Mapping[str, Figure] = field(default_factory=dict)
    figure_problem: str | None = None
    drawn: int = -1  # cursor at which the figures were made
    verdicts: list[Verdict] = field(default_factory=list)
    verdicts_of: int = field(
        default=0, compare=False
    )  # how many points were measured when they were given
    verdict_problem: str | None = None
    asked: int = field(default=-1, compare=False)  # cursor at which verdicts were asked for
    judging: bool = field(default=False, compare=False)
    at: str | None = None  # the moment of which this is the table; None: now

    @property
    def ended(self) -> bool:
        return self.experiment.state in ENDED

    @property
    def at_rest(self) -> bool:
        """Ended, and all that came of it is here."""
        return self.ended and self.drawn == self.cursor == self.asked and not self.judging


class Follower(Question[Watched]):
    """Asks about one experiment; `aside` runs what takes long."""

    def __init__(self, id: int, aside: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        super().__init__(self._look)
        self.id = id
        self._aside = aside
        self._experiment_due = 0.0
        self._figures: Future[tuple[dict[str, Figure], str | None]] | None = None
        self._figures_of = 0
        self._figures_asked = 0.0
        self._figures_due = 0.0
        self._verdicts_due = 0.0
        self._verdicts: Future[list[Verdict]] | None = None
        self._verdicts_of = 0
        self._verdicts_asked = 0.0

    def refresh(self) -> None:
        """After an action: ask for the experiment itself, too, at the next look."""
        super().refresh()
        self._experiment_due = 0.0

    def _look(self, client: Client) -> Watched:
        """What changed, with its figures if they are there soon."""
        return self._judged(client, self._drawn(self._changes(client)))

    def _changes(self, client: Client) -> Watched:
        """Rows that changed since last time; the experiment itself only when something did, or after 3 s."""
        now = self._seen or Watched(self.id, client.experiment(self.id))
        rows, cursor, changed, more = now.rows, now.cursor, False, True
        while more:
            found = client.measurements(self.id, cursor)
            rows = {**rows, **{row.id: row for row in found.rows}} if found.rows else rows
            changed |= bool(found.rows) or found.state != now.experiment.state
            cursor, more = found.cursor, found.more
        experiment = now.experiment
        if changed or time.monotonic() >= self._experiment_due:
            experiment = client.experiment(self.id)
            self._experiment_due = time.monotonic() + 3
        return replace(now, rows=rows, cursor=cursor, experiment=experiment)

    def _drawn(self, now: Watched) -> Watched:
        """With figures made anew if rows changed, at most half of the time when they are slow; nobody waits for them for long."""
        if (
            self._figures is None
            and now.drawn != now.cursor
            and time.monotonic() >= self._figures_due
        ):
            self._figures_of, self._figures_asked = now.cursor, time.monotonic()
            self._figures = self._aside(lambda: made(now))
        if self._figures is None or wait([self._figures], PATIENCE).not_done:
            return now
        figures, problem = self._figures.result()
        self._figures = None
        self._figures_due = 2 * time.monotonic() - self._figures_asked
        return replace(
            now,
            figures=figures if problem is None else now.figures,
            figure_problem=problem,
            drawn=self._figures_of,
        )

    def _judged(self, client: Client, now: Watched) -> Watched:
        """With the verdicts that were asked for, if they are there; asks again if there are newer numbers."""
        if self._verdicts is not None and self._verdicts.done():
            try:
                now = replace(
                    now,
                    verdicts=self._verdicts.result(),
                    verdicts_of=self._verdicts_of,
                    verdict_problem=None,
                )
            except ApiUnavailableError:
                now = replace(now, asked=-1)
            except RequestRejectedError as error:
                now = replace(now, verdict_problem=str(error))
            self._verdicts = None
            self._verdicts_due = 2 * time.monotonic() - self._verdicts_asked
        if (
            self._verdicts is None
            and now.asked != now.cursor
            and time.monotonic() >= self._verdicts_due
        ):
            now = replace(now, asked=now.cursor)
            self._verdicts_of, self._verdicts_asked = now.experiment.progress.done, time.monotonic()
            self._verdicts = self._aside(lambda: client.verdicts(self.id))
        return replace(now, judging=self._verdicts is not None)


def made(now: Watched) -> tuple[dict[str, Figure], str | None]:
    """The figures of its rows, or why there are none."""
    try:
        return parse(now.experiment.spec).figures(frame(now.rows.values())), None
    except (
        Exception
    ) as error:  # a kind's own code, perhaps a lab's: its fault must not hide the table
        return {}, f"{type(error).__name__}: {error}"
