"""Files that are attached to a vector store together."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import Connection

from fettle.server.context import ContextOf, OwnerOf
from fettle.server.vector_store_bodies import CreateFileBatch, FileBatchBody, FileCounts, Limit, VectorStoreFileList
from fettle.server.vector_store_files import StatusFilter, file_list, require_settings_of
from fettle.server.vector_stores import Before, Order, refuse_before, usable
from fettle.server.wire import After
from fettle.store.attached_files import (
    FileBatch,
    add_batch,
    attach_file,
    cancel_batch,
    count_files,
    find_batch,
    list_files_of_index,
)
from fettle.store.files import find_file
from fettle.store.indexes import DocumentStatus, find_index
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/vector_stores/{vector_store_id}/file_batches", tags=["vector stores"])


@router.post("")
def create(vector_store_id: str, body: CreateFileBatch, context: ContextOf, owner: OwnerOf) -> FileBatchBody:
    """Attach some files; they are read in the background."""
    wanted = {attached.file_id: attached for attached in body.attached()}
    with context.store.writing() as connection:
        found = usable(find_index(connection, owner.project_id, vector_store_id))
        for attached in wanted.values():
            require_settings_of(found, attached.chunking_strategy)
            file = find_file(connection, owner.project_id, attached.file_id)
            attach_file(connection, found.id, file, attached.attributes)
        return _body(connection, add_batch(connection, found.id, list(wanted)))


@router.get("/{batch_id}")
def show(vector_store_id: str, batch_id: str, context: ContextOf, owner: OwnerOf) -> FileBatchBody:
    """How far a batch is."""
    with context.store.reading() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        return _body(connection, find_batch(connection, found.id, batch_id))


@router.post("/{batch_id}/cancel")
def cancel(vector_store_id: str, batch_id: str, context: ContextOf, owner: OwnerOf) -> FileBatchBody:
    """Read no more files of a batch; those that are read stay."""
    with context.store.writing() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        batch = find_batch(connection, found.id, batch_id)
        cancel_batch(connection, batch)
        return _body(connection, batch)


@router.get("/{batch_id}/files")
def files(
    vector_store_id: str,
    batch_id: str,
    context: ContextOf,
    owner: OwnerOf,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    status: StatusFilter = None,
) -> VectorStoreFileList:
    """The files of a batch that are still in the vector store."""
    refuse_before(before)
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        batch = find_batch(connection, found.id, batch_id)
        return file_list(found, list_files_of_index(connection, found.id, page, status=status, among=batch.file_ids))


def _body(connection: Connection, batch: FileBatch) -> FileBatchBody:
    counts, _ = count_files(connection, batch.index_id, batch.file_ids)
    if counts.get(DocumentStatus.IN_PROGRESS):
        status = DocumentStatus.IN_PROGRESS
    else:
        status = DocumentStatus.CANCELLED if counts.get(DocumentStatus.CANCELLED) else DocumentStatus.COMPLETED
    return FileBatchBody(
        id=batch.id,
        created_at=batch.created_at,
        vector_store_id=batch.index_id,
        status=status.value,
        file_counts=FileCounts.of(counts),
    )
