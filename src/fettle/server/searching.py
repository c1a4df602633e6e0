"""Searches for whoever asks over the API: in an index that is kept open, measured, and scored from 0 to 1."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from fettle.errors import ConfigError, ModelError
from fettle.retrieval.filters import Filter
from fettle.retrieval.records import Found, SearchMethod, SearchSettings
from fettle.retrieval.search import IndexSearch
from fettle.server.context import Context
from fettle.server.errors import ApiError
from fettle.store.database import now
from fettle.store.indexes import StoredIndex, use_index

_logger = logging.getLogger("fettle.server")
_SECONDS_BETWEEN_NOTES = 60
"""That an index is used is noted no more often: a search would wait for a write otherwise."""


def search_index(
    context: Context, index: StoredIndex, queries: Sequence[str], settings: SearchSettings, where: Filter | None
) -> tuple[Found, ...]:
    """The passages that fit any of some queries best, in rank order; takes milliseconds once the index is open.

    Args:
        context: The server's.
        index: As the store has it now.
        queries: Each is searched for by itself; a passage stands where the query ranks it that it fits best.
        settings: How.
        where: What the documents' attributes must fulfil.

    Raises:
        ApiError: Its embedder is another one by now, or its embedder or the reranker is not there; the log says which.
        NoSuchIndexError: It was deleted meanwhile.
        ResourceError: It cannot be read.
    """
    if index.generation == 0:
        return ()
    started = time.monotonic()
    try:
        with context.indexes.opened(context.store, index) as opened:
            made_with = opened.description.embedder  # another one, where the index was rebuilt since it was looked up
            embedder = context.embedders.of_index(context.store, replace(index, embedder=made_with))
            search = IndexSearch(opened, embedder, settings)
            found = [search.search(query, where=where) for query in queries]
    except (ConfigError, ModelError) as error:  # who asks can do nothing about it, and is not told where it lies
        _logger.error("the vector store %s cannot be searched: %s", index.id, error.describe())
        raise ApiError(
            f"The vector store '{index.id}' cannot be searched: its embedder is another one than it was made with, or its embedder "
            "or reranker is not on this server. What is wrong was recorded.",
            code="embedder_not_available",
        ) from error
    context.metrics.on_search(time.monotonic() - started)
    _note_use(context, index)
    return tuple(
        replace(one, rank=rank, score=_from_0_to_1(one.score, settings))
        for rank, one in enumerate(_merged(found)[: settings.num_passages], start=1)
    )


def _merged(found: Sequence[Sequence[Found]]) -> list[Found]:
    best: dict[str, Found] = {}
    for one in sorted((one for ranking in found for one in ranking), key=lambda one: (one.rank, -one.score)):
        best.setdefault(one.passage.id, one)
    return list(best.values())


def _from_0_to_1(score: float, settings: SearchSettings) -> float:
    """A score as OpenAI's API gives them, in the same order.

    Cosine similarities, fused scores (what both searches rank first has 1) and rerankers' scores stay as they are; BM25 has no
    greatest score, and becomes `s / (1 + s)`.

    >>> _from_0_to_1(1.0, SearchSettings()), _from_0_to_1(3.0, SearchSettings(method=SearchMethod.FULL_TEXT))
    (1.0, 0.75)
    """
    is_by_words = settings.reranker is None and settings.method is SearchMethod.FULL_TEXT
    scaled = score / (1 + max(score, 0.0)) if is_by_words else score
    return min(max(scaled, 0.0), 1.0)


def _note_use(context: Context, index: StoredIndex) -> None:
    if now() - index.last_active_at < _SECONDS_BETWEEN_NOTES:
        return
    with context.store.writing() as connection:
        use_index(connection, index.id)
