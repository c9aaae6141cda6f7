"""remarks on the files of a checkpoint, and tokenizers that differ only in how they were saved."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012_remarks_on_files"
down_revision = "0011_layouts"


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("tokenizer_content", sa.Text(), nullable=True))
    op.add_column(
        "checkpoints",
        sa.Column(
            "remarks",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )
