"""what workers learn of a model by trying it once at registration."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010_trials_of_structures"
down_revision = "0009_training_phases"


def upgrade() -> None:
    op.create_table(
        "structures",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "facts", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("next_try", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'passed', 'failed')", name="known_state"),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index(
        "structures_waiting",
        "structures",
        ["next_try"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.add_column("checkpoints", sa.Column("structure", sa.Text(), nullable=True))
    op.add_column("checkpoints", sa.Column("architecture", sa.Text(), nullable=True))
    op.add_column("checkpoints", sa.Column("initializer_std", sa.Float(), nullable=True))
    op.create_index("ix_checkpoints_structure", "checkpoints", ["structure"])
