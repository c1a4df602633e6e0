"""How Alembic runs the migrations: on the connection that the store gives it, or, to write a new one, on a URL of its own."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from fettle.store.tables import metadata


def migrate() -> None:
    """Bring the database from the version that it has to the one that is asked for."""
    connection = context.config.attributes.get("connection")
    if connection is None:  # `alembic revision --autogenerate`, see CONTRIBUTING.md
        connection = create_engine(context.get_x_argument(as_dictionary=True)["url"]).connect()
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


if hasattr(context, "config"):  # Alembic runs this file; otherwise it is merely imported
    migrate()
