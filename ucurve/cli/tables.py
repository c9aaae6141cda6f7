"""What the command line shows: tables, an experiment in words, a progress bar with rate and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ucurve.registry.suites import Dataset, Suite
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import MeasurementRow
from ucurve.schemas.users import Token, User
from ucurve.schemas.workers import WorkerInfo


def show(table: Table) -> None:
    console = Console()
    if not console.is_terminal:  # a pipe has no width: cut nothing
        console = Console(width=10_000)
    console.print(table)


def duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


@contextmanager
def progress_bar() -> Iterator[Callable[[Experiment], None]]:
    """A function that shows how far an experiment is, on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("queued", total=1, remark="")

        def update(experiment: Experiment) -> None:
            counts = experiment.progress
            remarks = [
                f"{counts.points_per_second:.1f} points/s" if counts.points_per_second else "",
                f"{duration(experiment.eta_seconds)} left" if experiment.eta_seconds else "",
                f"{counts.failed} failed" if counts.failed else "",
                experiment.waits_for or "",
            ]
            progress.update(
                bar,
                description=experiment.state,
                completed=counts.done + counts.failed,
                total=counts.total,
                remark=", ".join(filter(None, remarks)),
            )

        yield update


@contextmanager
def counted_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how much of each thing is done, at what rate, and how long the rest takes; on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total, rate="")
            seconds = progress.tasks[bars[what]].elapsed
            progress.update(
                bars[what],
                completed=done,
                total=total,
                rate=f"{done / seconds:,.0f}/s" if seconds else "",
            )

        yield update


def experiments_table(experiments: Sequence[Experiment]) -> Table:
    table = table_of("id", "state", "done", "failed", "left", "kind", "owner", "name", "tags")
    for one in experiments:
        counts = f"{one.progress.done}/{one.progress.total}"
        failed = str(one.progress.failed or "")
        left = duration(one.eta_seconds)
        table.add_row(
            str(one.id),
            one.state,
            counts,
            failed,
            left,
            one.kind,
            one.owner,
            one.name,
            " ".join(one.tags),
        )
    return table


def experiment_text(experiment: Experiment, failed: Sequence[MeasurementRow]) -> str:
    """All there is to say about an experiment, and why points failed."""
    counts = experiment.progress
    lines = [
        f"experiment {experiment.id}: {experiment.name}",
        f"kind      {experiment.kind}",
        f"owner     {experiment.owner}",
        f"state     {experiment.state}"
        + (f" ({experiment.waits_for})" if experiment.waits_for else ""),
        f"points    {counts.done} of {counts.total} done, {counts.failed} failed, {counts.running} running, "
        f"{counts.reused} were there before",
        f"created   {experiment.created_at:%Y-%m-%d %H:%M:%S %Z}",
    ]
    if experiment.eta_seconds:
        lines.append(f"left      {duration(experiment.eta_seconds)}")
    if experiment.tags:
        lines.append(f"tags      {' '.join(experiment.tags)}")
    if experiment.notes:
        lines.append(f"notes     {experiment.notes}")
    lines.append(f"spec      {experiment.model_dump_json(include={'spec'})}")
    reasons: dict[str, int] = {}
    for row in failed:
        reasons[row.error or "unknown"] = reasons.get(row.error or "unknown", 0) + 1
    lines += [f"failed    {count} x {reason}" for reason, count in reasons.items()]
    return "\n".join(lines)


def suites_table(suites: Sequence[Suite]) -> Table:
    table = table_of("name", "checkpoints", "plannable", "tokens", "evaluation", "description")
    for suite in suites:
        tokens = [
            checkpoint.tokens for checkpoint in suite.checkpoints if checkpoint.tokens is not None
        ]
        table.add_row(
            suite.name,
            str(len(suite.checkpoints)),
            str(sum(checkpoint.unresolved is None for checkpoint in suite.checkpoints)),
            f"{min(tokens):.3g} to {max(tokens):.3g}" if tokens else "",
            suite.evaluation or "",
            "; ".join([suite.description, *(f"warning: {warning}" for warning in suite.warnings)]),
        )
    return table


def datasets_table(datasets: Sequence[Dataset]) -> Table:
    table = table_of("name", "kind", "sha256", "description")
    for dataset in datasets:
        table.add_row(
            dataset.name,
            dataset.kind,
            dataset.unresolved or (dataset.sha256 or "")[:12],
            dataset.description,
        )
    return table


def workers_table(workers: Sequence[WorkerInfo]) -> Table:
    table = table_of("name", "host", "pid", "device", "memory", "alive", "measuring", "seen")
    for one in workers:
        measuring = " ".join(map(str, one.measuring))
        alive = "yes" if one.alive else "no"
        seen = f"{one.seen_at:%H:%M:%S}"
        table.add_row(
            one.name,
            one.host,
            str(one.pid),
            one.device,
            f"{one.memory_gb:.0f} GB",
            alive,
            measuring,
            seen,
        )
    return table


def tokens_table(tokens: Sequence[Token]) -> Table:
    table = table_of("id", "owner", "name", "state", "expires", "last used")
    for one in tokens:
        expires = f"{one.expires_at:%Y-%m-%d}" if one.expires_at else "never"
        used = f"{one.used_at:%Y-%m-%d %H:%M}" if one.used_at else "never"
        table.add_row(str(one.id), one.owner, one.name, one.state, expires, used)
    return table


def users_table(users: Sequence[User]) -> Table:
    def since(moment: datetime | None) -> str:
        return f"{moment:%Y-%m-%d}" if moment else ""

    table = table_of("name", "role", "queued", "most queued", "most planned", "blocked since")
    for one in users:
        table.add_row(
            one.name,
            one.role,
            str(one.num_queued),
            str(one.most_queued),
            str(one.most_planned),
            since(one.blocked_at),
        )
    return table


def table_of(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
