"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.answering.engine_pool import EnginePool, ModelCatalogue
from fettle.jobs.asked_models import PoolSampler
from fettle.jobs.catalogue import StoreCatalogue
from fettle.scoring.openai_grader import GradingServices, Sampler
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.embedder_thread import EmbedderThread
from fettle.server.metrics import Metrics
from fettle.server.settings import ServerSettings
from fettle.store.database import Store
from fettle.store.keys import Owner

API_PREFIX = "/v1"
_CHAT_THREADS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    metrics: Metrics
    catalogue: ModelCatalogue
    engines: EnginePool
    chat_threads: ThreadPoolExecutor
    """In which conversations are rendered and models loaded: neither may hold up the event loop."""
    embedder: EmbedderThread
    code_runner: CodeRunner
    """Runs python graders."""

    sampler_of: Callable[[Owner], Sampler]
    """What graders ask models with: those that an owner may ask."""

    def grading_services(self, owner: Owner) -> GradingServices:
        """What graders need, for one owner."""
        return GradingServices(code_runner=self.code_runner, sampler=self.sampler_of(owner))

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
    sampler_of: Callable[[Owner], Sampler] | None = None,
) -> Context:
    """What the resources share, for a store; what has a default may be given by tests."""
    catalogue = StoreCatalogue(store)
    pool = engines or EnginePool(max_bases=settings.max_base_models)
    return Context(
        store=store,
        settings=settings,
        metrics=Metrics(),
        catalogue=catalogue,
        engines=pool,
        chat_threads=ThreadPoolExecutor(_CHAT_THREADS, thread_name_prefix="fettle chat"),
        embedder=EmbedderThread(),
        code_runner=code_runner or BubblewrapRunner(),
        sampler_of=sampler_of or (lambda owner: PoolSampler(pool, catalogue, owner.project_id)),
    )


def context_of(request: Request) -> Context:
    """The server's."""
    return cast("Context", request.app.state.context)


def owner_of_request(request: Request) -> Owner:
    """Whose key the request carries; `fettle.server.access` has let it pass."""
    return cast("Owner", request.state.owner)


ContextOf = Annotated[Context, Depends(context_of)]
OwnerOf = Annotated[Owner, Depends(owner_of_request)]
