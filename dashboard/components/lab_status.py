"""The state of the lab as tables of HTML, made once for all viewers.

`view` turns an answer of the API into what the page shows. Pages are redrawn when a view differs,
so a heartbeat that changes nothing visible redraws nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from dashboard.components.theme import Colour, ago, counted, roughly
from ucurve.formatting import count, duration, file_size, progress_percent, rate
from ucurve.schemas.status import (
    ExperimentRef,
    FailureGroup,
    LabStatus,
    UserQueue,
    WorkerStatus,
)

STATES: dict[str, tuple[Colour, str]] = {  # of workers: colour and label
    "running": ("blue", "running"),
    "idle": ("gray", "idle"),
    "stalled": ("orange", "no progress"),
    "lost": ("red", "lost"),
}
SMALL_DISK = 0.05  # of its size: with less space left the page warns


@dataclass(frozen=True)
class FailureView:
    """A cause of failures as the page shows it."""

    id: str
    html: str
    owners: tuple[str, ...]


@dataclass(frozen=True)
class StatusView:
    """Everything that the page shows."""

    numbers: str
    warnings: tuple[str, ...]
    workers: str
    versions: tuple[str, ...]
    queue: str
    failures: tuple[FailureView, ...]
    has_workers: bool


def view(status: LabStatus) -> StatusView:
    """Return what the page shows of a status."""
    return StatusView(
        numbers=tiles(_numbers(status)),
        warnings=tuple(_warnings(status)),
        workers=_workers(status.workers),
        versions=tuple(_versions(status.workers)),
        queue=_queue(status.queue),
        failures=tuple(_failure(group) for group in status.failures),
        has_workers=bool(status.workers),
    )


def _numbers(status: LabStatus) -> Iterable[tuple[str, str, str]]:
    live = [worker for worker in status.workers if worker.alive]
    running = sum(worker.running is not None for worker in live)
    over = "Mean of the last five minutes"
    parts = [f"{running} running", f"{len(live) - running} idle"]
    if lost := len(status.workers) - len(live):
        parts.append(f"{lost} lost")
    yield "Workers online", f"{len(live)}", ", ".join(parts)
    yield "Evaluations", rate(status.points_per_second), over
    yield "Tokens", rate(round(status.tokens_per_second)), over
    queued = sum(queue.queued for queue in status.queue)
    yield "Queued evaluations", count(queued), counted(len(status.queue), "user")


def _warnings(status: LabStatus) -> Iterable[str]:
    if status.workers and not any(worker.alive for worker in status.workers):
        yield "No worker is online. Experiments stay queued until one starts: run `ucurve up`."
    for disk in status.disks:
        if disk.free_bytes < SMALL_DISK * disk.total_bytes:
            yield (
                f"The disk of the {disk.folder} has {file_size(disk.free_bytes)} left: delete what "
                "is not needed, or move the folder to a larger disk."
            )


def tiles(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Return numbers side by side: label, value and what it means."""
    return (
        '<dl class="lab-tiles">'
        + "".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd>"
            f'<dd class="lab-small">{escape(note)}</dd></div>'
            for label, value, note in numbers
        )
        + "</dl>"
    )


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML. On a narrow screen each row becomes a block."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(column)}">{f"<div>{cell}</div>" if cell else ""}</td>'
            for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="lab-status"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _workers(workers: Sequence[WorkerStatus]) -> str:
    columns = ("Worker", "State", "Now", "Rate", "Memory", "Last heartbeat")
    return table("Workers", columns, (_worker(worker) for worker in workers))


def _worker(worker: WorkerStatus) -> Sequence[str]:
    colour, label = STATES[worker.state]
    speed = memory = ""
    if worker.alive:
        speed = rate(worker.points_per_second, "evaluations")
        if worker.tokens_per_second >= 1:
            speed += _small(rate(round(worker.tokens_per_second), "tokens"))
        size = worker.memory_gb * 2**30
        used = file_size(worker.memory_used_bytes) if worker.memory_used_bytes else ""
        memory = f"{used}{_small(f'of {file_size(size)}')}" if used and size else used
    place = f"{worker.device} · {worker.host}, PID {worker.pid}"
    return (
        f"<strong>{escape(worker.name)}</strong>{_small(place)}",
        f'<span class="lab-badge {colour}">{label}</span>',
        _activity(worker),
        speed,
        memory,
        ago(worker.seen_at),
    )


def _activity(worker: WorkerStatus) -> str:
    if worker.state == "lost":
        return '<span class="muted">no sign of life; its evaluations go to other workers</span>'
    point = worker.running
    if point is None and worker.waits_for:
        return escape(worker.waits_for)
    if point is None:
        return '<span class="muted">waits for work</span>'
    text = _links(point.experiments) or "an evaluation that was cancelled"
    details = []
    if percent := progress_percent(point):
        bar = f'<div class="lab-bar"><div style="width:{percent.replace(" ", "")}"></div></div>'
        text += bar
        details.append(percent)
    if point.seconds_left is not None:
        details.append(f"{roughly(point.seconds_left)} left")
    if worker.state == "stalled":
        details.append(f"no progress for {duration(worker.silent_seconds)}")
    return text + _small(" · ".join(details))


def _links(experiments: Sequence[ExperimentRef]) -> str:
    return ", ".join(
        f'<a href="experiment?id={ref.id}" target="_self">'
        f"{escape(ref.name or f'Experiment {ref.id}')}</a>"
        for ref in experiments
    )


def _versions(workers: Sequence[WorkerStatus]) -> Iterable[str]:
    """Yield a line per set of versions with its workers: one where all agree."""
    groups: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        if worker.alive:
            parts = (f"{name} {version}" for name, version in sorted(worker.versions.items()))
            groups[" · ".join(parts)].append(worker.name)
    for versions, names in groups.items():
        yield versions if len(groups) == 1 else f"{', '.join(names)}: {versions}"


def _queue(queues: Sequence[UserQueue]) -> str:
    if not queues:
        return ""
    rows = []
    for queue in queues:
        left = "unknown" if queue.eta_seconds is None else roughly(queue.eta_seconds)
        rows.append(
            (
                f"<strong>{escape(queue.owner)}</strong>",
                count(queue.experiments),
                count(queue.queued),
                count(queue.running),
                left,
                escape(queue.waits_for or "–"),
            )
        )
    columns = ("User", "Experiments", "Queued", "Claimed", "Time left", "Waits for")
    return table("Queue by user", columns, rows)


def _failure(group: FailureGroup) -> FailureView:
    more = group.num_experiments - len(group.experiments)
    experiments = _links(group.experiments) + (f" and {more} more" if more else "")
    details = f"{counted(group.num, 'evaluation')} · last {ago(group.last_at)} · "
    html = (
        f'<div class="lab-cause"><code>{escape(group.example)}</code>'
        f'<span class="muted">{escape(details)}{experiments}</span></div>'
    )
    return FailureView(group.id, html, tuple(group.owners))


def _small(text: str) -> str:
    return f'<span class="lab-small">{escape(text)}</span>' if text else ""
