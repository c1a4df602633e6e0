"""Which rerankers there are. A new one adds its file here and a line to the registry."""

from __future__ import annotations

from functools import lru_cache

from fettle.retrieval.reranker import Reranker

LATE_INTERACTION = "late-interaction"


@lru_cache(maxsize=4)
def reranker_named(name: str) -> Reranker:
    """The reranker of this name: `late-interaction`, which comes with Fettle, or a cross-encoder's folder or name.

    One for all who ask, threads included: it holds a model, and what it has read.

    Raises:
        ModelError: There is no such model on this machine, or its weights are pickles.
    """
    if name == LATE_INTERACTION:
        from fettle.retrieval.rerankers.late_interaction import LateInteraction

        return LateInteraction()
    from fettle.retrieval.rerankers.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(name)
