"""training phases, seeds with names, words, and where a checkpoint's position is from."""

import sqlalchemy as sa
from alembic import op

revision = "0009_training_phases"
down_revision = "0008_weights_contents"


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("words", sa.BigInteger(), nullable=True))
    for name in ("training_phase", "replicate_name", "position_source"):
        op.add_column("checkpoints", sa.Column(name, sa.Text(), nullable=True))
