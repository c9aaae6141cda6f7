"""Polls one experiment for all viewers: one request per interval, figures and verdicts made once.

    poller = ExperimentPoller(7, run_in_background)   # one per experiment and process
    snapshot = poller.get(client)                     # called by every session; see shared_query.py

All users of the dashboard may read every experiment, so sessions share the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from dashboard.live.shared_query import SharedQuery
from ucurve.analysis.measurement_table import to_frame
from ucurve.client import ApiUnavailableError, Client, RequestRejectedError
from ucurve.experiments import parse
from ucurve.figures.caveats import with_caveats
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import MeasurementRow
from ucurve.spec import Figure, Verdict

T = TypeVar("T")
Timed: TypeAlias = tuple[T, float]
FIGURE_WAIT = 0.4  # seconds that new rows wait for their figures, to be shown together
EXPERIMENT_INTERVAL = 3.0  # seconds after which an unchanged experiment is fetched again
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class ExperimentSnapshot:
    """An experiment at one moment: its rows, with the figures and verdicts made from them.

    Immutable, since many sessions read it. Equality ignores what may be shown with the next
    change, so that pages are not redrawn for it.
    """

    id: int
    experiment: Experiment
    rows: Mapping[int, MeasurementRow] = field(default_factory=dict)
    cursor: int = 0
    figures: Mapping[str, Figure] = field(default_factory=dict)
    figure_problem: str | None = None
    figures_cursor: int = -1  # of the rows that the figures show
    verdicts: list[Verdict] = field(default_factory=list)
    drawn_verdicts: list[Verdict] = field(default_factory=list, compare=False)  # in the figures
    num_judged: int = field(default=0, compare=False)  # finished points behind the verdicts
    verdict_problem: str | None = None
    verdicts_cursor: int = field(default=-1, compare=False)  # when they were last requested
    verdicts_pending: bool = field(default=False, compare=False)
    as_of: str | None = None  # an earlier moment; None: the present

    @property
    def ended(self) -> bool:
        return self.experiment.state in ENDED

    @property
    def complete(self) -> bool:
        """Whether the experiment has ended and all figures and verdicts are here."""
        current = self.cursor == self.figures_cursor == self.verdicts_cursor
        drawn = self.drawn_verdicts is self.verdicts
        return self.ended and current and drawn and not self.verdicts_pending


class ExperimentPoller(SharedQuery[ExperimentSnapshot]):
    """Keeps one experiment up to date; `run_in_background` runs slow work."""

    def __init__(
        self, id: int, run_in_background: Callable[[Callable[[], Any]], Future[Any]]
    ) -> None:
        super().__init__(self._update)
        self.id = id
        self._run_in_background = run_in_background
        self._experiment_due = 0.0
        self._figures: Future[Timed[tuple[dict[str, Figure], str | None]]] | None = None
        self._figures_cursor = 0
        self._drawn_verdicts: list[Verdict] = []
        self._figures_started = 0.0
        self._figures_due = 0.0
        self._verdicts: Future[Timed[list[Verdict]]] | None = None
        self._num_judged = 0
        self._verdicts_started = 0.0
        self._verdicts_due = 0.0

    def invalidate(self) -> None:
        """Fetch the experiment itself on the next `get`, too."""
        super().invalidate()
        self._experiment_due = 0.0

    def _update(self, client: Client) -> ExperimentSnapshot:
        snapshot = self._with_changes(client)
        return self._with_figures(self._with_verdicts(client, snapshot))

    def _with_changes(self, client: Client) -> ExperimentSnapshot:
        """Return the snapshot with changed rows, and with the experiment when due."""
        snapshot = self.last or ExperimentSnapshot(self.id, client.experiment(self.id))
        rows, cursor, changed, more = snapshot.rows, snapshot.cursor, False, True
        while more:
            page = client.measurements(self.id, cursor)
            rows = {**rows, **{row.id: row for row in page.rows}} if page.rows else rows
            changed |= bool(page.rows) or page.state != snapshot.experiment.state
            cursor, more = page.cursor, page.more
        experiment = snapshot.experiment
        if changed or time.monotonic() >= self._experiment_due:
            experiment = client.experiment(self.id)
            self._experiment_due = time.monotonic() + EXPERIMENT_INTERVAL
        return replace(snapshot, rows=rows, cursor=cursor, experiment=experiment)

    def _with_figures(self, snapshot: ExperimentSnapshot) -> ExperimentSnapshot:
        """Return the snapshot with new figures if they are ready soon.

        Slow figures are drawn in the background, at most half of the time.
        """
        outdated = (
            snapshot.figures_cursor != snapshot.cursor
            or snapshot.drawn_verdicts is not snapshot.verdicts
        )
        if self._figures is None and outdated and time.monotonic() >= self._figures_due:
            self._figures_cursor, self._figures_started = snapshot.cursor, time.monotonic()
            self._drawn_verdicts = snapshot.verdicts
            self._figures = self._run_in_background(lambda: timed(lambda: draw_figures(snapshot)))
        if self._figures is None or wait([self._figures], FIGURE_WAIT).not_done:
            return snapshot
        (figures, problem), ended = self._figures.result()
        self._figures = None
        self._figures_due = 2 * ended - self._figures_started
        return replace(
            snapshot,
            figures=figures if problem is None else snapshot.figures,
            figure_problem=problem,
            figures_cursor=self._figures_cursor,
            drawn_verdicts=self._drawn_verdicts,
        )

    def _with_verdicts(self, client: Client, snapshot: ExperimentSnapshot) -> ExperimentSnapshot:
        """Return the snapshot with new verdicts if they are ready; request newer ones if due."""
        if self._verdicts is not None and self._verdicts.done():
            snapshot = self._collect_verdicts(self._verdicts, snapshot)
            self._verdicts = None
        outdated = snapshot.verdicts_cursor != snapshot.cursor
        if self._verdicts is None and outdated and time.monotonic() >= self._verdicts_due:
            snapshot = replace(snapshot, verdicts_cursor=snapshot.cursor)
            self._num_judged = snapshot.experiment.progress.done
            self._verdicts_started = time.monotonic()
            self._verdicts = self._run_in_background(
                lambda: timed(lambda: client.verdicts(self.id))
            )
        return replace(snapshot, verdicts_pending=self._verdicts is not None)

    def _collect_verdicts(
        self, verdicts: Future[Timed[list[Verdict]]], snapshot: ExperimentSnapshot
    ) -> ExperimentSnapshot:
        self._verdicts_due = 0.0  # a refused or lost request took no time worth waiting for
        try:
            latest, ended = verdicts.result()
            self._verdicts_due = 2 * ended - self._verdicts_started
            return replace(
                snapshot,
                verdicts=snapshot.verdicts if latest == snapshot.verdicts else latest,
                num_judged=self._num_judged,
                verdict_problem=None,
            )
        except ApiUnavailableError:
            return replace(snapshot, verdicts_cursor=-1)
        except RequestRejectedError as error:
            return replace(snapshot, verdict_problem=str(error))


def timed(work: Callable[[], T]) -> Timed[T]:
    """Return what slow work returned and when it ended; its result may be collected much later."""
    return work(), time.monotonic()


def draw_figures(snapshot: ExperimentSnapshot) -> tuple[dict[str, Figure], str | None]:
    """Return the figures of the rows, or the reason why there are none.

    Any exception is caught: an error in an experiment type's code, which may be the lab's own,
    must not hide the table.
    """
    try:
        spec = parse(snapshot.experiment.spec)
        figures = spec.figures(to_frame(snapshot.rows.values()), snapshot.verdicts)
        return with_caveats(figures, snapshot.verdicts), None
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"
