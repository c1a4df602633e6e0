"""An answer that is being written, or is whole already: what a resource sends on, and who answers."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.answering.chat import Choice
from fettle.answering.serving_engine import ServingEngine
from fettle.releases.catalogue import Answering
from fettle.server.retrieving import Retrieval


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunAnswer:
    """An answer that is being written."""

    engine: ServingEngine | None
    """That writes it; None: it came from an endpoint, or by way of a router."""
    choices: tuple[Choice, ...]
    retrieval: Retrieval | None
    """What was looked for first; None: nothing."""
    answering: Answering
    """Who answers, whatever becomes of the name meanwhile."""
