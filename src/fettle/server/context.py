"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.server.metrics import Metrics
from fettle.server.settings import ServerSettings
from fettle.store.database import Store
from fettle.store.keys import Owner

API_PREFIX = "/v1"


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
