"""Vector stores: indexes of passages, as OpenAI's API calls them, those that `fettle index` makes among them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlalchemy import Connection

from fettle.releases.needed import NeededByReleaseError, require_unneeded
from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER
from fettle.retrieval.indexing import new_index
from fettle.retrieval.vector_stores import expiry_of, is_expired, remove_vector_store
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import ApiError, invalid
from fettle.server.vector_store_bodies import (
    ChangeVectorStore,
    ChunkingStrategy,
    CreateVectorStore,
    ExpiresAfter,
    ExpiresAfterBody,
    FileCounts,
    Limit,
    VectorStoreBody,
    VectorStoreList,
    given_values,
)
from fettle.server.wire import After
from fettle.store.attached_files import attach_file, count_files
from fettle.store.files import find_file
from fettle.store.indexes import DocumentStatus, StoredIndex, add_index, change_index, find_index, list_indexes
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/vector_stores", tags=["vector stores"])
Order = Annotated[Literal["asc", "desc"], Query(description="By creation.")]
Before = Annotated[str | None, Query(description="Not supported: pages are read in one direction.")]


class DeletedVectorStore(BaseModel):
    """A vector store is gone."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True


@router.post("")
def create(body: CreateVectorStore, context: ContextOf, owner: OwnerOf) -> VectorStoreBody:
    """Have a vector store; its files are read in the background."""
    if body.description is not None:
        raise invalid("`description` is not kept by this server; `metadata` is.", "description", "unsupported_value")
    embedder = context.embedders.named(DEFAULT_EMBEDDER)
    strategy = body.chunking_strategy or ChunkingStrategy(type="auto")
    made = new_index(
        context.store,
        owner.project_id,
        embedder=embedder,
        passages=strategy.settings(embedder.max_tokens),
        name=body.name,
        expires_after_days=_days(body.expires_after),
        metadata=body.metadata,
    )
    with context.store.writing() as connection:
        files = [find_file(connection, owner.project_id, file_id) for file_id in dict.fromkeys(body.file_ids or ())]
        add_index(connection, made)
        for file in files:
            attach_file(connection, made.id, file, None)
        return _body(connection, made)


@router.get("")
def index(
    context: ContextOf,
    owner: OwnerOf,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
) -> VectorStoreList:
    """A project's vector stores, the newest first as it comes."""
    refuse_before(before)
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = list_indexes(connection, owner.project_id, page)
        data = [_body(connection, one) for one in found.items]
    first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return VectorStoreList(data=data, first_id=first_id, last_id=last_id, has_more=found.has_more)


@router.get("/{vector_store_id}")
def show(vector_store_id: str, context: ContextOf, owner: OwnerOf) -> VectorStoreBody:
    """One vector store."""
    with context.store.reading() as connection:
        return _body(connection, find_index(connection, owner.project_id, vector_store_id))


@router.post("/{vector_store_id}")
def change(vector_store_id: str, body: ChangeVectorStore, context: ContextOf, owner: OwnerOf) -> VectorStoreBody:
    """Give a vector store another name, other metadata or another time to live."""
    values: dict[str, Any] = given_values(body)
    if "expires_after" in values:
        values["expires_after_days"] = _days(values.pop("expires_after"))
    with context.store.writing() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        if values:
            change_index(connection, found.id, **values)
        return _body(connection, find_index(connection, owner.project_id, found.id))


@router.delete("/{vector_store_id}")
def delete(vector_store_id: str, context: ContextOf, owner: OwnerOf) -> DeletedVectorStore:
    """Delete a vector store, unless a release searches it. Its files stay."""
    try:
        with context.store.reading() as connection:
            require_unneeded(connection, index_id=vector_store_id, project_id=owner.project_id, remedy="")
    except NeededByReleaseError as error:
        raise ApiError(error.describe(), code="vector_store_in_use", param="vector_store_id") from error
    remove_vector_store(context.store, owner.project_id, vector_store_id)
    return DeletedVectorStore(id=vector_store_id)


def usable(index: StoredIndex) -> StoredIndex:
    """Itself.

    Raises:
        ApiError: It has expired.
    """
    if is_expired(index):
        message = f"The vector store '{index.id}' has expired: it was not used for {index.expires_after_days} days."
        raise ApiError(f"{message} Make another one and attach the files again.", code="expired")
    return index


def refuse_before(before: str | None) -> None:
    """See that nobody reads pages backwards.

    Raises:
        ApiError: Somebody wants to.
    """
    if before is not None:
        raise invalid(
            "`before` is not supported by this server; `after` and `order` are.", "before", "unsupported_value"
        )


def _days(expires_after: ExpiresAfter | None) -> int | None:
    return None if expires_after is None else expires_after.days


def _body(connection: Connection, index: StoredIndex) -> VectorStoreBody:
    counts, num_bytes = count_files(connection, index.id)
    days = index.expires_after_days
    status = "in_progress" if counts.get(DocumentStatus.IN_PROGRESS) else "completed"
    return VectorStoreBody(
        id=index.id,
        created_at=index.created_at,
        name=index.name or "",
        usage_bytes=num_bytes,
        file_counts=FileCounts.of(counts),
        status="expired" if is_expired(index) else status,
        expires_after=None if days is None else ExpiresAfterBody(days=days),
        expires_at=expiry_of(index),
        last_active_at=index.last_active_at,
        metadata=dict(index.metadata or {}),
    )
