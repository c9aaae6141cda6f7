"""unwanted measurements: remove those whose experiments were deleted before they had a result."""

from alembic import op

revision = "0004_unwanted_measurements"
down_revision = "0003_idempotent_requests"

UNWANTED = """
    SELECT id FROM measurements m WHERE state = 'open'
        AND NOT EXISTS (SELECT FROM experiment_points p WHERE p.measurement_id = m.id)"""


def upgrade() -> None:
    op.execute(f"DELETE FROM attempts WHERE measurement_id IN ({UNWANTED})")
    op.execute(f"DELETE FROM measurements WHERE id IN ({UNWANTED})")
