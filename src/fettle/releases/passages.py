"""Passages for what a contender is asked: how its index is searched, and how many of them it has room for. The server and the gates
use the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fettle.answering.chat import ChatRequest
from fettle.answering.serving_engine import ServingEngine
from fettle.errors import ConfigError
from fettle.records import Message
from fettle.releases.records import ReleasedContender, Router
from fettle.retrieval.citations import read_citations
from fettle.retrieval.embedder import PassageEmbedder
from fettle.retrieval.fence import Wording, shown_with
from fettle.retrieval.question import SystemPart, question_of
from fettle.retrieval.records import Found, SearchMethod, SearchSettings
from fettle.retrieval.retriever import Retriever
from fettle.retrieval.search import IndexSearch
from fettle.retrieval.stored import describe_index
from fettle.retrieval.vector_stores import is_expired, open_searchable
from fettle.retrieval.vectors import require_same_vectors
from fettle.store.database import Store
from fettle.store.indexes import NoSuchIndexError, find_index
from fettle.store.model_indexes import AttachedIndex

_LEAST_ROOM_TOKENS = 256
"""For an answer whose length nobody bounds; never more than a quarter of the context."""


def attached_to(contender: ReleasedContender, project_id: str) -> AttachedIndex | None:
    """The index that a contender was released with, whatever its model has now; None: it answers without."""
    index = contender.index
    if index is None:
        return None
    return AttachedIndex(
        model=contender.model,
        project_id=project_id,
        index_id=index.index_id,
        num_passages=index.num_passages,
        method=index.method,
        reranker=index.reranker,
        max_tokens=index.max_tokens,
        abstention=index.abstention,
        asks_for_citations=index.asks_for_citations,
        system_begin=index.system_begin,
        system_end=index.system_end,
    )


def search_settings(attached: AttachedIndex) -> SearchSettings:
    """How an attached index is searched."""
    return SearchSettings(
        method=SearchMethod(attached.method),
        num_passages=attached.num_passages,
        reranker=attached.reranker,
        max_tokens=attached.max_tokens,
    )


def wording_of(attached: AttachedIndex | None) -> Wording:
    """What a model is told about passages: what it was trained with, where it was."""
    if attached is None:
        return Wording()
    return Wording(abstention=attached.abstention, asks_for_citations=attached.asks_for_citations)


def system_part(attached: AttachedIndex | None) -> SystemPart | None:
    """Which part of system messages is searched for, beside what the user says; None: none is."""
    if attached is None or attached.system_begin is None:
        return None
    return SystemPart(begin=attached.system_begin, end=attached.system_end)


def with_fitting(
    engine: ServingEngine, asked: ChatRequest, found: Sequence[Found], wording: Wording
) -> tuple[ChatRequest, tuple[Found, ...]]:
    """The conversation with as many whole passages as leave room for the answer, and which these are."""
    most = engine.max_tokens - (asked.max_new_tokens or min(_LEAST_ROOM_TOKENS, engine.max_tokens // 4))
    for count in range(len(found), -1, -1):
        shown = tuple(found[:count])
        messages = shown_with(asked.messages, shown, wording)
        if not count or len(engine.loaded.renderer.prompt_tokens(messages, asked.tools)) <= most:
            return replace(asked, messages=messages), shown
    raise AssertionError("no passage at all is tried last")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderSearch:
    """The index of a contender, open."""

    retriever: Retriever
    wording: Wording
    system_part: SystemPart | None = None
    """Of system messages, which is searched for, too."""

    def shown(
        self, engine: ServingEngine, asked: ChatRequest, messages: Sequence[Message]
    ) -> tuple[ChatRequest, tuple[str, ...]]:
        """The request with passages, as one is answered that does not bound its answer, and their ids.

        Args:
            engine: That answers.
            asked: As the contender's model is asked.
            messages: As they came: what is looked for is in them.
        """
        question = question_of(messages, self.system_part)
        found = self.retriever.search(question) if question.strip() else ()
        with_passages, shown = with_fitting(engine, replace(asked, max_new_tokens=None), found, self.wording)
        return replace(asked, messages=with_passages.messages), tuple(one.passage.id for one in shown)

    def read(self, text: str) -> str:
        """An answer without the numbers of passages at its ends, as studies keep and score it."""
        return read_citations(text).text if self.wording.asks_for_citations else text


def index_sha256(store: Store, contender: ReleasedContender | Router, project_id: str) -> str | None:
    """Hash of what the index of a contender holds now, or of a router's small one; None: it has none, or the index is gone."""
    answers = contender.small if isinstance(contender, Router) else contender
    if answers.index is None:
        return None
    with store.reading() as connection:
        try:
            return describe_index(connection, find_index(connection, project_id, answers.index.index_id)).sha256
        except NoSuchIndexError:
            return None


@contextmanager
def searching(
    store: Store, contender: ReleasedContender, project_id: str, load_embedder: Callable[[str], PassageEmbedder]
) -> Iterator[ContenderSearch | None]:
    """The index of a contender for as long as it is asked; None: it answers without.

    Args:
        store: Where the index is kept.
        contender: Who answers.
        project_id: Whose index it is.
        load_embedder: Loads one by its name.

    Raises:
        NoSuchIndexError: It was deleted.
        ConfigError: It has expired, or was made with another revision of its embedder.
        ModelError: Its embedder is not there.
        ResourceError: It cannot be read.
    """
    attached = attached_to(contender, project_id)
    if attached is None:
        yield None
        return
    with store.reading() as connection:
        index = find_index(connection, project_id, attached.index_id)
    if is_expired(index):
        raise ConfigError(
            f"the index {index.name or index.id} has expired", remedy="make another one, and attach it to the model"
        )
    opened = open_searchable(store, index)
    try:
        embedder = load_embedder(index.embedder)
        search = IndexSearch(opened, embedder, search_settings(attached))
        require_same_vectors(store, index, embedder)
        search.search("?")  # what is read at the first search is no part of a request's time
        yield ContenderSearch(retriever=search, wording=wording_of(attached), system_part=system_part(attached))
    finally:
        opened.close()
