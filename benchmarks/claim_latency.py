"""Latency of a claim by the number of points of an experiment and the share that is done.

python benchmarks/claim_latency.py                  # 1,000, 10,000 and 100,000 points
python benchmarks/claim_latency.py --explain        # with the query plan of the largest
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from ucurve.lab import launch
from ucurve.lab.embedded import Engines

CLAIMS = 30
GROUP = 500  # points of one checkpoint


def load(num: int, owner: str) -> int:
    """Insert an experiment of `num` open points: checkpoints one after another, in ten stages."""
    from db import submissions
    from db.session import open_session

    points = [
        {
            "identity": f"{owner}-{num}-{number:08}",
            "inputs": {
                "number": number,
                "of": owner,
                "evaluation": {"dataset": "d" * 64, "window": 64},
            },
            "source": {},
            "labels": {"suite": "tiny", "tokens": number, "gamma": 0.1},
            "group_key": f"group {number % max(1, num // GROUP)}",
            "stage": 10 * number // num,
            "seconds": 1.0,
            "requires_device": "any",
            "requires_memory_gb": 0.5,
        }
        for number in range(num)
    ]
    with open_session() as session:
        experiment = submissions.submit(
            session, owner, {"name": f"{num}", "kind": "linear_model", "spec": {}}, points
        )
        session.commit()
        return experiment.id


def end(experiment: int, share: float) -> None:
    """Mark this share of the plan as done, from its start."""
    from db.session import engine

    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("""
                UPDATE measurements m SET state = 'done', finished_at = now(), lease_token = NULL
                FROM experiment_points p
                WHERE p.measurement_id = m.id AND p.experiment_id = :id
                    AND p.position
                        < :share * (SELECT num_points FROM experiments WHERE id = :id)"""),
            {"id": experiment, "share": share},
        )
        connection.execute(
            text("""
                UPDATE experiment_points p SET ended = true FROM measurements m
                WHERE m.id = p.measurement_id AND m.state = 'done' AND NOT p.ended""")
        )
        connection.execute(text("VACUUM ANALYZE"))


def claims_take(loaded: str = "group 1") -> list[float]:
    """Return the seconds of CLAIMS claims, one after another, sorted."""
    from db import leases
    from db.session import open_session

    took, tokens = [], []
    for _ in range(CLAIMS):
        with open_session() as session:
            began = time.perf_counter()
            token, points = leases.claim(session, "bench", "cpu", 64.0, loaded, 1.0)
            session.commit()
            took.append(time.perf_counter() - began)
            tokens.append(token)
            assert points, "there was work"
            loaded = points[0].group_key
    with open_session() as session:
        for token in tokens:
            leases.release(session, token)
        session.commit()
    return sorted(took)


def explain() -> str:
    """Return the query plan of a claim, from EXPLAIN ANALYZE."""
    from db import leases
    from db.session import open_session

    seen: list[str] = []
    with open_session() as session:
        connection = session.connection()
        original = session.execute

        def watch(statement: object, parameters: object = None, **more: object) -> object:
            if "SKIP LOCKED" in str(statement):
                plan = connection.execute(
                    text(f"EXPLAIN (ANALYZE, BUFFERS) {statement}"), parameters
                )  # type: ignore[call-overload]
                seen.append("\n".join(row[0] for row in plan))
            return original(statement, parameters, **more)  # type: ignore[call-overload]

        session.execute = watch  # type: ignore[method-assign, assignment]
        leases.claim(session, "bench", "cpu", 64.0, "group 1", 1.0)
        session.rollback()
    return seen[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("--points", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engines(Path(folder)) as engines:
        os.environ["UCURVE_DATABASE_URL"] = engines.database_url
        launch.migrate(
            launch.environment(engines.database_url, engines.broker_url, "", Path(folder))
        )
        print(
            f"milliseconds of a claim, median and worst of {CLAIMS}\n"
            "points   ended   median   worst"
        )
        for num in args.points:
            id = load(num, f"user of {num}")
            for share in (0.0, 0.5, 0.9):
                end(id, share)
                took = claims_take()
                median, worst = 1e3 * statistics.median(took), 1e3 * took[-1]
                print(f"{num:7,}  {share:4.0%}  {median:7.1f}  {worst:6.1f}", flush=True)
                if args.explain and num == args.points[-1]:
                    print(explain())
            end(id, 2.0)


if __name__ == "__main__":
    main()
