"""The application without a server, for requests by the thousand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from databases import fresh_store
from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.settings import ServerSettings
from fettle.store.keys import create_key
from fettle.store.models import put_base_model

IS_FULL = os.environ.get("FETTLE_TEST_CASES") == "full"
"""Whether all drawn cases are wanted (`make test-contract-full`), and not only as many as fit into a minute."""


def num_cases(few: int, *, full: int) -> int:
    """How many cases to draw."""
    return full if IS_FULL else few


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcess:
    """An application over a store of its own."""

    app: FastAPI
    context: Context
    headers: dict[str, str]
    """With a key."""


@contextmanager
def application(home: Path, model: Path) -> Iterator[InProcess]:
    """The application with one base model."""
    with fresh_store(home) as store:
        secret, _ = create_key(store, "test")
        with store.writing() as connection:
            put_base_model(connection, model.name, str(model))
        context = Context(store=store, settings=ServerSettings())
        try:
            yield InProcess(app=create_app(context), context=context, headers={"Authorization": f"Bearer {secret}"})
        finally:
            context.close()
