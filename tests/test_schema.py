"""The migrations create the schema of the models."""

from typing import Any

import pytest
from sqlalchemy import text

from db.models import Base
from db.session import engine

pytestmark = pytest.mark.usefixtures("database_url")


def test_the_migrations_create_the_schema_of_the_models(engines: Any) -> None:
    from conftest import execute

    execute(engines, "CREATE DATABASE of_models")
    from sqlalchemy import create_engine

    models = create_engine(engines.database_url_of("of_models"))
    Base.metadata.create_all(models)
    assert _schema(models) == _schema(engine())
    models.dispose()
    execute(engines, "DROP DATABASE of_models")


def _schema(of: Any) -> list[Any]:
    """Return columns, constraints and indexes, read from Postgres' own catalogue."""
    queries = [
        """SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity
           FROM information_schema.columns
           WHERE table_schema = 'public' AND table_name <> 'alembic_version' ORDER BY 1, 2""",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE connamespace = 'public'::regnamespace
               AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2""",
        """SELECT indexname, indexdef FROM pg_indexes
           WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1""",
    ]
    with of.connect() as connection:
        return [tuple(row) for query in queries for row in connection.execute(text(query))]
