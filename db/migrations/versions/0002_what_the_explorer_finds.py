"""what the explorer finds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "label_values",
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("evaluation", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("suite", "kind", "evaluation", "name", "value"),
    )
    op.execute("""
        ALTER TABLE measurements SET (toast_tuple_target = 768),
            ALTER COLUMN labels SET STORAGE main,
            ALTER COLUMN metrics SET STORAGE main""")
