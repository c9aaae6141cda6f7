"""Synthetic database of a team after two years: `python benchmarks/team_database.py --data DIR`.

10,000 experiments of 21 people point at 2,000,000 measurements with attempts, labels and sizes like
real ones: reused, failed and unfinished points, losses that are not finite, one experiment of
50,000 points. The numbers are random.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GAMMAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
METHODS = ("full", "lora", "head", "l2_sp")
PEOPLE = (
    "ada", "ben", "chen", "dana", "eva", "finn", "grace", "hugo", "iris", "jon", "kira", "liam",
    "maya", "nils", "olga", "pia", "quin", "rosa", "sam", "tara", "uma",
)  # fmt: skip
TAGS = (
    "draft", "paper", "rebuttal", "figure-1", "figure-3", "sanity", "ablation", "icml", "long",
    "seeds",
)  # fmt: skip
FAMILIES = ("pythia", "olmo", "amber", "tiny", "k2", "smol", "marin", "novels")
WORDS = (
    "check", "whether", "the", "bottom", "moves", "when", "noise", "is", "scaled", "and",
    "more", "draws", "settle", "it", "at", "late", "tokens",
)  # fmt: skip
MEASUREMENTS = (
    "id, identity, kind, inputs, source, labels, group_key, seconds, requires_device, "
    "requires_memory_gb, state, metrics, nonfinite, error, attempt_id, finished_at"
)
ATTEMPTS = (
    "id, measurement_id, worker, device, versions, outcome, started_at, finished_at, metrics, "
    "nonfinite, series, traceback"
)
POINTS = "experiment_id, measurement_id, position, stage, labels, reused, version"
EXPERIMENTS = (
    "id, name, kind, owner, tags, notes, spec, archived, state, version, num_points, num_done, "
    "num_failed, num_reused, created_at, started_at, finished_at"
)


@dataclass
class Suite:
    """One model at some checkpoints.

    planned: the points planned on it so far, kind -> (id, labels, state).
    """

    name: str
    size: int
    tokens: list[int]
    replicates: int
    evaluations: list[str]
    planned: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)


@dataclass
class Batch:
    """Rows of several experiments, in the format of COPY."""

    experiments: list[str] = field(default_factory=list)
    measurements: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)


def line(*values: Any) -> str:
    """Format a row as COPY's text; no value here needs escaping."""
    return "\t".join("\\N" if value is None else str(value) for value in values) + "\n"


@cache
def sources(
    suite: str,
    size: int,
    revision: str | None,
    step: int | None,
    tokens: int | None,
    evaluation: str,
) -> tuple[str, str]:
    """Return the hash of a checkpoint's weights and a realistic `source` of its points."""
    weights = hashlib.sha256(f"{suite} {revision}".encode()).hexdigest()
    checkpoint = {
        "suite": suite, "revision": revision, "step": step, "tokens": tokens,
        "location": {"scheme": "hub", "path": f"team/{suite}", "commit": weights[:40]},
        "replicate": 0, "num_parameters": size, "context": 2048, "weights_sha256": weights,
        "config_sha256": weights[::-1], "tokenizer_sha256": weights[1:] + "0",
        "size_bytes": 4 * size, "unresolved": None, "phase": None,
    }  # fmt: skip
    dataset = {
        "name": evaluation, "kind": "text", "sha256": weights, "size_bytes": 1_290_590,
        "parameters": {}, "unresolved": None, "description": "Held-out text of the team, one file.",
        "location": {"scheme": "artefacts", "path": f"{evaluation}.txt"},
    }  # fmt: skip
    return weights, json.dumps(
        {"checkpoint": checkpoint, "initial": checkpoint, "dataset": dataset}
    )


def random_suites(rng: random.Random, num: int = 40) -> list[Suite]:
    suites = []
    for number in range(num):
        size = rng.choice([46_592, 14_000_000, 70_000_000, 160_000_000, 1_000_000_000])
        first = size * rng.uniform(1, 4)
        tokens = [int(first * 1.6**k) for k in range(rng.choice([8, 12, 16, 24]))]
        evaluations = rng.sample(
            ["wikitext-2", "c4-held-out", "pile-held-out", "tiny-held-out"], rng.choice([1, 1, 2])
        )
        suites.append(
            Suite(
                f"{FAMILIES[number % 8]}-{number}",
                size,
                tokens,
                rng.choice([1, 1, 2, 3]),
                evaluations,
            )
        )
    return suites


def grid(rng: random.Random, kind: str, suite: Suite, num: int) -> Iterator[dict[str, Any]]:
    """Yield the labels of `num` points of one experiment: draw by draw over its cells."""
    first = rng.randrange(1000) * 100  # its own draws
    replicate = rng.randrange(suite.replicates)
    if kind == "gaussian_perturbation":
        gammas = rng.sample(GAMMAS, rng.choice([3, 4, 6]))
        scales = rng.choice([["current_std", "init_std"], ["current_std"], ["init_std"]])
        changes = [
            {"gamma": gamma, "scale": scale, "group": "all"} for gamma in gammas for scale in scales
        ]
    elif kind == "fine_tuning":
        method = rng.choice(METHODS)
        rates = rng.sample(RATES, rng.choice([1, 5, 7]))
        changes = [
            {
                "evaluation": suite.evaluations[0],
                "method": method,
                "learning_rate": rate,
                "alpha": 1.0,
            }
            for rate in rates
        ]
    else:
        changes = [
            {"part": "noise", "scale": "fixed", "gamma": gamma} for gamma in rng.sample(GAMMAS, 4)
        ]
    repeat = "seed" if kind == "fine_tuning" else "draw"
    count = 0
    for draw in range(num):
        for number, tokens in enumerate(suite.tokens):
            for change in changes:
                if count == num:
                    return
                count += 1
                if kind == "linear_model":
                    yield {"features": number, "draw": first + draw, **change}
                    continue
                revision = f"seed{replicate}-step{1000 * (number + 1)}-tokens{tokens}"
                of = {
                    "suite": suite.name,
                    "revision": revision,
                    "step": 1000 * (number + 1),
                    "tokens": tokens,
                }
                yield {**of, "replicate": replicate, "phase": None, **change, repeat: first + draw}


def outcome(
    rng: random.Random, labels: dict[str, Any], suite: Suite
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Draw a loss that falls with tokens and rises under strong changes; a few are not finite."""
    at = math.log(labels.get("tokens", suite.tokens[0]) / suite.tokens[0] + 1)
    strength = labels.get("gamma") or labels.get("learning_rate", 0.001) * 20
    loss = 5.5 - 0.4 * at + strength**2 * at**2 + rng.gauss(0, 0.02)
    metrics: dict[str, float | None] = {"nll_mean": round(loss, 6), "num_tokens": 262144.0}
    if "gamma" in labels:
        metrics["relative_change"] = round(strength, 6)
    else:
        metrics |= {"id_loss": round(loss - 1, 6), "steps_done": 200.0}
    if rng.random() < 0.02 * strength:
        metrics["nll_mean"] = None
        return metrics, {"nll_mean": rng.choice(["pos_inf", "nan"])}
    return metrics, {}


class Team:
    """Generator of experiments; `written` counts its measurements."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.suites = random_suites(self.rng)
        self.written = 0
        self.experiments = 0

    def experiment(self, batch: Batch, num: int, created: datetime, state: str) -> None:
        """Add an experiment of `num` new points that reuses some points of its suite."""
        rng = self.rng
        kind = rng.choices(["gaussian_perturbation", "fine_tuning", "linear_model"], [6, 3, 1])[0]
        suite = rng.choices(self.suites, [1 / (rank + 10) for rank in range(len(self.suites))])[0]
        self.experiments += 1
        earlier = suite.planned.setdefault(kind, [])
        reused = rng.sample(earlier, min(len(earlier), num // 3)) if rng.random() < 0.5 else []
        counts = {"done": 0, "failed": 0, "open": 0}
        position = 0
        for id, labels, was in reused:
            counts[was] += 1
            batch.points.append(
                line(self.experiments, id, position, 0, labels, "t", 1 + position // 250)
            )
            position += 1
        for cell in grid(rng, kind, suite, num):
            unfinished = state in ("active", "paused", "cancelled") and position % 3 > 0
            was = (
                "open"
                if unfinished
                else "failed"
                if rng.random() < 0.003 or state == "failed"
                else "done"
            )
            labels = json.dumps(cell)
            self.measurement(
                batch, kind, suite, cell, labels, was, created + timedelta(seconds=10 + position)
            )
            counts[was] += 1
            batch.points.append(
                line(
                    self.experiments,
                    self.written,
                    position,
                    position // 100,
                    labels,
                    "f",
                    1 + position // 250,
                )
            )
            if len(earlier) < 400:
                earlier.append((self.written, labels, was))
            position += 1
        owner = rng.choices(PEOPLE, [1 / (rank + 3) for rank in range(len(PEOPLE))])[0]
        spec: dict[str, Any] = {"kind": kind, "draws": 8} | (
            {} if kind == "linear_model" else {"suite": suite.name}
        )
        name = f"{kind.replace('_', ' ')} on {suite.name}, {' '.join(rng.sample(WORDS, 3))}"
        tags = "{" + ",".join(rng.sample(TAGS, rng.randrange(4))) + "}"
        notes = " ".join(rng.choices(WORDS, k=rng.randrange(80)))
        ended = (
            None if state in ("active", "paused") else created + timedelta(seconds=20 + position)
        )
        stored = state if state != "done" or not counts["open"] else "active"
        batch.experiments.append(
            line(
                *(self.experiments, name, kind, owner, tags, notes, json.dumps(spec)),
                *("ft"[rng.random() < 0.1], stored, 1 + position // 250, position),
                *(counts["done"], counts["failed"], len(reused), created),
                *(created + timedelta(seconds=5), None if stored == "active" else ended),
            )
        )  # fmt: skip

    def measurement(
        self,
        batch: Batch,
        kind: str,
        suite: Suite,
        cell: dict[str, Any],
        labels: str,
        state: str,
        at: datetime,
    ) -> None:
        self.written += 1
        id = self.written
        identity = hashlib.sha256(f"point {id}".encode()).hexdigest()
        evaluation = suite.evaluations[id % len(suite.evaluations)]
        of = (cell.get("revision"), cell.get("step"), cell.get("tokens"))
        weights, source = sources(suite.name, suite.size, *of, evaluation)
        part = f'{{"weights": "{weights}", "config": "{weights}"}}'
        read = f'{{"dataset": "{weights}", "window": 2048}}'
        inputs = f'{{"checkpoint": {part}, "perturbation": {labels}, "evaluation": {read}}}'
        metrics, nonfinite = outcome(self.rng, cell, suite) if state == "done" else ({}, {})
        numbers = json.dumps(metrics), json.dumps(nonfinite)
        ended = None if state == "open" else at
        error = "RuntimeError: CUDA out of memory" if state == "failed" else None
        batch.measurements.append(
            line(
                *(
                    id,
                    identity,
                    kind,
                    inputs,
                    "{}" if kind == "linear_model" else source,
                    labels,
                    weights,
                    1.5,
                    "any",
                    1.0,
                    state,
                ),
                *(*numbers, error, None if state == "open" else id, ended),
            )
        )
        if state != "open":
            losses, tokens = [8312.5, 8290.25, 8401.75, 8350.5], [2047, 2047, 2047, 2047]
            series = json.dumps({"window_nll": losses, "window_tokens": tokens})
            started = at - timedelta(seconds=1.5)
            versions = '{"torch": "2.13.0", "ucurve": "0.1.0"}'
            batch.attempts.append(
                line(
                    *(
                        id,
                        id,
                        f"worker-{id % 16}",
                        "cuda",
                        versions,
                        state,
                        started,
                        ended,
                        *numbers,
                        series,
                    ),
                    f"Traceback: {error}" if error else None,
                )
            )


def fill(
    connection: psycopg.Connection[Any],
    experiments: int,
    measurements: int,
    largest: int,
    seed: int = 0,
) -> None:
    """Fill the empty tables. largest: points of the largest experiment."""
    team = Team(seed)
    rng = random.Random(seed + 1)
    # Foreign keys are right by construction and need no check.
    connection.execute("SET session_replication_role = replica")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (name) VALUES (%s)", [(name,) for name in PEOPLE])
    weights = [rng.lognormvariate(0, 1) for _ in range(experiments - 1)]
    scale = (measurements - largest) / sum(weights)
    sizes = [max(1, round(weight * scale)) for weight in weights]
    sizes.insert(experiments // 2, largest)
    batch = Batch()
    for number, size in enumerate(sizes):
        created = NOW - timedelta(days=700 * (1 - number / experiments), minutes=rng.uniform(0, 60))
        recent = number > experiments * 0.99
        state = rng.choices(
            ["done", "failed", "cancelled", "active", "paused"], [95, 1, 2, 40 * recent, 1]
        )[0]
        team.experiment(batch, size, created, "done" if size == largest else state)
        if len(batch.measurements) > 50_000:
            batch = flush(connection, batch)
    flush(connection, batch)
    for table in ("measurements", "attempts", "experiments"):
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        )
    connection.execute("""
        INSERT INTO label_values
        SELECT DISTINCT coalesce(suite, ''), kind, coalesce(evaluation, ''), l.key, l.value
        FROM measurements, jsonb_each(labels) l""")
    connection.execute("""
        INSERT INTO stars SELECT name, id FROM users, LATERAL (
            SELECT id FROM experiments WHERE owner = users.name ORDER BY id DESC LIMIT 20
        ) newest""")
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")


def flush(connection: psycopg.Connection[Any], batch: Batch) -> Batch:
    tables = (
        ("experiments", EXPERIMENTS, batch.experiments),
        ("measurements", MEASUREMENTS, batch.measurements),
        ("attempts", ATTEMPTS, batch.attempts),
        ("experiment_points", POINTS, batch.points),
    )
    with connection.cursor() as cursor:
        for table, columns, rows in tables:
            with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                copy.write("".join(rows))
    connection.commit()
    return Batch()


def main() -> None:
    from ucurve.lab.embedded import DATABASE, Engines
    from ucurve.lab.launch import environment, migrate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a new data folder; about 6 GB")
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--measurements", type=int, default=2_000_000)
    parser.add_argument(
        "--largest", type=int, default=50_000, help="points of the largest experiment"
    )
    args = parser.parse_args()
    with Engines(args.data) as engines:
        migrate(environment(engines.database_url, engines.broker_url, "", engines.data))
        began = time.monotonic()
        with psycopg.connect(
            host=str(engines.sockets), user=DATABASE, dbname=DATABASE
        ) as connection:
            fill(connection, args.experiments, args.measurements, args.largest)
            size = connection.execute(
                "SELECT pg_size_pretty(pg_database_size(current_database()))"
            ).fetchone()
        seconds = time.monotonic() - began
        print(f"{args.measurements:,} measurements in {seconds:.0f} s, {size and size[0]}")


if __name__ == "__main__":
    main()
