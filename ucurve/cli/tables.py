"""Terminal output: tables, an experiment as text, progress bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

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

from ucurve.cli.table_layout import table_of
from ucurve.formatting import audit_details, count, duration, file_size, token_span
from ucurve.formatting import tokens as format_tokens
from ucurve.registry.suites import Checkpoint, Dataset, Suite
from ucurve.schemas.audit import AuditRecord
from ucurve.schemas.experiments import Experiment
from ucurve.schemas.measurements import MeasurementRow
from ucurve.schemas.users import Token, User
from ucurve.schemas.workers import WorkerInfo


@contextmanager
def progress_bar() -> Iterator[Callable[[Experiment], None]]:
    """Yield a function that shows an experiment's progress on standard error."""
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
                f"{counts.points_per_second:.1f}/s" if counts.points_per_second else "",
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
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function (name, done, total) that shows a bar per name with rate and time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, rate="")
            seconds = progress.tasks[bars[name]].elapsed
            rate = f"{done / seconds:,.0f}/s" if seconds else ""
            progress.update(bars[name], completed=done, total=total, rate=rate)

        yield update


def experiments_table(experiments: Sequence[Experiment]) -> Table:
    table = table_of("id", "state", "done", "failed", "left", "kind", "owner", "name", "tags")
    for experiment in experiments:
        table.add_row(
            str(experiment.id),
            experiment.state,
            f"{experiment.progress.done}/{experiment.progress.total}",
            str(experiment.progress.failed or ""),
            duration(experiment.eta_seconds) if experiment.eta_seconds is not None else "",
            experiment.kind,
            experiment.owner,
            experiment.name,
            " ".join(experiment.tags),
        )
    return table


def experiment_text(experiment: Experiment, failed: Sequence[MeasurementRow]) -> str:
    """Format an experiment, with the errors of its failed evaluations."""
    counts = experiment.progress
    waiting = f" ({experiment.waits_for})" if experiment.waits_for else ""
    lines = [
        f"experiment   #{experiment.id}: {experiment.name}",
        f"kind         {experiment.kind}",
        f"owner        {experiment.owner}",
        f"state        {experiment.state}{waiting}",
        f"evaluations  {counts.done:,} of {counts.total:,} done, {counts.failed:,} failed, "
        f"{counts.running:,} running, {counts.reused:,} cached",
        f"created      {experiment.created_at:%Y-%m-%d %H:%M:%S %Z}",
    ]
    if experiment.eta_seconds:
        lines.append(f"time left    {duration(experiment.eta_seconds)}")
    if experiment.tags:
        lines.append(f"tags         {' '.join(experiment.tags)}")
    if experiment.notes:
        lines.append(f"notes        {experiment.notes}")
    lines += [f"caution      {remark}" for remark in experiment.remarks]
    lines.append(f"spec         {experiment.model_dump_json(include={'spec'})}")
    errors = Counter(row.error or "unknown error" for row in failed)
    lines += [f"failed       {num} x {error}" for error, num in errors.items()]
    return "\n".join(lines)


def suites_table(suites: Sequence[Suite]) -> Table:
    table = table_of("name", "checkpoints", "usable", "tokens", "evaluation", "description")
    for suite in suites:
        checkpoints = suite.checkpoints
        tokens = [checkpoint.tokens for checkpoint in checkpoints if checkpoint.tokens is not None]
        span = token_span(tokens) if tokens else ""
        table.add_row(
            suite.name,
            str(len(checkpoints)),
            str(sum(checkpoint.unresolved is None for checkpoint in checkpoints)),
            span,
            suite.evaluation or "",
            suite.description,
        )
    return table


def positions_table(checkpoints: Sequence[Checkpoint], most: int | None) -> Table:
    """Return what is understood of revisions; where there are more than `most`, both ends."""
    table = table_of("revision", "step", "tokens", "training phase", "seed", "from")
    half = len(checkpoints) if most is None or len(checkpoints) <= most else most // 2
    for position, checkpoint in enumerate(checkpoints):
        if position == half:
            table.add_row(f"... {len(checkpoints) - 2 * half} more ...")
        if half <= position < len(checkpoints) - half:
            continue
        words = f"{count(checkpoint.words)} words" if checkpoint.words is not None else ""
        seed = str(checkpoint.replicate)
        table.add_row(
            checkpoint.revision,
            "" if checkpoint.step is None else count(checkpoint.step),
            words if checkpoint.tokens is None else format_tokens(checkpoint.tokens),
            checkpoint.training_phase or "",
            f"{seed} {checkpoint.replicate_name}" if checkpoint.replicate_name else seed,
            checkpoint.position_source or "",
        )
    return table


def datasets_table(datasets: Sequence[Dataset]) -> Table:
    table = table_of("name", "kind", "sha256", "description")
    for dataset in datasets:
        sha256 = dataset.unresolved or (dataset.sha256 or "")[:12]
        table.add_row(dataset.name, dataset.kind, sha256, dataset.description)
    return table


def workers_table(workers: Sequence[WorkerInfo]) -> Table:
    table = table_of("name", "host", "pid", "device", "memory", "alive", "experiments", "last seen")
    for worker in workers:
        table.add_row(
            worker.name,
            worker.host,
            str(worker.pid),
            worker.device,
            file_size(worker.memory_gb * 1e9) if worker.memory_gb else "",
            "yes" if worker.alive else "no",
            " ".join(map(str, worker.measuring)),
            f"{worker.seen_at:%H:%M:%S}",
        )
    return table


def tokens_table(tokens: Sequence[Token]) -> Table:
    table = table_of("id", "owner", "name", "state", "expires", "last used")
    for token in tokens:
        table.add_row(
            str(token.id),
            token.owner,
            token.name,
            token.state,
            f"{token.expires_at:%Y-%m-%d}" if token.expires_at else "never",
            f"{token.used_at:%Y-%m-%d %H:%M}" if token.used_at else "never",
        )
    return table


def audit_table(records: Sequence[AuditRecord]) -> Table:
    table = table_of("time", "user", "action", "object", "from", "details")
    for record in records:
        place = f"{record.source} {record.address or ''}".strip()
        time = f"{record.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            time, record.user, record.action, record.object, place, audit_details(record.details)
        )
    return table


def users_table(users: Sequence[User]) -> Table:
    def day(moment: datetime | None) -> str:
        return f"{moment:%Y-%m-%d}" if moment else ""

    columns = ("queued evaluations", "most queued", "most per experiment")
    table = table_of("name", "role", *columns, "blocked since")
    for user in users:
        limits = (count(num) for num in (user.num_queued, user.most_queued, user.most_planned))
        table.add_row(user.name, user.role, *limits, day(user.blocked_at))
    return table
