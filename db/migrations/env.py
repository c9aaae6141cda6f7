"""Alembic's entry: runs on the connection that `db.migrate` holds the lock on."""

from alembic import context

from db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    transaction_per_migration=True,  # so that a table is locked for one revision only
)
with context.begin_transaction():
    context.run_migrations()
