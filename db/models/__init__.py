"""The rows. Postgres is the truth; a Celery message is a wake-up that may be lost or doubled.

A **measurement** is one row per identity (and repeat, see there): the hash of everything that
determines its result. **Experiments** point at measurements, many to many: experiments that plan
the same point share the row. An **attempt** is one try at it, append-only.

    open --claim--> running --finish--> done | failed     claim: a lease = owner, token, expiry
      ^               |  |                                by the database's clock
      |---- release --|  |-- lease expires: the next claim takes it, the attempt is `lost`
      |---- reopen (a new experiment needs a failed one, or retry)

- A measurement is wanted while any active experiment points at it. Pausing and cancelling are of
  the experiment.
- Every transition compares and sets: finish and release need the lease's token, so a worker that
  lost its lease cannot write.
- Lock order, always: measurements (by identity), then experiments (by id), then users. No
  deadlocks.
- Readers follow `ExperimentPoint.version`, taken from the experiment's counter under its row lock:
  versions commit in order, so "version > last seen" never skips a row, as a sequence would.

The transitions are in db/leases.py (of workers) and db/submissions.py (of users).
"""

from db.models.audit import AuditRecord
from db.models.base import Base, Json
from db.models.catalogue import (
    Checkpoint,
    Dataset,
    Layout,
    ReferenceCurve,
    Structure,
    Suite,
    WeightsContent,
)
from db.models.experiments import Experiment, ExperimentPoint, Star, WebhookDelivery
from db.models.measurements import Attempt, LabelValue, Measurement
from db.models.requests import IdempotentRequest
from db.models.users import Token, User
from db.models.workers import Worker

__all__ = [
    "Attempt",
    "AuditRecord",
    "Base",
    "Checkpoint",
    "Dataset",
    "Experiment",
    "ExperimentPoint",
    "IdempotentRequest",
    "Json",
    "LabelValue",
    "Layout",
    "Measurement",
    "ReferenceCurve",
    "Star",
    "Structure",
    "Suite",
    "Token",
    "User",
    "WebhookDelivery",
    "WeightsContent",
    "Worker",
]
