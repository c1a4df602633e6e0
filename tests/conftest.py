"""Fixtures that several rooms share; importing this folder's helpers works because pytest puts it on the path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from databases import fresh_store
from fettle.store.database import Store
from tiny_models import load_tiny_model, save_tiny_model

collect_ignore_glob = [
    "*conftest.py"
]  # they hold no doctests, and several of one name can be imported but not collected

# A person's run draws new cases each time and may find something; a run that gates a change tries the same ones each time.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("local", deadline=None)  # the machine may be busy
settings.load_profile("local")
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store: SQLite, or PostgreSQL where the environment names one (`make test-postgres`)."""
    with fresh_store(tmp_path / "home") as store:
        yield store


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`tiny_model(family)`: a loaded random model, made once a session. Tests leave it as they found it."""
    return _made_once(tmp_path_factory, in_nf4=False)


@pytest.fixture(scope="session")
def tiny_nf4_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """The same model as `tiny_model(family)`, its linear layers in 4 bits; skips where bitsandbytes is not installed."""
    from fettle.models.nf4 import import_bitsandbytes

    if not import_bitsandbytes():
        pytest.skip("bitsandbytes is not installed")
    return _made_once(tmp_path_factory, in_nf4=True)


def _made_once(tmp_path_factory: pytest.TempPathFactory, *, in_nf4: bool) -> Callable[[str], Any]:
    loaded: dict[str, Any] = {}

    def load(family: str) -> Any:
        if family not in loaded:
            folder = save_tiny_model(tmp_path_factory.mktemp("models") / family, family)
            loaded[family] = load_tiny_model(folder, in_nf4=in_nf4)
        return loaded[family]

    return load
