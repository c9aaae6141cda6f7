"""A worker on another machine: runs a step per line of its input, and writes what became of it."""

from __future__ import annotations

import sys

from db_helpers import CPU, VERSIONS, claim
from sqlalchemy.exc import DBAPIError

from db import leases
from db.session import open_session
from worker.transactions import run_in_transaction


class AwayWorker:
    """Each method is a step."""

    def __init__(self) -> None:
        self.session = open_session()
        self.token, self.points = "", list[leases.ClaimedPoint]()

    def claim(self) -> str:
        self.token, self.points = claim("away")
        return "claimed"

    def begin(self) -> str:
        """Begin the point, which locks its experiment, and do not commit."""
        leases.begin(self.session, self.points[0].id, self.token, "away", "cpu", VERSIONS)
        return "begun"

    def commit(self) -> str:
        self.session.commit()
        return "committed"

    def measure(self) -> str:
        """Claim, begin and finish as a worker does, which waits for the database."""
        self.token, (point, *_) = run_in_transaction(
            lambda session: leases.claim(session, "away", **CPU)  # type: ignore[arg-type]
        )
        attempt = run_in_transaction(
            lambda session: leases.begin(session, point.id, self.token, "away", "cpu", VERSIONS)
        )
        assert attempt is not None
        stored = run_in_transaction(
            lambda session: leases.finish(
                session, point.id, self.token, attempt, {"metrics": {"x": 1.0}}
            )
        )
        return "measured" if stored else "lost"


def main() -> None:
    worker = AwayWorker()
    for line in sys.stdin:
        try:
            answer = str(getattr(worker, line.strip())())
        except DBAPIError as error:
            answer = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
