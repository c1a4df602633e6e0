"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.answering.engine_pool import EnginePool, ModelCatalogue
from fettle.jobs.asked_models import PoolSampler
from fettle.jobs.catalogue import StoreCatalogue
from fettle.scoring.openai_grader import GradingServices
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.embedder_thread import EmbedderThread
from fettle.server.errors import ApiError
from fettle.store.database import Store
from fettle.store.keys import DEFAULT_PROJECT, Owner, ensure_project, owner_of

_CHAT_THREADS = 32


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
    max_base_models: int = 2
    """Base models in memory at once, whole tuned models among them; their adapters come beside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    catalogue: ModelCatalogue
    engines: EnginePool
    chat_threads: ThreadPoolExecutor
    """In which conversations are rendered and models loaded: neither may hold up the event loop."""
    embedder: EmbedderThread
    code_runner: CodeRunner
    """Runs python graders."""

    def grading_services(self, owner: Owner) -> GradingServices:
        """What graders need, for one owner."""
        sampler = PoolSampler(self.engines, self.catalogue, owner.project_id)
        return GradingServices(code_runner=self.code_runner, sampler=sampler)

    def close(self) -> None:
        """Let go of everything. Answers that are not whole end with an error."""
        self.engines.close()
        self.chat_threads.shutdown(cancel_futures=True)
        self.embedder.close()
        self.store.close()


def create_context(
    store: Store,
    settings: ServerSettings,
    *,
    engines: EnginePool | None = None,
    code_runner: CodeRunner | None = None,
) -> Context:
    """What the resources share, for a store; `engines` and `code_runner` may be given by tests."""
    return Context(
        store=store,
        settings=settings,
        catalogue=StoreCatalogue(store),
        engines=engines or EnginePool(max_bases=settings.max_base_models),
        chat_threads=ThreadPoolExecutor(_CHAT_THREADS, thread_name_prefix="fettle chat"),
        embedder=EmbedderThread(),
        code_runner=code_runner or BubblewrapRunner(),
    )


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
