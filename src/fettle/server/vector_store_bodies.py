"""What is sent of vector stores and of the files in them, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt

from fettle.retrieval.records import AttributeValue, PassageSettings
from fettle.server.errors import invalid
from fettle.server.wire import Attributes, Metadata, RequestBody, Text
from fettle.store.indexes import DocumentStatus

_DEFAULT = PassageSettings()
_LEAST_TOKENS, MOST_TOKENS = 100, 4096
_MOST_FILES = 2000
"""In one request."""
Limit = Annotated[int, Field(ge=1, le=100)]
FileStatus = Literal["in_progress", "completed", "cancelled", "failed"]


class ExpiresAfter(RequestBody):
    """When a vector store is emptied by itself."""

    anchor: Literal["last_active_at"]
    days: Annotated[StrictInt, Field(ge=1, le=365)]


class StaticStrategy(RequestBody):
    """How files are cut, in tokens of the embedder."""

    max_chunk_size_tokens: Annotated[StrictInt, Field(ge=_LEAST_TOKENS, le=MOST_TOKENS)]
    chunk_overlap_tokens: Annotated[StrictInt, Field(ge=0)]


class ChunkingStrategy(RequestBody):
    """How files are cut into passages."""

    type: Literal["auto", "static"]
    static: StaticStrategy | None = None

    def settings(self, most_tokens: int) -> PassageSettings:
        """The same for our own passages.

        Args:
            most_tokens: What the embedder reads of a passage. Its name, which may be a place on the server, is told to nobody.

        Raises:
            ApiError: The embedder reads less, passages would repeat more than a half, or what `static` says is missing.
        """
        if self.type == "auto":
            if self.static is not None:
                raise invalid("`static` goes with the type 'static'.", "chunking_strategy.static")
            return PassageSettings(max_tokens=min(_DEFAULT.max_tokens, most_tokens))
        where = "chunking_strategy.static"
        if self.static is None:
            raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
        size, overlap = self.static.max_chunk_size_tokens, self.static.chunk_overlap_tokens
        if size > most_tokens:
            message = f"Passages of {size} tokens are longer than the {most_tokens} that the embedder reads."
            raise invalid(message, f"{where}.max_chunk_size_tokens", "integer_above_max_value")
        if overlap * 2 > size:
            message = f"An overlap of {overlap} tokens is more than half of a passage of {size}."
            raise invalid(message, f"{where}.chunk_overlap_tokens", "integer_above_max_value")
        return PassageSettings(max_tokens=size, overlap_tokens=overlap)


class CreateVectorStore(RequestBody):
    """The body of `POST /vector_stores`."""

    name: Annotated[Text, Field(max_length=256)] | None = None
    file_ids: Annotated[list[Text], Field(max_length=_MOST_FILES)] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy | None = None
    metadata: Metadata | None = None
    description: Text | None = None


class ChangeVectorStore(RequestBody):
    """The body of `POST /vector_stores/{vector_store_id}`. What is not there stays; what is null goes."""

    name: Annotated[Text, Field(max_length=256)] | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class AttachedFile(RequestBody):
    """A file that is to be searched: the body of `POST /vector_stores/{vector_store_id}/files`, and one of a batch."""

    file_id: Text
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class ChangeAttributes(RequestBody):
    """The body of `POST /vector_stores/{vector_store_id}/files/{file_id}`."""

    attributes: Attributes | None


class CreateFileBatch(RequestBody):
    """The body of `POST /vector_stores/{vector_store_id}/file_batches`."""

    file_ids: Annotated[list[Text], Field(min_length=1, max_length=_MOST_FILES)] | None = None
    files: Annotated[list[AttachedFile], Field(min_length=1, max_length=_MOST_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None

    def attached(self) -> list[AttachedFile]:
        """Each file with what holds for it.

        Raises:
            ApiError: Neither `file_ids` nor `files` is given, or both are.
        """
        if (self.file_ids is None) == (self.files is None):
            raise invalid("Give either `file_ids` or `files`.", "file_ids", "missing_required_parameter")
        if self.files is not None:
            return self.files
        return [
            AttachedFile(file_id=file_id, attributes=self.attributes, chunking_strategy=self.chunking_strategy)
            for file_id in self.file_ids or ()
        ]


class FileCounts(BaseModel):
    """How many files are how far."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0

    @classmethod
    def of(cls, counts: Mapping[DocumentStatus, int]) -> FileCounts:
        """Of the numbers by status."""
        return cls(**{status.value: count for status, count in counts.items()}, total=sum(counts.values()))


class ExpiresAfterBody(BaseModel):
    """When a vector store is emptied by itself."""

    anchor: Literal["last_active_at"] = "last_active_at"
    days: int


class VectorStoreBody(BaseModel):
    """A vector store, as OpenAI's API shows it."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: ExpiresAfterBody | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class VectorStoreList(BaseModel):
    """A page of vector stores."""

    object: Literal["list"] = "list"
    data: list[VectorStoreBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StaticStrategyBody(BaseModel):
    """How a file was cut."""

    max_chunk_size_tokens: int
    chunk_overlap_tokens: int


class ChunkingStrategyBody(BaseModel):
    """How a file was cut."""

    type: Literal["static"] = "static"
    static: StaticStrategyBody

    @classmethod
    def of(cls, passages: PassageSettings) -> ChunkingStrategyBody:
        """Of our own settings."""
        sizes = {"max_chunk_size_tokens": passages.max_tokens, "chunk_overlap_tokens": passages.overlap_tokens}
        return cls(static=StaticStrategyBody(**sizes))


class LastError(BaseModel):
    """Why a file cannot be searched."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFileBody(BaseModel):
    """A file in a vector store, as OpenAI's API shows it."""

    id: str
    """Of the file; of a document that was read from a folder: its id, which is its path there."""
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: FileStatus
    last_error: LastError | None
    chunking_strategy: ChunkingStrategyBody
    attributes: dict[str, AttributeValue]


class VectorStoreFileList(BaseModel):
    """A page of the files in a vector store."""

    object: Literal["list"] = "list"
    data: list[VectorStoreFileBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class TextBody(BaseModel):
    """A piece of a file's text."""

    type: Literal["text"] = "text"
    text: str


class FileContentPage(BaseModel):
    """What was read in a file, passage by passage."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[TextBody]
    has_more: Literal[False] = False
    next_page: None = None


class FileBatchBody(BaseModel):
    """Files that were attached together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: FileStatus
    file_counts: FileCounts


def given_values(body: ChangeVectorStore) -> dict[str, Any]:
    """What a change says, null included."""
    return {name: getattr(body, name) for name in body.model_fields_set}
