"""Files: a row for each, and its content under its id. The name that a user gave is a label and never a path."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, or_, select

from fettle.errors import FettleError, disk_errors_explained
from fettle.files import move_durably
from fettle.store.database import Store, now
from fettle.store.ids import new_id
from fettle.store.indexes import remove_attached
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.tables import files

FINE_TUNE = "fine-tune"
RESULTS = "fine-tune-results"
PART_PREFIX = "part_"
"""Begins the ids of parts of uploads, whose contents lie beside those of files."""
_INCOMING_PREFIX = ".incoming-"
_CUT_PREFIX = ".file-"
"""Begins the names of contents of our own (`write_atomically`) until they are whole."""
_SECONDS_BEFORE_ABANDONED = 24 * 3600


class NoSuchFileError(FettleError):
    """There is no file of this id, or it is another project's."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"No such File object: {file_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a project."""

    id: str
    project_id: str
    filename: str
    purpose: str
    num_bytes: int
    sha256: str
    created_at: int
    expires_at: int | None = None


def content_of(store: Store, file: StoredFile) -> Path:
    """Where its bytes lie."""
    return store.files / file.id


def incoming_place(store: Store) -> Path:
    """Where a content is written that is not whole yet."""
    with disk_errors_explained(store.files):
        store.files.mkdir(parents=True, exist_ok=True)
    return store.files / new_id(_INCOMING_PREFIX)


def keep_file(store: Store, written: Path, file: StoredFile) -> None:
    """Have a file whose content is whole and synced in an `incoming_place`."""
    move_durably(written, content_of(store, file))
    try:
        with store.writing() as connection:
            add_file(connection, file)
    except BaseException:
        content_of(store, file).unlink(missing_ok=True)
        raise


def add_file(connection: Connection, file: StoredFile) -> None:
    """Have a file whose content lies in its place already."""
    connection.execute(
        insert(files).values(
            id=file.id,
            project_id=file.project_id,
            filename=file.filename,
            purpose=file.purpose,
            num_bytes=file.num_bytes,
            sha256=file.sha256,
            created_at=file.created_at,
            expires_at=file.expires_at,
        )
    )


def find_file(connection: Connection, project_id: str, file_id: str) -> StoredFile:
    """A project's file.

    Raises:
        NoSuchFileError: There is none of this id.
    """
    row = connection.execute(select(files).where(*_of_project(project_id), files.c.id == file_id)).first()
    if row is None:
        raise NoSuchFileError(file_id)
    return _record(row)


def list_files(
    connection: Connection, project_id: str, request: PageRequest, purpose: str | None = None
) -> Page[StoredFile]:
    """A page of a project's files."""
    where = _of_project(project_id)
    if purpose is not None:
        where.append(files.c.purpose == purpose)
    return read_page(connection, files, where, request, _record)


def remove_file(store: Store, project_id: str, file_id: str) -> None:
    """Delete a file, from the disk and from all indexes as well.

    Raises:
        NoSuchFileError: There is none of this id.
    """
    with store.writing() as connection:
        file = find_file(connection, project_id, file_id)
        connection.execute(delete(files).where(files.c.id == file.id))
        remove_attached(connection, [file.id])
    content_of(store, file).unlink(missing_ok=True)


def remove_expired_files(store: Store) -> int:
    """Delete what has expired, from all indexes as well; how many files that were."""
    with store.writing() as connection:
        expired = connection.execute(select(files.c.id).where(files.c.expires_at <= now())).scalars().all()
        connection.execute(delete(files).where(files.c.id.in_(expired)))
        remove_attached(connection, expired)
    for file_id in expired:
        (store.files / file_id).unlink(missing_ok=True)
    return len(expired)


def remove_abandoned_contents(store: Store) -> None:
    """Delete what killed processes left behind: contents that nobody goes on writing, and parts of uploads that are long over."""
    oldest = time.time() - _SECONDS_BEFORE_ABANDONED
    for prefix in (_INCOMING_PREFIX, _CUT_PREFIX, PART_PREFIX):
        for content in store.files.glob(f"{prefix}*"):
            try:
                if content.stat().st_mtime < oldest:
                    content.unlink()
            except FileNotFoundError:
                continue  # its upload was completed just now


def _of_project(project_id: str) -> list[ColumnElement[bool]]:
    return [files.c.project_id == project_id, or_(files.c.expires_at.is_(None), files.c.expires_at > now())]


def _record(row: Row[Any]) -> StoredFile:
    values = dict(row._mapping)
    del values["number"]
    return StoredFile(**values)
