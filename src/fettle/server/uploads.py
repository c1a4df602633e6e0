"""Uploads: large files in parts, sent in any order and in parallel."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictInt
from starlette.concurrency import run_in_threadpool

from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import disk_faults_are_ours, invalid
from fettle.server.files import ExpiresAfter, FileBody, Purpose, form_documentation
from fettle.server.multipart import UNBOUNDED, FormRules, received_form
from fettle.server.wire import RequestBody, Text
from fettle.store import uploads as kept
from fettle.store.database import now
from fettle.store.files import incoming_place
from fettle.store.ids import new_id
from fettle.store.keys import Owner
from fettle.store.uploads import LIFE_SECONDS, Upload, UploadStatus, file_of, find_upload

router = APIRouter(prefix="/uploads", tags=["uploads"])
_MOST_PART_BYTES = 64 << 20
_MOST_PARTS = 10_000


class CreateUpload(RequestBody):
    """The body of `POST /uploads`."""

    filename: Annotated[Text, Field(min_length=1, max_length=1024)]
    bytes: Annotated[StrictInt, Field(ge=1)]
    mime_type: Annotated[Text, Field(max_length=255)]
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class CompleteUpload(RequestBody):
    """The body of `POST /uploads/{id}/complete`."""

    part_ids: Annotated[list[Annotated[Text, Field(max_length=64)]], Field(min_length=1, max_length=_MOST_PARTS)]
    md5: Annotated[Text, Field(max_length=64)] | None = None


class UploadBody(BaseModel):
    """An upload, as OpenAI's API shows it."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadStatus
    file: FileBody | None


class PartBody(BaseModel):
    """A part, as OpenAI's API shows it."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


@router.post("")
def create(body: CreateUpload, context: ContextOf, owner: OwnerOf) -> UploadBody:
    """Announce a file that will come in parts."""
    most = context.settings.max_upload_bytes
    if body.bytes > most:
        message = f"An upload takes up to {most >> 30} GB ({most} bytes), and `bytes` is {body.bytes}."
        raise invalid(message, "bytes", "integer_above_max_value")
    created_at = now()
    upload = Upload(
        id=new_id("upload_"),
        project_id=owner.project_id,
        filename=body.filename,
        purpose=body.purpose,
        mime_type=body.mime_type,
        num_bytes=body.bytes,
        status=UploadStatus.PENDING,
        created_at=created_at,
        expires_at=created_at + LIFE_SECONDS,
        file_lives_seconds=None if body.expires_after is None else body.expires_after.seconds,
    )
    with context.store.writing() as connection:
        kept.add_upload(connection, upload)
    return _body(context, upload)


@router.post("/{upload_id}/parts", openapi_extra=form_documentation("data", {}, []), max_body_size=UNBOUNDED)
async def add_part(upload_id: str, request: Request, context: ContextOf, owner: OwnerOf) -> PartBody:
    """Send a part."""
    upload = await run_in_threadpool(_pending, context, owner, upload_id)
    rules = FormRules(file="data", most_file_bytes=_MOST_PART_BYTES, remedy="Send smaller parts.")
    async with received_form(request, incoming_place(context.store), rules) as form:
        part = await run_in_threadpool(
            kept.add_part,
            context.store,
            upload,
            form.content,
            num_bytes=form.num_bytes,
            most_bytes=context.settings.max_upload_bytes,
        )
    return PartBody(id=part.id, created_at=part.created_at, upload_id=part.upload_id)


@router.post("/{upload_id}/complete")
def complete(upload_id: str, body: CompleteUpload, context: ContextOf, owner: OwnerOf) -> UploadBody:
    """Make one file of the parts, in the order in which they are named."""
    upload = _pending(context, owner, upload_id)
    with disk_faults_are_ours(context.store.files):
        return _body(context, kept.complete_upload(context.store, upload, body.part_ids, body.md5))


@router.post("/{upload_id}/cancel")
def cancel(upload_id: str, context: ContextOf, owner: OwnerOf) -> UploadBody:
    """Give an upload up."""
    return _body(context, kept.cancel_upload(context.store, _pending(context, owner, upload_id)))


def _pending(context: Context, owner: Owner, upload_id: str) -> Upload:
    with context.store.reading() as connection:
        upload = find_upload(connection, owner.project_id, upload_id)
    upload.require_pending()
    return upload


def _body(context: Context, upload: Upload) -> UploadBody:
    with context.store.reading() as connection:
        file = file_of(connection, upload)
    return UploadBody(
        id=upload.id,
        bytes=upload.num_bytes,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.status,
        file=None if file is None else FileBody.of(file),
    )
