"""the contents of weights, compared by their values."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008_weights_contents"
down_revision = "0007_what_workers_wait_for"


def upgrade() -> None:
    op.create_table(
        "weights_contents",
        sa.Column("weights_sha256", sa.Text(), primary_key=True),
        sa.Column(
            "content",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
    )
