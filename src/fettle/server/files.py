"""Files: sent, listed, read and deleted. They are streamed to and from the disk; a job checks what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StrictInt
from starlette.concurrency import run_in_threadpool

from fettle.server.context import ContextOf, OwnerOf
from fettle.server.multipart import UNBOUNDED, FormRules, ReceivedForm, received_form
from fettle.server.wire import After, Deleted, RequestBody, Text
from fettle.store.database import now
from fettle.store.files import (
    NoSuchFileError,
    StoredFile,
    content_of,
    find_file,
    incoming_place,
    keep_file,
    list_files,
    remove_file,
)
from fettle.store.ids import new_id
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/files", tags=["files"])
Purpose = Literal["fine-tune", "user_data", "evals", "batch", "assistants", "vision"]
"""What users may send files for."""
_CHUNK_BYTES = 1 << 20
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


class ExpiresAfter(RequestBody):
    """When a file is deleted by itself."""

    anchor: Literal["created_at"]
    seconds: Annotated[StrictInt, Field(ge=3600, le=2_592_000)]


class CreateFile(RequestBody):
    """The fields of `POST /files` beside the file."""

    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class FileBody(BaseModel):
    """A file, as OpenAI's API shows it."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None
    expires_at: int | None

    @classmethod
    def of(cls, file: StoredFile) -> FileBody:
        """Of a file that is kept."""
        return cls(
            id=file.id,
            bytes=file.num_bytes,
            created_at=file.created_at,
            filename=file.filename,
            purpose=file.purpose,
            expires_at=file.expires_at,
        )


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


def form_documentation(file: str, fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """How a route that reads its form itself describes it in the API's own document."""
    schema = {
        "type": "object",
        "properties": {file: {"type": "string", "format": "binary"}, **fields},
        "required": [file, *required],
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_FORM = form_documentation(
    "file",
    {
        "purpose": {"type": "string", "enum": list(Purpose.__args__)},
        _ANCHOR: {"type": "string", "enum": ["created_at"]},
        _SECONDS: {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    ["purpose"],
)


@router.post("", openapi_extra=_FORM, max_body_size=UNBOUNDED)
async def create(request: Request, context: ContextOf, owner: OwnerOf) -> FileBody:
    """Send a file."""
    store = context.store
    rules = FormRules(
        file="file",
        fields=("purpose", _ANCHOR, _SECONDS),
        most_file_bytes=context.settings.max_file_bytes,
        remedy=f"Send it in parts (`POST /v1/uploads`), which takes up to {context.settings.max_upload_bytes >> 30} GB.",
    )
    async with received_form(request, incoming_place(store), rules) as form:
        asked = CreateFile.model_validate(_nested(form))
        created_at = now()
        file = StoredFile(
            id=new_id("file-"),
            project_id=owner.project_id,
            filename=form.filename,
            purpose=asked.purpose,
            num_bytes=form.num_bytes,
            sha256=form.sha256,
            created_at=created_at,
            expires_at=None if asked.expires_after is None else created_at + asked.expires_after.seconds,
        )
        await run_in_threadpool(keep_file, store, form.content, file)
    return FileBody.of(file)


@router.get("")
def index(
    context: ContextOf,
    owner: OwnerOf,
    purpose: Annotated[Text | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    after: After = None,
) -> FileList:
    """A project's files, the newest first as it comes."""
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = list_files(connection, owner.project_id, page, purpose)
    data = [FileBody.of(file) for file in found.items]
    ids = [file.id for file in data]
    return FileList(
        data=data, first_id=next(iter(ids), None), last_id=next(reversed(ids), None), has_more=found.has_more
    )


@router.get("/{file_id}")
def show(file_id: str, context: ContextOf, owner: OwnerOf) -> FileBody:
    """One file."""
    with context.store.reading() as connection:
        return FileBody.of(find_file(connection, owner.project_id, file_id))


@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The bytes that came in."}},
)
def content(file_id: str, context: ContextOf, owner: OwnerOf) -> StreamingResponse:
    """The bytes of a file, exactly as they came in."""
    with context.store.reading() as connection:
        file = find_file(connection, owner.project_id, file_id)
    try:
        opened = content_of(context.store, file).open("rb")
    except FileNotFoundError:  # deleted since
        raise NoSuchFileError(file_id) from None
    headers = download_headers(file.filename, file.num_bytes)
    return StreamingResponse(_chunks(opened), media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}")
def delete(file_id: str, context: ContextOf, owner: OwnerOf) -> Deleted:
    """Delete a file, and take it out of all vector stores. Jobs that have begun have what they need of it."""
    remove_file(context.store, owner.project_id, file_id)
    return Deleted(id=file_id, object="file")


def download_headers(filename: str, num_bytes: int) -> dict[str, str]:
    """What goes with bytes that a browser must save and never show."""
    return {
        "content-length": str(num_bytes),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "x-content-type-options": "nosniff",
    }


def _chunks(opened: BinaryIO) -> Iterator[bytes]:
    with opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


def _nested(form: ReceivedForm) -> dict[str, Any]:
    """The fields as the JSON that they stand for."""
    nested: dict[str, Any] = {"purpose": form.fields["purpose"]} if "purpose" in form.fields else {}
    expiry: dict[str, Any] = {}
    if _ANCHOR in form.fields:
        expiry["anchor"] = form.fields[_ANCHOR]
    if _SECONDS in form.fields:
        text = form.fields[_SECONDS]
        expiry["seconds"] = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
    return nested | ({"expires_after": expiry} if expiry else {})
