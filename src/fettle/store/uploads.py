"""Uploads: files that come in parts, of which one file is made when all are there.

A part's content lies beside those of files, under its id. An upload is over after an hour; the workers' sweep frees its parts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from fettle.errors import FettleError, disk_errors_explained
from fettle.files import move_durably
from fettle.store.database import Store, now
from fettle.store.files import PART_PREFIX, NoSuchFileError, StoredFile, add_file, content_of, find_file, incoming_place
from fettle.store.ids import new_id
from fettle.store.tables import upload_parts, uploads

LIFE_SECONDS = 3600
_CHUNK_BYTES = 1 << 20


class NoSuchUploadError(FettleError):
    """There is no upload of this id, or it is another project's."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"No such Upload object: {upload_id}")


class UploadError(FettleError):
    """What is asked of an upload cannot be done with it as it is."""


class UploadStatus(StrEnum):
    """How far an upload has come."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that comes in parts."""

    id: str
    project_id: str
    filename: str
    purpose: str
    mime_type: str
    num_bytes: int
    """Of the whole file, as it was announced."""
    status: UploadStatus
    created_at: int
    expires_at: int
    file_lives_seconds: int | None
    """How long the file is kept; None: until it is deleted."""
    file_id: str | None = None

    def require_pending(self) -> None:
        """Refuse where nothing can be done with it any more.

        Raises:
            UploadError: It is over.
        """
        if self.status is not UploadStatus.PENDING:
            raise UploadError(f"Upload {self.id} is {self.status.value}, and only a pending one can be changed")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """A part of an upload."""

    id: str
    upload_id: str
    num_bytes: int
    created_at: int


@dataclass(frozen=True, slots=True)
class _Joined:
    content: Path
    sha256: str
    md5: str


def add_upload(connection: Connection, upload: Upload) -> None:
    """Have a new one."""
    connection.execute(
        insert(uploads).values(
            id=upload.id,
            project_id=upload.project_id,
            filename=upload.filename,
            purpose=upload.purpose,
            mime_type=upload.mime_type,
            num_bytes=upload.num_bytes,
            status=upload.status.value,
            created_at=upload.created_at,
            expires_at=upload.expires_at,
            file_lives_seconds=upload.file_lives_seconds,
            file_id=upload.file_id,
        )
    )


def find_upload(connection: Connection, project_id: str, upload_id: str, *, holds: bool = False) -> Upload:
    """A project's upload; `holds`: nobody changes it until the transaction is over.

    Raises:
        NoSuchUploadError: There is none of this id.
    """
    wanted = select(uploads).where(uploads.c.project_id == project_id, uploads.c.id == upload_id)
    row = connection.execute(wanted.with_for_update() if holds else wanted).first()
    if row is None:
        raise NoSuchUploadError(upload_id)
    values = dict(row._mapping)
    del values["number"]
    status = UploadStatus(values.pop("status"))
    if status is UploadStatus.PENDING and row.expires_at <= now():
        status = UploadStatus.EXPIRED
    return Upload(**values, status=status)


def file_of(connection: Connection, upload: Upload) -> StoredFile | None:
    """What a completed upload has become; None: nothing yet, or it was deleted."""
    if upload.file_id is None:
        return None
    try:
        return find_file(connection, upload.project_id, upload.file_id)
    except NoSuchFileError:
        return None


def add_part(store: Store, upload: Upload, written: Path, *, num_bytes: int, most_bytes: int) -> UploadPart:
    """Have a part whose content is whole and synced in an `incoming_place`.

    Raises:
        UploadError: The upload is over, or its parts are more than `most_bytes` together.
    """
    part = UploadPart(id=new_id(PART_PREFIX), upload_id=upload.id, num_bytes=num_bytes, created_at=now())
    move_durably(written, store.files / part.id)
    try:
        with store.writing() as connection:
            find_upload(connection, upload.project_id, upload.id, holds=True).require_pending()
            together = select(func.sum(upload_parts.c.num_bytes)).where(upload_parts.c.upload_id == upload.id)
            if (connection.execute(together).scalar() or 0) + num_bytes > most_bytes:
                raise UploadError(f"The parts of upload {upload.id} are more than {most_bytes} bytes together")
            connection.execute(
                insert(upload_parts).values(
                    id=part.id, upload_id=part.upload_id, num_bytes=part.num_bytes, created_at=part.created_at
                )
            )
    except BaseException:
        (store.files / part.id).unlink(missing_ok=True)
        raise
    return part


def complete_upload(store: Store, upload: Upload, part_ids: Sequence[str], md5: str | None) -> Upload:
    """Make one file of the parts, in the order of their ids. Who completes it at the same time gets the same file.

    Raises:
        UploadError: It is over, has no such parts, or they are not what was announced.
    """
    try:
        joined = _join(store, _require_parts(store, upload, part_ids))
        try:
            if md5 is not None and md5.lower() != joined.md5:
                raise UploadError(f"The parts of upload {upload.id} have the MD5 {joined.md5}, and {md5} was given")
            _make_file(store, upload, joined)
        finally:
            joined.content.unlink(missing_ok=True)
    except _OvertakenError:
        return _completed_by_another(store, upload)
    _free_parts(store, upload_parts.c.upload_id == upload.id)
    return _read(store, upload)


def cancel_upload(store: Store, upload: Upload) -> Upload:
    """Give an upload up, and free its parts.

    Raises:
        UploadError: It is over.
    """
    with store.writing() as connection:
        find_upload(connection, upload.project_id, upload.id, holds=True).require_pending()
        connection.execute(update(uploads).where(uploads.c.id == upload.id).values(status=UploadStatus.CANCELLED.value))
    _free_parts(store, upload_parts.c.upload_id == upload.id)
    return _read(store, upload)


def expire_uploads(store: Store) -> int:
    """Free the parts of uploads that are over; how many uploads have expired now."""
    is_pending = uploads.c.status == UploadStatus.PENDING.value
    with store.writing() as connection:
        expired = connection.execute(
            update(uploads).where(is_pending, uploads.c.expires_at <= now()).values(status=UploadStatus.EXPIRED.value)
        )
    _free_parts(store, upload_parts.c.upload_id.in_(select(uploads.c.id).where(~is_pending)))
    return expired.rowcount


class _OvertakenError(Exception):
    """Another request has changed the upload meanwhile."""


def _read(store: Store, upload: Upload) -> Upload:
    with store.reading() as connection:
        return find_upload(connection, upload.project_id, upload.id)


def _completed_by_another(store: Store, upload: Upload) -> Upload:
    found = _read(store, upload)
    if found.status is UploadStatus.COMPLETED:
        return found
    found.require_pending()
    raise UploadError(f"The parts of upload {upload.id} are not on this server any more; send the file again")


def _require_parts(store: Store, upload: Upload, part_ids: Sequence[str]) -> list[UploadPart]:
    """The parts that are named.

    Raises:
        UploadError: There are no such parts, or they have not the size that was announced.
        _OvertakenError: The upload is over.
    """
    wanted = select(upload_parts).where(upload_parts.c.upload_id == upload.id)
    with store.reading() as connection:
        known = {row.id: row for row in connection.execute(wanted)}
        is_pending = find_upload(connection, upload.project_id, upload.id).status is UploadStatus.PENDING
    if not is_pending:  # asked after the parts, which go after it is over
        raise _OvertakenError
    for part_id in part_ids:
        if part_id not in known:
            raise UploadError(f"Upload {upload.id} has no part {part_id}")
    if len(set(part_ids)) < len(part_ids):
        raise UploadError("A part is named twice in `part_ids`")
    parts = [_part(known[part_id]) for part_id in part_ids]
    num_bytes = sum(part.num_bytes for part in parts)
    if num_bytes != upload.num_bytes:
        raise UploadError(f"The parts are {num_bytes} bytes together, and {upload.num_bytes} bytes were announced")
    return parts


def _part(row: Row[Any]) -> UploadPart:
    return UploadPart(id=row.id, upload_id=row.upload_id, num_bytes=row.num_bytes, created_at=row.created_at)


def _join(store: Store, parts: Sequence[UploadPart]) -> _Joined:
    place = incoming_place(store)
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with disk_errors_explained(place), place.open("xb") as whole:
            for part in parts:
                with _opened(store, part) as content:
                    while chunk := content.read(_CHUNK_BYTES):
                        whole.write(chunk)
                        sha256.update(chunk)
                        md5.update(chunk)
            whole.flush()
            os.fsync(whole.fileno())
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    return _Joined(place, sha256.hexdigest(), md5.hexdigest())


def _opened(store: Store, part: UploadPart) -> BinaryIO:
    try:
        return (store.files / part.id).open("rb")
    except FileNotFoundError:
        raise _OvertakenError from None


def _make_file(store: Store, upload: Upload, joined: _Joined) -> None:
    """Have the file and the upload completed, both or neither.

    Raises:
        _OvertakenError: The upload is over.
    """
    created_at, lives = now(), upload.file_lives_seconds
    file = StoredFile(
        id=new_id("file-"),
        project_id=upload.project_id,
        filename=upload.filename,
        purpose=upload.purpose,
        num_bytes=upload.num_bytes,
        sha256=joined.sha256,
        created_at=created_at,
        expires_at=None if lives is None else created_at + lives,
    )
    is_still_open = (
        uploads.c.id == upload.id,
        uploads.c.status == UploadStatus.PENDING.value,
        uploads.c.expires_at > created_at,
    )
    move_durably(joined.content, content_of(store, file))
    try:
        with store.writing() as connection:
            values = {"status": UploadStatus.COMPLETED.value, "file_id": file.id}
            if not connection.execute(update(uploads).where(*is_still_open).values(values)).rowcount:
                raise _OvertakenError
            add_file(connection, file)
    except BaseException:
        content_of(store, file).unlink(missing_ok=True)
        raise


def _free_parts(store: Store, which: ColumnElement[bool]) -> None:
    with store.writing() as connection:
        part_ids = connection.execute(select(upload_parts.c.id).where(which)).scalars().all()
        connection.execute(delete(upload_parts).where(which))
    for part_id in part_ids:
        (store.files / part_id).unlink(missing_ok=True)
