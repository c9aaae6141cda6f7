"""Workers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Json


class Worker(Base):
    """Last reported state of a worker process."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    memory_gb: Mapped[float]
    versions: Mapped[Json]
    # Counters and rates since its start, see worker/statistics.py.
    statistics: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    waits_for: Mapped[str | None]  # why it claims nothing, such as a full disk
