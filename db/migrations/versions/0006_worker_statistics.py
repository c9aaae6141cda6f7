"""worker statistics, and indexes for what failed and what was lost."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006_worker_statistics"
down_revision = "0005_audit_records"


def upgrade() -> None:
    op.add_column(
        "workers",
        sa.Column(
            "statistics",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.create_index(
        "measurements_failed",
        "measurements",
        [sa.text("finished_at DESC")],
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "attempts_lost", "attempts", ["id"], postgresql_where=sa.text("outcome = 'lost'")
    )
