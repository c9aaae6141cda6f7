"""Prometheus metrics: what this process counts, and the state of the lab, workers included.

Workers report their counters with each heartbeat (docs/decisions/0043), so one scrape of the API
tells all. The lab's state is that of api.lab_status: a scrape adds no query to those of the
dashboard, and labels are bounded in number.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ucurve import __version__, code_version
from ucurve.schemas.status import LabStatus, UserQueue, WorkerStatus

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_USERS = 100  # with a label of their own; the others count as "other"

# A series per counter that no one reads.
disable_created_metrics()  # type: ignore[no-untyped-call]
registry = CollectorRegistry()
ProcessCollector(registry=registry)
_latency = Histogram(
    "ucurve_http_request_duration_seconds",
    "Seconds until the answer to a request begins.",
    ("method", "route", "status"),
    buckets=BUCKETS,
    registry=registry,
)
_webhooks = Counter(
    "ucurve_webhook_deliveries",
    "Attempts of this process to deliver a webhook.",
    ("outcome",),
    registry=registry,
)
for _outcome in ("delivered", "failed"):
    _webhooks.labels(_outcome)


def count_webhook(delivered: bool) -> None:
    """Count one attempt to deliver a webhook."""
    _webhooks.labels("delivered" if delivered else "failed").inc()


class LatencyMiddleware:
    """Measure the time until each answer begins, by the route's template: labels are bounded."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in METHODS else "other"
                status = f"{message['status'] // 100}xx"
                seconds = time.perf_counter() - began
                _latency.labels(method, route_of(scope), status).observe(seconds)
            await send(message)

        await self.app(scope, receive, measured)


def route_of(scope: Scope) -> str:
    """Return the template of the request's route; "none" where no route answered."""
    return str(getattr(scope.get("route"), "path_format", "none"))


def install(app: FastAPI) -> None:
    """Measure all requests of the app; add it last, so that it includes all middleware."""
    app.add_middleware(LatencyMiddleware)


def exposition(status: LabStatus | None) -> bytes:
    """Return all metrics in Prometheus's text format; status: None while the database is away."""
    return generate_latest(_Families([*registry.collect(), *families(status)]))


class _Families:
    """What generate_latest reads of a registry."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def families(status: LabStatus | None) -> Iterator[Metric]:
    """Yield the metrics of the lab's state."""
    info = InfoMetricFamily("ucurve_build", "Version of the API.")
    info.add_metric([], {"version": __version__, "code": code_version()})
    yield info
    yield gauge("ucurve_database_up", "1 while the database answers.", 0 if status is None else 1)
    if status is None:
        return
    yield from _queue(status.queue)
    yield from _workers(status.workers)
    experiments = GaugeMetricFamily("ucurve_experiments", "Experiments by state.", labels=["state"])
    for state in ("active", "paused", "cancelled", "done", "failed"):
        experiments.add_metric([state], status.experiments.get(state, 0))
    yield experiments
    expiries = CounterMetricFamily(
        "ucurve_lease_expiries", "Attempts that were lost with their worker.", None
    )
    expiries.add_metric([], _highest.update(status.lease_expiries))
    yield expiries
    yield gauge(
        "ucurve_webhook_deliveries_pending",
        "Webhook deliveries that are due or scheduled.",
        status.pending_webhooks,
    )
    free = GaugeMetricFamily("ucurve_disk_free_bytes", "Space left on a disk.", labels=["folder"])
    size = GaugeMetricFamily("ucurve_disk_size_bytes", "Size of a disk.", labels=["folder"])
    for disk in status.disks:
        free.add_metric([disk.folder], disk.free_bytes)
        size.add_metric([disk.folder], disk.total_bytes)
    yield from (free, size)


class _Highest:
    """The highest value so far: rows may be deleted, a counter must not decrease."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, value: int) -> int:
        self._value = max(self._value, value)
        return self._value


_highest = _Highest()


def gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    family = GaugeMetricFamily(name, documentation)
    family.add_metric([], value)
    return family


def _queue(queues: list[UserQueue]) -> Iterator[Metric]:
    points = GaugeMetricFamily(
        "ucurve_queue_points", "Unfinished points by user.", labels=["owner", "state"]
    )
    left = GaugeMetricFamily(
        "ucurve_queue_left_seconds", "Estimated time until a user's work ends.", labels=["owner"]
    )
    for queue in queues[:MAX_USERS]:
        points.add_metric([queue.owner, "queued"], queue.queued)
        points.add_metric([queue.owner, "running"], queue.running)
        if queue.eta_seconds is not None:
            left.add_metric([queue.owner], queue.eta_seconds)
    if others := queues[MAX_USERS:]:
        points.add_metric(["other", "queued"], sum(queue.queued for queue in others))
        points.add_metric(["other", "running"], sum(queue.running for queue in others))
    yield from (points, left)


def _workers(workers: list[WorkerStatus]) -> Iterator[Metric]:
    yield from _worker_gauges(workers)
    measurements = CounterMetricFamily(
        "ucurve_measurements",
        "Attempts that ended, since the start of the worker.",
        labels=["worker", "kind", "outcome"],
    )
    seconds = CounterMetricFamily(
        "ucurve_measuring_seconds", "Time spent on points.", labels=["worker", "kind"]
    )
    tokens = CounterMetricFamily(
        "ucurve_tokens", "Tokens evaluated or trained on.", labels=["worker"]
    )
    retries = CounterMetricFamily(
        "ucurve_retries", "Attempts that were not the first at their point.", labels=["worker"]
    )
    for worker in workers:
        for count in worker.measurements:
            measurements.add_metric([worker.name, count.kind, count.outcome], count.num)
        for kind, total in worker.seconds.items():
            seconds.add_metric([worker.name, kind], total)
        tokens.add_metric([worker.name], worker.tokens)
        retries.add_metric([worker.name], worker.retries)
    yield from (measurements, seconds, tokens, retries)


def _worker_gauges(workers: list[WorkerStatus]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "ucurve_worker_up", "1 while a worker reports.", labels=["worker", "device"]
    )
    running = GaugeMetricFamily(
        "ucurve_worker_running", "1 while a worker measures a point.", labels=["worker"]
    )
    age = GaugeMetricFamily(
        "ucurve_worker_heartbeat_age_seconds", "Time since a worker reported.", labels=["worker"]
    )
    silent = GaugeMetricFamily(
        "ucurve_worker_progress_age_seconds",
        "Time since the running point of a worker reported progress.",
        labels=["worker"],
    )
    used = GaugeMetricFamily(
        "ucurve_worker_memory_used_bytes",
        "Memory in use by a worker: of its GPU, or main memory on a CPU.",
        labels=["worker", "device"],
    )
    size = GaugeMetricFamily(
        "ucurve_worker_memory_size_bytes",
        "Memory of a worker's device.",
        labels=["worker", "device"],
    )
    for worker in workers:
        up.add_metric([worker.name, worker.device], int(worker.alive))
        running.add_metric([worker.name], int(worker.running is not None))
        age.add_metric([worker.name], worker.heartbeat_age)
        if worker.silent_seconds is not None:
            silent.add_metric([worker.name], worker.silent_seconds)
        if worker.memory_used_bytes is not None and worker.alive:
            used.add_metric([worker.name, worker.device], worker.memory_used_bytes)
        size.add_metric([worker.name, worker.device], worker.memory_gb * 2**30)
    yield from (up, running, age, silent, used, size)
