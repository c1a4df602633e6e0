"""A store of the test's own: SQLite, or PostgreSQL where the environment names one (`make test-postgres`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import fresh_store
from fettle.store.database import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with fresh_store(tmp_path / "home") as store:
        yield store
