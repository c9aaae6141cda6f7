"""Outcomes of points: serialize results and failures, and write them to the database."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from sqlalchemy.orm import Session

from db import leases
from db.submissions import register_suite
from ucurve.schemas.measurements import encode_metrics, finite_or_none
from ucurve.spec import Result
from worker.statistics import Outcome
from worker.transactions import REJECTED, run_in_transaction

SuiteRows = tuple[dict[str, Any], list[dict[str, Any]]]  # a suite and its checkpoints


def failure_outcome() -> dict[str, Any]:
    """Return the exception being handled as an outcome; Postgres text cannot hold NUL.

    Its `error` is the first line of the message: the last one of a traceback may be a footnote.
    """
    error = sys.exception()
    assert error is not None, "there is an exception to describe"
    message = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    return {
        "traceback": traceback.format_exc().replace("\0", "\\0"),
        "error": message.replace("\0", "\\0"),
    }


def record_outcome(
    token: str, measurement: int, attempt: int, outcome: dict[str, Any], suite: SuiteRows | None
) -> Outcome | None:
    """Write the outcome and the suite that the point made.

    Returns whether the point is done or failed, None when the lease was lost. A result that the
    database rejects fails the point: measuring it again would end the same way.
    """

    def write(session: Session) -> bool:
        has_lease = leases.finish(session, measurement, token, attempt, outcome)
        if has_lease and suite:
            register_suite(session, *suite)
        return has_lease

    state: Outcome = "failed" if "traceback" in outcome else "done"
    try:
        return state if run_in_transaction(write) else None
    except REJECTED:
        rejection = {**failure_outcome(), "log": outcome["log"]}
        has_lease = run_in_transaction(
            lambda session: leases.finish(session, measurement, token, attempt, rejection)
        )
        return "failed" if has_lease else None


def serialize_result(result: Result) -> dict[str, Any]:
    """Return metrics with inf and NaN as states, series with them as null: JSON has neither."""
    metrics, nonfinite = encode_metrics(result.metrics)
    series = {
        name: [finite_or_none(float(value)) for value in values]
        for name, values in result.series.items()
    }
    return {"metrics": metrics, "nonfinite": nonfinite, "series": series}


def serialize_suite(result: Result) -> SuiteRows | None:
    """Return the suite that a result brings, None when it brings none."""
    if result.suite is None:
        return None
    suite = result.suite.model_dump(
        mode="json", include={"name", "description", "evaluation", "recipe"}
    )
    return suite, [checkpoint.model_dump(mode="json") for checkpoint in result.suite.checkpoints]
