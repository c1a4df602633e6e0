"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.scoring.openai_grader import GradingServices, NoSampler, Sampler
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.errors import ApiError
from fettle.store.database import Store
from fettle.store.keys import DEFAULT_PROJECT, Owner, ensure_project, owner_of


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


def no_sampler(_owner: Owner) -> Sampler:
    """Nobody may ask any model."""
    return NoSampler()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    code_runner: CodeRunner = field(default_factory=BubblewrapRunner)
    """Runs python graders."""
    sampler_of: Callable[[Owner], Sampler] = no_sampler
    """What graders ask models with: those that an owner may ask."""

    def grading_services(self, owner: Owner) -> GradingServices:
        """What graders need, for one owner."""
        return GradingServices(code_runner=self.code_runner, sampler=self.sampler_of(owner))


def context_of(request: Request) -> Context:
    """The server's."""
    return cast("Context", request.app.state.context)


def owner_of_request(request: Request) -> Owner:
    """Whose key the request carries.

    Raises:
        ApiError: None, or one that opens nothing.
    """
    context = context_of(request)
    if not context.settings.requires_key:
        with context.store.writing() as connection:
            return Owner(project_id=ensure_project(connection, DEFAULT_PROJECT).id, key_id="none")
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        message = (
            "You didn't provide an API key. Send it as `Authorization: Bearer KEY`; `fettle keys create` makes one."
        )
        raise ApiError(message, status=401, headers={"www-authenticate": "Bearer"})
    owner = owner_of(context.store, secret.strip())
    if owner is None:
        message = "Incorrect API key provided. `fettle keys list` shows which keys are in use."
        raise ApiError(message, status=401, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
    return owner


ContextOf = Annotated[Context, Depends(context_of)]
OwnerOf = Annotated[Owner, Depends(owner_of_request)]
