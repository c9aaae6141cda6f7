"""what workers wait for: a full disk, for example."""

import sqlalchemy as sa
from alembic import op

revision = "0007_what_workers_wait_for"
down_revision = "0006_worker_statistics"


def upgrade() -> None:
    op.add_column("workers", sa.Column("waits_for", sa.Text(), nullable=True))
