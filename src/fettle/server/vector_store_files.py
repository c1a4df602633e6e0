"""Files in vector stores: attached one by one, listed, looked into, taken out. Workers read them (`fettle.jobs.taking_in`)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from fettle.retrieval.stored import passage_settings
from fettle.retrieval.vector_stores import take_out_file
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import invalid
from fettle.server.vector_store_bodies import (
    MOST_TOKENS,
    AttachedFile,
    ChangeAttributes,
    ChunkingStrategy,
    ChunkingStrategyBody,
    FileContentPage,
    LastError,
    Limit,
    TextBody,
    VectorStoreFileBody,
    VectorStoreFileList,
)
from fettle.server.vector_stores import Before, Order, refuse_before, usable
from fettle.server.wire import After
from fettle.store.attached_files import (
    IndexedFile,
    attach_file,
    find_file_of_index,
    list_files_of_index,
    set_attributes,
)
from fettle.store.files import find_file
from fettle.store.indexes import DocumentStatus, StoredIndex, find_index
from fettle.store.keys import Owner
from fettle.store.pages import Page, PageRequest
from fettle.store.passages import list_passages_of

router = APIRouter(prefix="/vector_stores/{vector_store_id}/files", tags=["vector stores"])
StatusFilter = Annotated[DocumentStatus | None, Query(alias="filter", description="Only files that are so far.")]


class DeletedVectorStoreFile(BaseModel):
    """A file is searched no longer."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


@router.post("")
def create(vector_store_id: str, body: AttachedFile, context: ContextOf, owner: OwnerOf) -> VectorStoreFileBody:
    """Attach a file; it is read in the background."""
    with context.store.writing() as connection:
        found = usable(find_index(connection, owner.project_id, vector_store_id))
        require_settings_of(found, body.chunking_strategy)
        file = find_file(connection, owner.project_id, body.file_id)
        attached = attach_file(connection, found.id, file, body.attributes)
    return file_body(found, attached)


@router.get("")
def index(
    vector_store_id: str,
    context: ContextOf,
    owner: OwnerOf,
    limit: Limit = 20,
    order: Order = "desc",
    after: After = None,
    before: Before = None,
    status: StatusFilter = None,
) -> VectorStoreFileList:
    """The files of a vector store, the newest first as it comes."""
    refuse_before(before)
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        files = list_files_of_index(connection, found.id, page, status=status)
    return file_list(found, files)


@router.get("/{file_id:path}/content")
def content(vector_store_id: str, file_id: str, context: ContextOf, owner: OwnerOf) -> FileContentPage:
    """What was read in a file, passage by passage."""
    with context.store.reading() as connection:
        file = _file(context, owner, vector_store_id, file_id)[1]
        passages = list_passages_of(connection, file.number)
    return FileContentPage(data=[TextBody(text=passage.text) for passage in passages])


@router.get("/{file_id:path}")
def show(vector_store_id: str, file_id: str, context: ContextOf, owner: OwnerOf) -> VectorStoreFileBody:
    """One file."""
    return file_body(*_file(context, owner, vector_store_id, file_id))


@router.post("/{file_id:path}")
def change(
    vector_store_id: str, file_id: str, body: ChangeAttributes, context: ContextOf, owner: OwnerOf
) -> VectorStoreFileBody:
    """Give a file other attributes."""
    _, file = _file(context, owner, vector_store_id, file_id)
    with context.store.writing() as connection:
        set_attributes(connection, file, body.attributes or {})
    return file_body(*_file(context, owner, vector_store_id, file_id))


@router.delete("/{file_id:path}")
def delete(vector_store_id: str, file_id: str, context: ContextOf, owner: OwnerOf) -> DeletedVectorStoreFile:
    """Take a file out of a vector store. The file itself stays."""
    _, file = _file(context, owner, vector_store_id, file_id)
    take_out_file(context.store, file)
    return DeletedVectorStoreFile(id=file_id)


def require_settings_of(index: StoredIndex, strategy: ChunkingStrategy | None) -> None:
    """See that a file is to be cut as all files of its store are.

    Raises:
        ApiError: It is not.
    """
    if strategy is None or strategy.type == "auto":
        return
    if strategy.settings(MOST_TOKENS) != passage_settings(index):
        message = (
            f"All files of a vector store are cut alike here, those of '{index.id}' into passages of {index.passage_tokens} "
            f"tokens with {index.overlap_tokens} of overlap. Leave `chunking_strategy` out, or make another vector store."
        )
        raise invalid(message, "chunking_strategy", "unsupported_value")


def file_body(index: StoredIndex, file: IndexedFile) -> VectorStoreFileBody:
    """A file, as OpenAI's API shows it."""
    return VectorStoreFileBody(
        id=file.id,
        created_at=file.created_at,
        vector_store_id=index.id,
        usage_bytes=file.num_bytes,
        status=file.status.value,
        last_error=None if file.error is None else LastError.model_validate(file.error, from_attributes=True),
        chunking_strategy=ChunkingStrategyBody.of(passage_settings(index)),
        attributes=dict(file.attributes),
    )


def file_list(index: StoredIndex, files: Page[IndexedFile]) -> VectorStoreFileList:
    """A page of files."""
    data = [file_body(index, file) for file in files.items]
    first_id, last_id = (data[0].id, data[-1].id) if data else (None, None)
    return VectorStoreFileList(data=data, first_id=first_id, last_id=last_id, has_more=files.has_more)


def _file(context: Context, owner: Owner, vector_store_id: str, file_id: str) -> tuple[StoredIndex, IndexedFile]:
    with context.store.reading() as connection:
        found = find_index(connection, owner.project_id, vector_store_id)
        return found, find_file_of_index(connection, found.id, file_id)
