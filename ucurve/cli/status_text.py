"""The state of the lab as text for a terminal."""

from __future__ import annotations

from rich.table import Table

from ucurve.cli.table_layout import table_lines, table_of
from ucurve.formatting import activity, ago, counted, duration, file_size, rate, roughly
from ucurve.schemas.status import (
    FailureGroup,
    LabStatus,
    RetriedFailures,
    UserQueue,
    WorkerStatus,
)


def status_text(status: LabStatus) -> str:
    """Return workers, queue and failures as tables, each with a heading."""
    live = [worker for worker in status.workers if worker.alive]
    running = sum(worker.running is not None for worker in live)
    parts = [
        f"{counted(len(live), 'worker')} online, {running} running; "
        f"{rate(status.points_per_second, 'evaluations')}, "
        f"{rate(round(status.tokens_per_second), 'tokens')} over five minutes",
        *(
            f"disk of {disk.folder}: {file_size(disk.free_bytes)} free of "
            f"{file_size(disk.total_bytes)}"
            for disk in status.disks
        ),
    ]
    if status.workers:
        parts.append(_text(_workers(status.workers)))
    parts.append(_text(_queue(status.queue)) if status.queue else "The queue is empty.")
    if status.failures:
        parts.append(_text(_failures(status.failures)))
        parts.append("retry a cause: ucurve retry --cause CAUSE")
    else:
        parts.append("No failures in the last seven days.")
    return "\n\n".join(parts)


def retried_text(retried: RetriedFailures) -> str:
    """Say what a retry of a cause has queued."""
    text = (
        f"{counted(retried.retried, 'evaluation')} of "
        f"{counted(len(retried.experiments), 'experiment')} queued again"
    )
    if retried.not_yours:
        text += f"; {retried.not_yours} left alone, which belong to other users"
    return text


def _text(table: Table) -> str:
    return "\n".join(table_lines(table))


def _workers(workers: list[WorkerStatus]) -> Table:
    table = table_of("worker", "state", "now", "left", "evaluations", "tokens", "memory", "seen")
    for worker in workers:
        left = worker.running.seconds_left if worker.running else None
        memory = worker.memory_used_bytes
        table.add_row(
            worker.name,
            worker.state,
            activity(worker),
            roughly(left) if left is not None else "",
            rate(worker.points_per_second) if worker.alive else "",
            rate(round(worker.tokens_per_second)) if worker.alive else "",
            f"{worker.device}, {file_size(memory)}" if memory else worker.device,
            ago(worker.seen_at),
        )
    return table


def _queue(queues: list[UserQueue]) -> Table:
    table = table_of("user", "experiments", "queued", "claimed", "left", "waits for")
    for queue in queues:
        left = "unknown" if queue.eta_seconds is None else duration(queue.eta_seconds)
        table.add_row(
            queue.owner,
            str(queue.experiments),
            f"{queue.queued:,}",
            str(queue.running),
            left,
            queue.waits_for or "",
        )
    return table


def _failures(groups: list[FailureGroup]) -> Table:
    table = table_of("cause", "failed", "last", "experiments", "message")
    for group in groups:
        named = " ".join(str(ref.id) for ref in group.experiments)
        more = group.num_experiments - len(group.experiments)
        table.add_row(
            group.id,
            f"{group.num:,}",
            ago(group.last_at),
            f"{named} and {more} more" if more else named,
            group.example,
        )
    return table
