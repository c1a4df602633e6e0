"""Indexes of passages and the documents in them; the passages themselves are in `store.passages`.

A document is `completed` when its passages can be found, and stands beside the version of it that can be found for as long as it is
`in_progress`. What can be found changes all at once, in `publish`, and the index's generation rises with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from fettle.errors import ConfigError, FettleError
from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.tables import index_documents, indexes, passages

_Key = TypeVar("_Key")
_KEYS_AT_ONCE = 1000  # in one statement


class NoSuchIndexError(FettleError):
    """There is no such index, or it is another project's."""


class ChangedMeanwhileError(FettleError):
    """Another process has changed the index."""


class DocumentStatus(StrEnum):
    """What has become of a document."""

    IN_PROGRESS = "in_progress"
    """Its passages are being made, and cannot be found yet."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    """It cannot be read; `error` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIndex:
    """What an index of passages is made with."""

    id: str
    """`vs_` and 24 letters and digits."""
    project_id: str
    name: str | None
    backend: str
    """`folder`, `pgvector` or `lancedb`."""
    embedder: str
    """As `--embedder` takes it."""
    embedder_revision: str
    num_dimensions: int
    passage_tokens: int
    overlap_tokens: int
    created_at: int
    last_active_at: int
    expires_after_days: int | None = None
    """Without being used; None: never."""
    metadata: Mapping[str, str] | None = None
    generation: int = 0
    """Rises with every change of what can be found; 0: nothing was put in yet."""
    attributes_version: int = 0
    """Rises with every change of the attributes of documents that can be found, where it comes with no new generation."""
    replaces: str | None = None
    """The id of the index in whose place this one is being made; such an index is in no list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A document that is put into an index."""

    document_id: str
    source: str
    title: str
    sha256: str
    attributes: Mapping[str, str | float | bool]
    num_bytes: int
    file_id: str | None = None
    """Of the file that was attached over the API; None: it was read from a folder."""
    status: DocumentStatus = DocumentStatus.IN_PROGRESS
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument(NewDocument):
    """A document of an index."""

    number: int
    index_id: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What can be found in an index."""

    num_documents: int
    num_passages: int
    num_bytes: int
    """Of the documents."""


# ---------------------------------------------------------------------------------------------------- indexes


def new_index_id() -> str:
    """For an index that is not in the store yet."""
    return new_id("vs_")


def add_index(connection: Connection, index: StoredIndex) -> None:
    """Have a new index, with nothing in it."""
    metadata = None if index.metadata is None else dict(index.metadata)
    values = {name: getattr(index, name) for name in StoredIndex.__dataclass_fields__} | {"metadata": metadata}
    connection.execute(insert(indexes).values(values))


def find_index(connection: Connection, project_id: str, index_id: str) -> StoredIndex:
    """A project's index.

    Raises:
        NoSuchIndexError: There is none of this id.
    """
    row = connection.execute(select(indexes).where(*_of_project(project_id), indexes.c.id == index_id)).first()
    if row is None:
        raise NoSuchIndexError(f"No vector store found with id '{index_id}'")
    return _index(row)


def find_named_index(connection: Connection, project_id: str, name: str) -> StoredIndex | None:
    """A project's index of this name or id; None: there is none.

    Raises:
        ConfigError: Several have the name.
    """
    called = (indexes.c.name == name) | (indexes.c.id == name)
    found = connection.execute(select(indexes).where(*_of_project(project_id), called)).all()
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} indexes are called {name!r}", remedy=f"give its id: {', '.join(row.id for row in found)}"
        )
    return _index(found[0]) if found else None


def list_indexes(connection: Connection, project_id: str, request: PageRequest) -> Page[StoredIndex]:
    """A page of a project's indexes."""
    return read_page(connection, indexes, _of_project(project_id), request, _index)


def list_all_indexes(connection: Connection) -> tuple[StoredIndex, ...]:
    """The indexes of all projects, the oldest first."""
    rows = connection.execute(select(indexes).where(indexes.c.replaces.is_(None)).order_by(indexes.c.number))
    return tuple(map(_index, rows))


def find_replacement(connection: Connection, index_id: str) -> StoredIndex | None:
    """The index that is being made in this one's place; None: there is none."""
    row = connection.execute(select(indexes).where(indexes.c.replaces == index_id)).first()
    return None if row is None else _index(row)


def change_index(connection: Connection, index_id: str, **values: object) -> None:
    """Change columns of an index, such as its name. What is in it is changed by `publish` alone."""
    connection.execute(update(indexes).where(indexes.c.id == index_id).values(**values))


def note_changed_attributes(connection: Connection, index_id: str) -> None:
    """Note that documents have other attributes, so that every process that has the index open filters by these."""
    change_index(connection, index_id, attributes_version=indexes.c.attributes_version + 1)


def use_index(connection: Connection, index_id: str) -> None:
    """Note that an index was used just now."""
    change_index(connection, index_id, last_active_at=now())


def remove_index(connection: Connection, index_id: str) -> None:
    """Delete an index with all that is in it, and what is being made in its place. Its search files are the backend's to delete."""
    ids = [*connection.execute(select(indexes.c.id).where(indexes.c.replaces == index_id)).scalars(), index_id]
    connection.execute(select(indexes.c.id).where(indexes.c.id.in_(ids)).with_for_update())  # nobody adds to them now
    connection.execute(delete(passages).where(passages.c.index_id.in_(ids)))
    connection.execute(delete(index_documents).where(index_documents.c.index_id.in_(ids)))
    connection.execute(delete(indexes).where(indexes.c.id.in_(ids)))


def sizes_of(connection: Connection, index_id: str) -> Sizes:
    """How much can be found in an index."""
    found = _of_index(index_id, DocumentStatus.COMPLETED)
    counted = select(func.count(), func.coalesce(func.sum(index_documents.c.num_bytes), 0)).where(*found)
    num_documents, num_bytes = connection.execute(counted).one()
    joined = passages.join(index_documents, passages.c.document_number == index_documents.c.number)
    num_passages = connection.execute(select(func.count()).select_from(joined).where(*found)).scalar_one()
    return Sizes(num_documents=num_documents, num_passages=num_passages, num_bytes=int(num_bytes))


# ---------------------------------------------------------------------------------------------------- documents


def add_document(connection: Connection, index_id: str, document: NewDocument) -> int:
    """Have a document, without passages; its number.

    Raises:
        IntegrityError: (SQLAlchemy's) There is one of this id and status already.
    """
    values = _values_of(document) | {"index_id": index_id, "created_at": now()}
    added = insert(index_documents).values(values).returning(index_documents.c.number)
    return int(connection.execute(added).scalar_one())


def replace_document(connection: Connection, number: int, document: NewDocument) -> None:
    """Let a document be another one, without passages; its number stays."""
    connection.execute(delete(passages).where(passages.c.document_number == number))
    change_document(connection, number, **_values_of(document))


def change_document(connection: Connection, number: int, **values: object) -> None:
    """Change columns of a document, such as its attributes. Search files know attributes as they were when they were made."""
    connection.execute(update(index_documents).where(index_documents.c.number == number).values(**values))


def hold_waiting(connection: Connection, index_id: str, number: int) -> StoredDocument | None:
    """A document in progress, kept so until the transaction ends; None: it was cancelled or taken out, or its index is gone."""
    hold_index(connection, index_id)
    where = (*_of_index(index_id, DocumentStatus.IN_PROGRESS), index_documents.c.number == number)
    row = connection.execute(select(index_documents).where(*where).with_for_update()).first()
    return None if row is None else _document(row)


def hold_index(connection: Connection, index_id: str) -> None:
    """Let nobody delete an index until the transaction ends. Who holds documents, too, holds their index first.

    Writers of SQLite take turns, and need none of this.
    """
    connection.execute(select(indexes.c.id).where(indexes.c.id == index_id).with_for_update(read=True, key_share=True))


def take_turns(connection: Connection, index_id: str) -> None:
    """As `hold_index`, with one after the other: who changes which documents an index has, or what is said of them.

    Raises:
        NoSuchIndexError: It was deleted meanwhile.
    """
    turn = select(indexes.c.id).where(indexes.c.id == index_id).with_for_update(key_share=True)
    if connection.execute(turn).first() is None:
        raise NoSuchIndexError(f"No vector store found with id '{index_id}'")


def list_documents(
    connection: Connection,
    index_id: str,
    *,
    status: DocumentStatus | None = None,
    file_id: str | None = None,
    after: int = 0,
    limit: int | None = None,
) -> tuple[StoredDocument, ...]:
    """Documents of an index, in the order of their numbers.

    Args:
        connection: To the store.
        index_id: Which index.
        status: Those of this status; None: all.
        file_id: Those of this attached file; None: all.
        after: Those with a higher number.
        limit: At most so many; None: all.
    """
    where = [*_of_index(index_id, status), index_documents.c.number > after]
    if file_id is not None:
        where.append(index_documents.c.file_id == file_id)
    rows = connection.execute(select(index_documents).where(*where).order_by(index_documents.c.number).limit(limit))
    return tuple(map(_document, rows))


def list_attributes(connection: Connection, index_id: str) -> dict[int, Mapping[str, str | float | bool]]:
    """Of every document that can be found, by its number."""
    columns = (index_documents.c.number, index_documents.c.attributes)
    found = connection.execute(select(*columns).where(*_of_index(index_id, DocumentStatus.COMPLETED)))
    return {row.number: row.attributes for row in found}


def remove_documents(connection: Connection, numbers: Collection[int]) -> None:
    """Delete documents with their passages."""
    for some in _pieces(numbers):
        held = select(index_documents.c.number).where(index_documents.c.number.in_(some))
        connection.execute(
            held.order_by(index_documents.c.number).with_for_update()
        )  # nobody adds passages to them now
        connection.execute(delete(passages).where(passages.c.document_number.in_(some)))
        connection.execute(delete(index_documents).where(index_documents.c.number.in_(some)))


def remove_attached(connection: Connection, file_ids: Collection[str]) -> None:
    """Delete what any index has of files that were attached to it, with the passages."""
    for some in _pieces(file_ids):
        where = (
            index_documents.c.index_id.in_(select(indexes.c.id)),  # so that the key of the table is used
            index_documents.c.document_id.in_(some),
            index_documents.c.file_id.in_(some),
        )
        remove_documents(connection, connection.execute(select(index_documents.c.number).where(*where)).scalars().all())


def publish(connection: Connection, index: StoredIndex, *, new: Collection[int], gone: Collection[int]) -> StoredIndex:
    """Let some documents be found and others no longer, all at once; the index in its next generation.

    Args:
        connection: In a transaction.
        index: As it was when the change was prepared.
        new: Numbers of documents that were in progress; those that were cancelled or taken out since stay so.
        gone: Numbers of documents that are deleted with their passages.

    Raises:
        ChangedMeanwhileError: The index has another generation by now.
    """
    changed = connection.execute(
        update(indexes)
        .where(indexes.c.id == index.id, indexes.c.generation == index.generation)
        .values(generation=index.generation + 1, last_active_at=now())
    )
    if not changed.rowcount:
        raise _changed_meanwhile(index)
    remove_documents(connection, gone)
    for some in _pieces(new):
        completed = update(index_documents).where(
            index_documents.c.number.in_(some),
            index_documents.c.index_id == index.id,
            index_documents.c.status == DocumentStatus.IN_PROGRESS.value,
            index_documents.c.sha256 != "",  # else it was cancelled and attached again: nothing was read since
        )
        connection.execute(completed.values(status=DocumentStatus.COMPLETED.value))
    return replace(index, generation=index.generation + 1)


def take_place(connection: Connection, made: StoredIndex, index: StoredIndex) -> None:
    """Let what was made in an index's place be that index: its documents are deleted, those of `made` become its own, in progress.

    Files that were attached meanwhile and wait to be read stay. To be followed by `publish` in the same transaction.

    Raises:
        ChangedMeanwhileError: A file was attached and read meanwhile, or `made` is no longer there.
    """
    of_index = _of_index(index.id, None)
    attached = (*of_index, index_documents.c.file_id.is_not(None))
    waiting = (DocumentStatus.IN_PROGRESS.value, DocumentStatus.FAILED.value, DocumentStatus.CANCELLED.value)
    if connection.execute(
        select(index_documents.c.number).where(*attached, index_documents.c.status.not_in(waiting)).limit(1)
    ).first():
        raise _changed_meanwhile(index)
    from_folder = select(index_documents.c.number).where(*of_index, index_documents.c.file_id.is_(None))
    remove_documents(connection, connection.execute(from_folder).scalars().all())
    connection.execute(delete(passages).where(passages.c.index_id == index.id))  # of other sizes, or with other vectors
    connection.execute(update(index_documents).where(*attached).values(sha256=""))
    for table in (index_documents, passages):
        connection.execute(update(table).where(table.c.index_id == made.id).values(index_id=index.id))
    if not connection.execute(delete(indexes).where(indexes.c.id == made.id)).rowcount:
        raise _changed_meanwhile(index)
    settings = ("embedder", "embedder_revision", "num_dimensions", "passage_tokens", "overlap_tokens", "backend")
    change_index(connection, index.id, **{name: getattr(made, name) for name in settings})


def _changed_meanwhile(index: StoredIndex) -> ChangedMeanwhileError:
    return ChangedMeanwhileError(
        "the index was changed or deleted by another process meanwhile; nothing of this change can be found",
        where=index.name or index.id,
        remedy="run the same command again: what was embedded is kept",
    )


def _of_project(project_id: str) -> list[ColumnElement[bool]]:
    return [indexes.c.project_id == project_id, indexes.c.replaces.is_(None)]


def _of_index(index_id: str, status: DocumentStatus | None) -> list[ColumnElement[bool]]:
    of_index = [index_documents.c.index_id == index_id]
    return of_index if status is None else [*of_index, index_documents.c.status == status.value]


def _pieces(keys: Collection[_Key]) -> Iterator[Sequence[_Key]]:
    rest = iter(keys)
    while some := list(islice(rest, _KEYS_AT_ONCE)):
        yield some


def _values_of(document: NewDocument) -> dict[str, Any]:
    values = {name: getattr(document, name) for name in NewDocument.__dataclass_fields__}
    return values | {
        "attributes": dict(document.attributes),
        "status": document.status.value,
        "error": None if document.error is None else dict(document.error),
    }


def _index(row: Row[Any]) -> StoredIndex:
    values = dict(row._mapping)
    del values["number"]
    return StoredIndex(**values)


def _document(row: Row[Any]) -> StoredDocument:
    values = dict(row._mapping)
    values["status"] = DocumentStatus(row.status)
    return StoredDocument(**values)
