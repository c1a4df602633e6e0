"""Files are cancelled, taken out and given other attributes, and indexes deleted, at any moment while a worker takes files in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attached import TEXTS, attached, empty_index, searched, state_of
from databases import fresh_store
from fettle.jobs.taking_in import TakingIn
from fettle.progress import SilentListener, Stage
from fettle.retrieval.vector_stores import empty_expired_indexes, remove_vector_store, take_out_file
from fettle.store.attached_files import FileBatch, add_batch, attach_file, cancel_batch, set_attributes
from fettle.store.database import Store
from fettle.store.files import find_file
from fettle.store.indexes import DocumentStatus, StoredIndex, change_index, list_documents
from indexed import WordEmbedder

Change = Callable[[Store, StoredIndex, list[str]], None]
ROADS = 1
"""Which of the files is changed."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        yield store


class At(SilentListener):
    """Does something at the n-th sign of progress."""

    def __init__(self, num_left: int, do: Callable[[], None]) -> None:
        self.num_left, self._do = num_left, do

    def on_stage(self, stage: Stage) -> None:
        self.num_left -= 1
        if self.num_left == 0:
            self._do()


def at_every_moment(store: Store, change: Change) -> Iterator[tuple[StoredIndex, list[str]]]:
    """Indexes that were changed while two files were taken in, each at another moment; then nothing waits any more."""
    for moment in range(1, 100):
        index = empty_index(store)
        ids = attached(store, index, *TEXTS[:2])
        changing = At(moment, lambda index=index, ids=ids: change(store, index, ids))
        worker = TakingIn(store, lambda _: WordEmbedder(), changing)
        while worker.do_next():
            pass
        if changing.num_left > 0:
            assert moment > 7
            return
        yield index, ids


def statuses(store: Store, index: StoredIndex) -> dict[str, DocumentStatus]:
    with store.reading() as connection:
        documents = list_documents(connection, index.id)
    assert len({one.document_id for one in documents}) == len(documents)
    return {one.document_id: one.status for one in documents}


def cancel(store: Store, index: StoredIndex, ids: list[str]) -> None:
    with store.writing() as connection:
        batch = add_batch(connection, index.id, [ids[ROADS]])
        cancel_batch(connection, batch)


def attach_again(store: Store, index: StoredIndex, ids: list[str]) -> None:
    with store.writing() as connection:
        attach_file(connection, index.id, find_file(connection, index.project_id, ids[ROADS]), None)


def test_a_file_that_is_cancelled_is_there_once_and_found_by_nobody(store: Store) -> None:
    for index, ids in at_every_moment(store, cancel):
        assert statuses(store, index) == {ids[0]: DocumentStatus.COMPLETED, ids[ROADS]: DocumentStatus.CANCELLED}
        assert searched(store, index, "roads") == []
        assert searched(store, index, "storms") == [ids[0]]


def test_one_that_is_cancelled_and_attached_again_is_found(store: Store) -> None:
    def change(store: Store, index: StoredIndex, ids: list[str]) -> None:
        cancel(store, index, ids)
        attach_again(store, index, ids)

    for index, ids in at_every_moment(store, change):
        assert statuses(store, index) == dict.fromkeys(ids, DocumentStatus.COMPLETED)
        assert searched(store, index, "roads") == [ids[ROADS]]


def test_a_file_that_is_taken_out_does_not_come_back_and_stops_nobody(store: Store) -> None:
    def change(store: Store, index: StoredIndex, ids: list[str]) -> None:
        take_out_file(store, state_of(store, index, ids[ROADS]))

    for index, ids in at_every_moment(store, change):
        assert statuses(store, index) == {ids[0]: DocumentStatus.COMPLETED}
        assert searched(store, index, "roads") == []
        assert searched(store, index, "storms") == [ids[0]]


def test_attributes_that_are_changed_meanwhile_are_kept(store: Store) -> None:
    def change(store: Store, index: StoredIndex, ids: list[str]) -> None:
        with store.writing() as connection:
            set_attributes(connection, state_of(store, index, ids[ROADS]), {"kind": "changed"})

    for index, ids in at_every_moment(store, change):
        kinds = [state_of(store, index, file_id).attributes for file_id in ids]
        assert kinds == [{"kind": "part"}, {"kind": "changed"}]
        assert searched(store, index, "roads") == [ids[ROADS]]


def test_an_index_that_is_deleted_or_expires_stops_nobody(store: Store) -> None:
    def delete(store: Store, index: StoredIndex, ids: list[str]) -> None:
        remove_vector_store(store, index.project_id, index.id)

    def expire(store: Store, index: StoredIndex, ids: list[str]) -> None:
        with store.writing() as connection:
            change_index(connection, index.id, expires_after_days=1, last_active_at=1)
        empty_expired_indexes(store)

    for change in (delete, expire):
        for index, _ in at_every_moment(store, change):
            assert statuses(store, index) == {}


def test_what_was_read_of_a_cancelled_file_is_gone(store: Store) -> None:
    index = empty_index(store)
    [file_id] = attached(store, index, TEXTS[0])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TakingIn(store, lambda _: WordEmbedder(), At(4, stop)).do_next()
    with store.writing() as connection:
        assert list_documents(connection, index.id)[0].sha256 != ""
        cancel_batch(connection, FileBatch(id="", index_id=index.id, file_ids=(file_id,), created_at=0))
        [document] = list_documents(connection, index.id)
    assert (document.status, document.sha256, document.num_bytes) == (DocumentStatus.CANCELLED, "", 0)
