"""What every request has at hand: the store, the settings, and who asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from fettle.scoring.openai_grader import GradingServices, NoSampler, Sampler
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.code_runner import CodeRunner
from fettle.server.metrics import Metrics
from fettle.server.settings import ServerSettings
from fettle.store.database import Store
from fettle.store.keys import Owner

API_PREFIX = "/v1"


def no_sampler(_owner: Owner) -> Sampler:
    """Nobody may ask any model."""
    return NoSampler()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the resources share."""

    store: Store
    settings: ServerSettings
    metrics: Metrics = field(default_factory=Metrics)
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
    """Whose key the request carries; `fettle.server.access` has let it pass."""
    return cast("Owner", request.state.owner)


ContextOf = Annotated[Context, Depends(context_of)]
OwnerOf = Annotated[Owner, Depends(owner_of_request)]
