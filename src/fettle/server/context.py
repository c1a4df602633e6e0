"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.answering.engine_pool import EnginePool
from fettle.jobs.asked_models import PoolSampler
from fettle.jobs.catalogue import StoreCatalogue
from fettle.jobs.estimator import Estimator
from fettle.releases.catalogue import ReleaseCatalogue
from fettle.releases.routed import RoutedReleases
from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER, embedder_by_name
from fettle.scoring.openai_grader import GradingServices, Sampler
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.embedder_thread import EmbedderThread
from fettle.server.metrics import Metrics
from fettle.server.open_indexes import OpenEmbedders, OpenIndexes
from fettle.server.settings import ServerSettings
from fettle.server.shadowing import Shadower
from fettle.store.database import Store
from fettle.store.keys import Owner
from fettle.traffic.keeper import Keeper

API_PREFIX = "/v1"
_CHAT_THREADS = 32
_ROUTED_THREADS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    metrics: Metrics = field(default_factory=Metrics)
    code_runner: CodeRunner = field(default_factory=BubblewrapRunner)
    """Runs python graders."""
    sampler_of: Callable[[Owner], Sampler] | None = None
    """What graders ask models with; None: the engines, those models that an owner may ask."""
    engines: EnginePool = field(default_factory=EnginePool)
    """What answers."""
    estimator: Estimator = field(default_factory=Estimator)
    """Says what a job would take."""
    chat_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_CHAT_THREADS, thread_name_prefix="fettle chat")
    )
    """In which conversations are rendered and models loaded: neither may hold up the event loop."""

    routed_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_ROUTED_THREADS, thread_name_prefix="fettle routes")
    )
    """In which routers and endpoints are waited for: they may take as long as their time-outs."""
    embedder: EmbedderThread = field(default_factory=EmbedderThread)
    """Answers requests for embeddings."""
    embedders: OpenEmbedders = field(default_factory=lambda: OpenEmbedders(embedder_by_name))
    """What indexes are searched with."""
    indexes: OpenIndexes = field(default_factory=OpenIndexes)
    """That are searched."""
    answering: ReleaseCatalogue = field(init=False)
    """Who answers to a name."""
    routed: RoutedReleases = field(init=False)
    """Answers for releases that a router or an endpoint answers."""
    keeper: Keeper = field(init=False)
    """Keeps requests where a key's rule says so."""
    shadows: Shadower = field(init=False)
    """Asks challengers beside the release in force."""

    def __post_init__(self) -> None:
        """Look names up in the store, and keep in it."""
        object.__setattr__(self, "answering", ReleaseCatalogue(self.store))
        routed = RoutedReleases(self.store, self.engines, lambda: self.embedders.named(DEFAULT_EMBEDDER))
        object.__setattr__(self, "routed", routed)
        object.__setattr__(self, "keeper", Keeper(self.store))
        object.__setattr__(self, "shadows", Shadower(self.store, self.keeper, lambda: self.engines.load))

    @property
    def catalogue(self) -> StoreCatalogue:
        """Which models there are to answer."""
        return StoreCatalogue(self.store)

    def close(self) -> None:
        """Let go of everything. Answers that are not whole end with an error."""
        self.shadows.close()
        self.engines.close()
        self.chat_threads.shutdown(cancel_futures=True)
        self.routed.close()
        self.routed_threads.shutdown(wait=False, cancel_futures=True)  # they end with their time-outs
        self.embedder.close()
        self.indexes.close()
        self.keeper.close()
        self.store.close()

    def grading_services(self, owner: Owner) -> GradingServices:
        """What graders need, for one owner."""
        sampler = PoolSampler(self.engines, self.catalogue, owner.project_id)
        return GradingServices(
            code_runner=self.code_runner, sampler=self.sampler_of(owner) if self.sampler_of else sampler
        )


def context_of(request: Request) -> Context:
    """The server's."""
    return cast("Context", request.app.state.context)


def owner_of_request(request: Request) -> Owner:
    """Whose key the request carries; `fettle.server.access` has let it pass."""
    return cast("Owner", request.state.owner)


ContextOf = Annotated[Context, Depends(context_of)]
OwnerOf = Annotated[Owner, Depends(owner_of_request)]
