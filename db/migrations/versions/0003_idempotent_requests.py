"""idempotent requests: answers kept for repetitions."""

import sqlalchemy as sa
from alembic import op

revision = "0003_idempotent_requests"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "idempotent_requests",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("owner", "key_sha256"),
    )
    op.create_index("ix_idempotent_requests_created_at", "idempotent_requests", ["created_at"])
