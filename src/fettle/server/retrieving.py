"""Passages for a chat: which index is searched, what of it fits into the model's context, and which of it an answer names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from fettle.answering.chat import ChatRequest
from fettle.answering.serving_engine import ServingEngine
from fettle.releases.catalogue import Answering
from fettle.releases.passages import attached_to, search_settings, system_part, with_fitting, wording_of
from fettle.retrieval.citations import citation_places
from fettle.retrieval.fence import Wording
from fettle.retrieval.question import question_of
from fettle.retrieval.records import Found, SearchSettings
from fettle.retrieval.vector_stores import is_expired
from fettle.server.context import Context
from fettle.server.errors import ApiError
from fettle.server.search_bodies import FileSearchTool, least_score
from fettle.server.searching import search_index
from fettle.server.vector_stores import usable
from fettle.store.indexes import NoSuchIndexError, StoredIndex, find_index
from fettle.store.keys import Owner
from fettle.store.model_indexes import AttachedIndex, index_of_model

_NUM_PASSAGES = 5
"""Shown at most, where nobody says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """What was looked for, and what of it the model was shown."""

    index_id: str
    question: str
    found: tuple[Found, ...]
    """Shown, in rank order: the first one is [1] in the prompt."""
    wording: Wording = field(default_factory=Wording)
    """What the model is told about them: what it was trained with, where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A place in an answer that names a passage."""

    found: Found
    index: int
    """Where the brackets begin, in characters."""


def look_up(
    context: Context, owner: Owner, answering: Answering, asked: ChatRequest, tool: FileSearchTool | None
) -> Retrieval | None:
    """What the index of a request, or else that of who answers, has for the user's last turn; None: there is no such index.

    Args:
        context: The server's.
        owner: Who asks.
        answering: Who answers.
        asked: The conversation.
        tool: What the request wants to be searched.

    Raises:
        NoSuchIndexError: There is no such index, or it is another project's.
        ApiError: It has expired, the one of who answers was deleted, or the filter is none.
        FettleError: It cannot be searched.
    """
    with context.store.reading() as connection:
        attached = _attached(connection, owner, answering)
        if tool is not None:
            index = usable(find_index(connection, owner.project_id, tool.vector_store_ids[0]))
            settings = SearchSettings(num_passages=tool.max_num_results or _NUM_PASSAGES)
        elif attached is not None:
            index = _searched_by(connection, answering, attached)
            settings = search_settings(attached)
        else:
            return None
    question = question_of(asked.messages, system_part(attached))
    where = None if tool is None else tool.where()
    found = search_index(context, index, [question], settings, where) if question.strip() else ()
    least = 0.0 if tool is None else least_score(tool.ranking_options)
    return Retrieval(
        index_id=index.id,
        question=question,
        found=tuple(one for one in found if one.score >= least),
        wording=wording_of(attached),
    )


def _attached(connection: Connection, owner: Owner, answering: Answering) -> AttachedIndex | None:
    """The index of a release, or of a model; a release is searched as it was when it was made, whatever its model is now."""
    if answering.model is None:
        return None
    if answering.contender is None:
        return index_of_model(connection, answering.model.name, owner.project_id)
    return attached_to(answering.contender, owner.project_id)


def _searched_by(connection: Connection, answering: Answering, attached: AttachedIndex) -> StoredIndex:
    """The index of a release or a model.

    Raises:
        ApiError: It was deleted, or has expired; who asks has named a model, and is told of it.
    """
    try:
        index = find_index(connection, attached.project_id, attached.index_id)
        problem = "has expired" if is_expired(index) else None
    except NoSuchIndexError:
        index, problem = None, "was deleted"
    if index is None or problem is not None:
        name = attached.model if answering.release is None else answering.release.name
        message = f"`{name}` cannot answer: the vector store '{attached.index_id}', which it searches first, {problem}."
        remedy = (
            "Attach another one to the model" if answering.release is None else "Promote another release of this name"
        )
        raise ApiError(f"{message} {remedy}.", param="model", code="vector_store_not_available")
    return index


def with_passages(engine: ServingEngine, asked: ChatRequest, retrieval: Retrieval) -> tuple[ChatRequest, Retrieval]:
    """The conversation with as many whole passages as leave room for the answer, and what was shown."""
    asked, shown = with_fitting(engine, asked, retrieval.found, retrieval.wording)
    return asked, replace(retrieval, found=shown)


def citations(text: str, retrieval: Retrieval) -> tuple[Citation, ...]:
    """The passages that an answer names by their numbers, such as [2] or [1, 3]; numbers of no passage are none.

    Where the model is not asked to name passages, numbers in brackets are the answer's own.

    >>> citations("It takes five days. [7]", Retrieval(index_id="vs_1", question="How long?", found=()))
    ()
    """
    if not retrieval.wording.asks_for_citations:
        return ()
    named, found = citation_places(text), retrieval.found
    return tuple(Citation(found=found[number - 1], index=place) for place, number in named if 1 <= number <= len(found))


class ShownPassage(BaseModel):
    """A passage that a model was shown."""

    file_id: str
    """Of a document that was read from a folder: its id, which is its path there."""
    filename: str
    passage_id: str
    rank: int
    """From 1: the number by which the answer names it."""
    score: float
    """From 0 to 1."""


class RetrievalBody(BaseModel):
    """What a model was shown before it answered."""

    vector_store_id: str
    results: list[ShownPassage]
    cited: list[str]
    """Ids of the passages that the answers name."""


def retrieval_body(retrieval: Retrieval, texts: Sequence[str]) -> dict[str, Any]:
    """What an answer in a chat says of where it comes from.

    Args:
        retrieval: What was shown.
        texts: Of all choices.
    """
    cited = {citation.found.rank for text in texts for citation in citations(text, retrieval)}
    return RetrievalBody(
        vector_store_id=retrieval.index_id,
        results=[
            ShownPassage(
                file_id=found.passage.document_id,
                filename=found.passage.source,
                passage_id=found.passage.id,
                rank=found.rank,
                score=found.score,
            )
            for found in retrieval.found
        ],
        cited=[found.passage.id for found in retrieval.found if found.rank in cited],
    ).model_dump()
