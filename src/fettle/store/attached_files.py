"""Files that were attached to an index over the API: which there are, how far they are, and which were attached together.

A file is one document of the index, under the file's id. A worker takes in what is in progress (`fettle.jobs.taking_in`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from fettle.errors import FettleError
from fettle.store.database import now
from fettle.store.files import StoredFile
from fettle.store.ids import new_id
from fettle.store.indexes import DocumentStatus, hold_waiting, note_changed_attributes, take_turns
from fettle.store.pages import Page, PageRequest, UnknownPageError
from fettle.store.tables import index_attempts, index_batches, index_documents, passages

_IDS_AT_ONCE = 500


class NoSuchAttachedFileError(FettleError):
    """The index has no document of this id."""

    def __init__(self, index_id: str, document_id: str) -> None:
        super().__init__(f"No file found with id '{document_id}' in vector store '{index_id}'.")


class NoSuchBatchError(FettleError):
    """The index has no batch of this id."""

    def __init__(self, index_id: str, batch_id: str) -> None:
        super().__init__(f"No file batch found with id '{batch_id}' in vector store '{index_id}'.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFailure:
    """Why a file cannot be searched."""

    code: str
    """`unsupported_file`, `invalid_file` or `server_error`."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFile:
    """A document of an index, seen as a file."""

    number: int
    index_id: str
    id: str
    """The document's, which is that of the file where one was attached."""
    source: str
    attributes: Mapping[str, Any]
    file_id: str | None
    """None: the document was read from a folder."""
    status: DocumentStatus
    error: FileFailure | None
    num_bytes: int
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBatch:
    """Files that were attached together."""

    id: str
    index_id: str
    file_ids: tuple[str, ...]
    created_at: int


def attach_file(
    connection: Connection, index_id: str, file: StoredFile, attributes: Mapping[str, Any] | None
) -> IndexedFile:
    """Have a file in an index, to be read in the background; one that is there already is read again unless it is completed.

    Raises:
        NoSuchIndexError: The index was deleted meanwhile.
    """
    take_turns(connection, index_id)
    where = (index_documents.c.index_id == index_id, index_documents.c.document_id == file.id)
    found = connection.execute(select(index_documents).where(*where)).first()
    if found is None:
        values = {
            "index_id": index_id,
            "document_id": file.id,
            "source": file.filename,
            "title": "",
            "sha256": "",
            "attributes": dict(attributes or {}),
            "file_id": file.id,
            "status": DocumentStatus.IN_PROGRESS.value,
            "num_bytes": 0,
            "created_at": now(),
        }
        connection.execute(insert(index_documents).values(**values))
    else:
        changed: dict[str, Any] = {} if attributes is None else {"attributes": dict(attributes)}
        if found.status != DocumentStatus.COMPLETED:
            changed |= {"status": DocumentStatus.IN_PROGRESS.value, "error": None, "created_at": now()}
            connection.execute(delete(index_attempts).where(index_attempts.c.document_number == found.number))
        if changed:
            connection.execute(update(index_documents).where(*where).values(**changed))
            note_changed_attributes(connection, index_id)
    return find_file_of_index(connection, index_id, file.id)


def find_file_of_index(connection: Connection, index_id: str, document_id: str) -> IndexedFile:
    """A file of an index, by its id.

    Raises:
        NoSuchAttachedFileError: There is none of this id.
    """
    where = (index_documents.c.index_id == index_id, index_documents.c.document_id == document_id, _is_shown())
    row = connection.execute(select(index_documents).where(*where)).first()
    if row is None:
        raise NoSuchAttachedFileError(index_id, document_id)
    return _record(row)


def list_files_of_index(
    connection: Connection,
    index_id: str,
    request: PageRequest,
    *,
    status: DocumentStatus | None = None,
    among: Sequence[str] | None = None,
) -> Page[IndexedFile]:
    """A page of the files of an index.

    Args:
        connection: To the database.
        index_id: Which index.
        request: Which page.
        status: Only files that are so far; None: all.
        among: Only these ids; None: all.

    Raises:
        UnknownPageError: The page is asked for after a file that is not in the index.
    """
    number = index_documents.c.number
    where: list[ColumnElement[bool]] = [index_documents.c.index_id == index_id, _is_shown()]
    if among is not None:
        where.append(index_documents.c.document_id.in_(among))
    if request.after is not None:
        last = connection.execute(select(number).where(*where, index_documents.c.document_id == request.after)).scalar()
        if last is None:
            raise UnknownPageError(f"there is nothing called {request.after!r} in this list", where="after")
        where.append(number < last if request.newest_first else number > last)
    if status is not None:
        where.append(index_documents.c.status == status.value)
    wanted = select(index_documents).where(*where).order_by(number.desc() if request.newest_first else number)
    rows = connection.execute(wanted.limit(request.limit + 1)).all()
    return Page(tuple(map(_record, rows[: request.limit])), has_more=len(rows) > request.limit)


def count_files(
    connection: Connection, index_id: str, among: Sequence[str] | None = None
) -> tuple[dict[DocumentStatus, int], int]:
    """How many files of an index are how far, and the bytes that all take."""
    counts: dict[DocumentStatus, int] = {}
    num_bytes = 0
    for ids in [None] if among is None else _portions(among):
        where = [index_documents.c.index_id == index_id, _is_shown()]
        if ids is not None:
            where.append(index_documents.c.document_id.in_(ids))
        columns = (index_documents.c.status, func.count(), func.coalesce(func.sum(index_documents.c.num_bytes), 0))
        rows = connection.execute(select(*columns).where(*where).group_by(index_documents.c.status))
        for status, count, size in rows:
            counts[DocumentStatus(status)] = counts.get(DocumentStatus(status), 0) + count
            num_bytes += int(size)
    return counts, num_bytes


def set_attributes(connection: Connection, file: IndexedFile, attributes: Mapping[str, Any]) -> None:
    """Have other attributes for a file.

    Raises:
        NoSuchIndexError: Its index was deleted meanwhile.
    """
    take_turns(connection, file.index_id)
    where = index_documents.c.number == file.number
    connection.execute(update(index_documents).where(where).values(attributes=dict(attributes)))
    note_changed_attributes(connection, file.index_id)


# ------------------------------------------------------------------------------------------------ taking in


def indexes_with_waiting_files(connection: Connection) -> tuple[str, ...]:
    """The indexes that have files to be taken in, the one whose file waits longest first."""
    oldest = func.min(index_documents.c.number)
    rows = connection.execute(
        select(index_documents.c.index_id).where(_waits()).group_by(index_documents.c.index_id).order_by(oldest)
    )
    return tuple(rows.scalars())


def waiting_files(connection: Connection, index_id: str, limit: int) -> tuple[IndexedFile, ...]:
    """The files of an index that wait to be taken in, the oldest first."""
    wanted = select(index_documents).where(index_documents.c.index_id == index_id, _waits())
    return tuple(map(_record, connection.execute(wanted.order_by(index_documents.c.number).limit(limit))))


def begin_file(connection: Connection, file: IndexedFile) -> int | None:
    """Count that a file is begun; how often it has been, this time included. None: it waits no longer, or is not there."""
    if hold_waiting(connection, file.index_id, file.number) is None:
        return None
    where = index_attempts.c.document_number == file.number
    if not connection.execute(
        update(index_attempts).where(where).values(num_attempts=index_attempts.c.num_attempts + 1)
    ).rowcount:
        connection.execute(insert(index_attempts).values(document_number=file.number, num_attempts=1))
    return connection.execute(select(index_attempts.c.num_attempts).where(where)).scalar_one()


def forget_attempts(connection: Connection, index_id: str, document_id: str) -> None:
    """A file was read without harm: what comes after that does not count against it."""
    where = (index_documents.c.index_id == index_id, index_documents.c.document_id == document_id)
    numbers = select(index_documents.c.number).where(*where)
    connection.execute(delete(index_attempts).where(index_attempts.c.document_number.in_(numbers)))


def end_file(
    connection: Connection, file: IndexedFile, status: DocumentStatus, error: FileFailure | None = None
) -> bool:
    """Say what has become of a file; False: it is not in progress any more, or not there."""
    where = (index_documents.c.number == file.number, index_documents.c.status == DocumentStatus.IN_PROGRESS.value)
    told = None if error is None else {"code": error.code, "message": error.message}
    changed = connection.execute(update(index_documents).where(*where).values(status=status.value, error=told))
    connection.execute(delete(index_attempts).where(index_attempts.c.document_number == file.number))
    return bool(changed.rowcount)


# ------------------------------------------------------------------------------------------------- batches


def add_batch(connection: Connection, index_id: str, file_ids: Sequence[str]) -> FileBatch:
    """Remember that files were attached together."""
    batch = FileBatch(id=new_id("vsfb_"), index_id=index_id, file_ids=tuple(file_ids), created_at=now())
    values = {"id": batch.id, "index_id": index_id, "file_ids": list(file_ids), "created_at": batch.created_at}
    connection.execute(insert(index_batches).values(**values))
    return batch


def find_batch(connection: Connection, index_id: str, batch_id: str) -> FileBatch:
    """A batch of an index.

    Raises:
        NoSuchBatchError: There is none of this id.
    """
    where = (index_batches.c.index_id == index_id, index_batches.c.id == batch_id)
    row = connection.execute(select(index_batches).where(*where)).first()
    if row is None:
        raise NoSuchBatchError(index_id, batch_id)
    return FileBatch(id=row.id, index_id=row.index_id, file_ids=tuple(row.file_ids), created_at=row.created_at)


def cancel_batch(connection: Connection, batch: FileBatch) -> None:
    """Take in no more files of a batch; those that are completed stay. What was read of the others goes.

    Raises:
        NoSuchIndexError: Its index was deleted meanwhile.
    """
    take_turns(connection, batch.index_id)
    for ids in _portions(batch.file_ids):
        where = (index_documents.c.index_id == batch.index_id, index_documents.c.document_id.in_(ids), _waits())
        waiting = select(index_documents.c.number).where(*where).order_by(index_documents.c.number).with_for_update()
        numbers = connection.execute(waiting).scalars().all()
        cancelled = {"status": DocumentStatus.CANCELLED.value, "sha256": "", "num_bytes": 0}
        connection.execute(update(index_documents).where(index_documents.c.number.in_(numbers)).values(cancelled))
        connection.execute(delete(passages).where(passages.c.document_number.in_(numbers)))


def _portions(ids: Sequence[str]) -> list[Sequence[str]]:
    """As few as a database takes in one question."""
    return [ids[start : start + _IDS_AT_ONCE] for start in range(0, len(ids), _IDS_AT_ONCE)]


def _waits() -> ColumnElement[bool]:
    in_progress = index_documents.c.status == DocumentStatus.IN_PROGRESS.value
    return in_progress & index_documents.c.file_id.is_not(None)


def _is_shown() -> ColumnElement[bool]:
    """Of a document of a folder that is being read again, which stands here twice, what can be found."""
    found = index_documents.alias("found")
    has_one = (
        select(found.c.number)
        .where(
            found.c.index_id == index_documents.c.index_id,
            found.c.document_id == index_documents.c.document_id,
            found.c.status == DocumentStatus.COMPLETED.value,
        )
        .exists()
    )
    return (index_documents.c.status != DocumentStatus.IN_PROGRESS.value) | ~has_one


def _record(row: Row[Any]) -> IndexedFile:
    return IndexedFile(
        number=row.number,
        index_id=row.index_id,
        id=row.document_id,
        source=row.source,
        attributes=row.attributes,
        file_id=row.file_id,
        status=DocumentStatus(row.status),
        error=None if row.error is None else FileFailure(**row.error),
        num_bytes=row.num_bytes,
        created_at=row.created_at,
    )
