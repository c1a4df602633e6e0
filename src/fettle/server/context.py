"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.server.metrics import Metrics
from fettle.store.database import Store
from fettle.store.keys import Owner

API_PREFIX = "/v1"


class MetricsAccess(StrEnum):
    """Who may read `/metrics`, which asks for no key and shows no names, only sums."""

    LOOPBACK = "loopback"
    """Programs on the same machine."""
    OPEN = "open"
    """Everybody who reaches the server."""
    OFF = "off"
    """Nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server behaves."""

    organization_id: str = "org-fettle"
    """What jobs say as `organization_id`, and the third field of tuned models' names without its `org-`."""
    requires_key: bool = True
    """False: everybody who reaches it works in the project `default`; only on the loopback interface."""
    max_file_bytes: int = 512 << 20
    """Largest file in one request."""
    max_upload_bytes: int = 8 << 30
    """Largest file in parts."""
    max_body_bytes: int = 32 << 20
    """Largest JSON body."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may use the server from a browser, `*` for all; empty: none."""
    requests_per_minute: int | None = None
    """Of one key; None: no limit."""
    concurrent_requests: int | None = None
    """Of one key, being answered at the same time; None: no limit."""
    metrics: MetricsAccess = MetricsAccess.LOOPBACK
    """Who may read `/metrics`."""
    min_free_bytes: int = 256 << 20
    """`/readyz` says no where less of the disk is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    metrics: Metrics = field(default_factory=Metrics)


def context_of(request: Request) -> Context:
    """The server's."""
    return cast("Context", request.app.state.context)


def owner_of_request(request: Request) -> Owner:
    """Whose key the request carries; `fettle.server.access` has let it pass."""
    return cast("Owner", request.state.owner)


ContextOf = Annotated[Context, Depends(context_of)]
OwnerOf = Annotated[Owner, Depends(owner_of_request)]
