"""The application in this process, over a store of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from fettle.server.app import create_app
from fettle.server.context import Context
from fettle.server.settings import ServerSettings
from fettle.store.database import Store
from fettle.store.keys import create_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An application that answers."""

    app: FastAPI
    client: TestClient
    context: Context
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, headers=self.headers | options.pop("headers", {}), **options)

    def post(self, path: str, **options: Any) -> Any:
        return self.client.post(path, headers=self.headers | options.pop("headers", {}), **options)


@contextmanager
def served(store: Store, host: str = "127.0.0.1", **settings: Any) -> Iterator[Served]:
    """With the given settings; requests come from `host`."""
    secret, _ = create_key(store, "of a test")
    context = Context(store=store, settings=ServerSettings(**settings))
    app = create_app(context)
    with TestClient(app, base_url="http://127.0.0.1:8321", client=(host, 50000)) as client:
        yield Served(app=app, client=client, context=context, key=secret)
