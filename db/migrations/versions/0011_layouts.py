"""layouts of checkpoints: names and shapes of their tensors, each stored once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011_layouts"
down_revision = "0010_trials_of_structures"


def upgrade() -> None:
    op.create_table(
        "layouts",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("tied", sa.Boolean(), nullable=True),
        sa.Column(
            "tensors",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.add_column("checkpoints", sa.Column("layout_sha256", sa.Text(), nullable=True))
    op.create_index(
        "checkpoints_without_layout",
        "checkpoints",
        ["id"],
        postgresql_where=sa.text("layout_sha256 IS NULL AND weights_sha256 IS NOT NULL"),
    )
