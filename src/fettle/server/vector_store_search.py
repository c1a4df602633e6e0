"""Searching a vector store."""

from __future__ import annotations

from fastapi import APIRouter

from fettle.retrieval.records import Found, SearchSettings
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.search_bodies import SearchContent, SearchPage, SearchResult, SearchVectorStore
from fettle.server.searching import search_index
from fettle.server.vector_stores import usable
from fettle.store.indexes import find_index

router = APIRouter(prefix="/vector_stores/{vector_store_id}/search", tags=["vector stores"])


@router.post("")
def create(vector_store_id: str, body: SearchVectorStore, context: ContextOf, owner: OwnerOf) -> SearchPage:
    """The passages that fit a query best."""
    where = body.where()
    with context.store.reading() as connection:
        index = usable(find_index(connection, owner.project_id, vector_store_id))
    settings = SearchSettings(num_passages=body.max_num_results)
    found = search_index(context, index, body.queries, settings, where)
    shown = [one for one in found if one.score >= body.least_score]
    return SearchPage(search_query=body.queries, data=[_result(one) for one in shown])


def _result(found: Found) -> SearchResult:
    passage = found.passage
    return SearchResult(
        file_id=passage.document_id,
        filename=passage.source,
        score=found.score,
        attributes=dict(passage.attributes),
        content=[SearchContent(text=passage.text)],
    )
