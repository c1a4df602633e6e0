"""Stores for tests: SQLite, or PostgreSQL where FETTLE_TEST_DATABASE_URL names a server (`make test-postgres`)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from fettle.store.database import Store


@contextmanager
def fresh_database() -> Iterator[str | None]:
    """The URL of an empty database, which is dropped at the end; None: SQLite in the home folder."""
    server = os.environ.get("FETTLE_TEST_DATABASE_URL")
    if server is None:
        yield None
        return
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"test_{secrets.token_hex(6)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        engine.dispose()


@contextmanager
def fresh_store(home: Path) -> Iterator[Store]:
    """An empty store."""
    with fresh_database() as url:
        store = Store(home, url)
        try:
            yield store
        finally:
            store.close()


def skip_without_pgvector(store: Store) -> None:
    """End a test that searches in a PostgreSQL that cannot (`tests/postgres.sh` says so, and what to install)."""
    if store.is_postgresql:
        with store.reading() as connection:
            if not connection.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")).scalar():
                pytest.skip("this PostgreSQL has no pgvector")
