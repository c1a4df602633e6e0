"""What the API does with indexes beside searching them: makes and deletes them, takes files out, and empties those that expire."""

from __future__ import annotations

from fettle.errors import BusyError, ResourceError
from fettle.progress import Listener, SilentListener
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.indexes.registry import backend_named
from fettle.retrieval.indexing import make_searchable
from fettle.store.attached_files import IndexedFile
from fettle.store.database import Store, now
from fettle.store.indexes import (
    StoredIndex,
    find_index,
    hold_index,
    list_all_indexes,
    list_documents,
    remove_documents,
    remove_index,
    take_turns,
)

_SECONDS_A_DAY = 24 * 3600


def open_searchable(store: Store, index: StoredIndex, listener: Listener | None = None) -> PassageIndex:
    """The present generation of an index, made searchable first where it is not: after a restore, or on another machine.

    An index that was replaced since it was looked up is looked up again: what the old one was searched with is gone.

    Args:
        store: Where it is.
        index: As it was when it was looked up.
        listener: Told what is made; None: nobody.

    Raises:
        NoSuchIndexError: It was deleted.
        BusyError: It is not searchable, and another process changes the index.
        ResourceError: What it is searched with is damaged.
    """
    backend = backend_named(index.backend)
    while True:
        try:
            if not backend.is_prepared(store, index):
                make_searchable(store, index, listener or SilentListener())
            return backend.open(store, index)
        except (BusyError, ResourceError):
            with store.reading() as connection:
                present = find_index(connection, index.project_id, index.id)
            if present.generation == index.generation:
                raise
            index = present


def remove_vector_store(store: Store, project_id: str, index_id: str) -> None:
    """Delete an index with all that is in it.

    Raises:
        NoSuchIndexError: There is none of this id.
    """
    with store.writing() as connection:
        index = find_index(connection, project_id, index_id)
        remove_index(connection, index.id)
    backend_named(index.backend).discard(store, index.id, keep=None)


def take_out_file(store: Store, file: IndexedFile) -> None:
    """Let a file be found no longer. Search files may name its passages until the index changes next, and are not believed.

    Raises:
        NoSuchIndexError: The index was deleted meanwhile.
    """
    with store.writing() as connection:
        take_turns(connection, file.index_id)
        remove_documents(connection, [file.number])


def expiry_of(index: StoredIndex) -> int | None:
    """When an index expires unless it is used, Unix seconds; None: never."""
    days = index.expires_after_days
    return None if days is None else index.last_active_at + days * _SECONDS_A_DAY


def is_expired(index: StoredIndex) -> bool:
    """Whether an index was not used for as long as it was to be kept."""
    expiry = expiry_of(index)
    return expiry is not None and expiry <= now()


def empty_expired_indexes(store: Store) -> None:
    """Delete what is in indexes that have expired; they stay, empty, and say so."""
    with store.reading() as connection:
        expired = [index for index in list_all_indexes(connection) if is_expired(index)]
    for index in expired:
        with store.writing() as connection:
            hold_index(connection, index.id)
            remove_documents(connection, [document.number for document in list_documents(connection, index.id)])
        backend_named(index.backend).discard(store, index.id, keep=None)
