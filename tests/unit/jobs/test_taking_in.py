"""Attached files are taken in, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from attached import TEXTS, attached, empty_index, searched, state_of
from databases import fresh_store
from fettle.errors import RemoteError
from fettle.jobs import taking_in as taking_in_module
from fettle.jobs.taking_in import StopsWhenAsked, TakingIn
from fettle.progress import SilentListener, Stage
from fettle.records import Finding
from fettle.retrieval.records import Document
from fettle.retrieval.vector_stores import empty_expired_indexes, take_out_file
from fettle.store.attached_files import (
    NoSuchAttachedFileError,
    attach_file,
    list_files_of_index,
)
from fettle.store.database import Store, now
from fettle.store.files import find_file, remove_expired_files, remove_file
from fettle.store.indexes import DocumentStatus, StoredIndex, change_index, find_index, remove_attached
from fettle.store.locks import alone_in_store
from fettle.store.pages import PageRequest
from fettle.store.tables import files
from indexed import WordEmbedder, document, indexed, texts_of
from indexed import content_of as content_of_index


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def index(store: Store) -> StoredIndex:
    return empty_index(store)


def taking_in(store: Store, embedder: WordEmbedder | None = None) -> TakingIn:
    return TakingIn(store, lambda _: embedder or WordEmbedder(), SilentListener())


def test_files_of_one_index_can_be_found_all_at_once(store: Store, index: StoredIndex) -> None:
    ids = attached(store, index, *TEXTS)
    embedder = WordEmbedder()
    worker = taking_in(store, embedder)
    assert worker.do_next()
    assert not worker.do_next()
    assert [state_of(store, index, file_id).status for file_id in ids] == [DocumentStatus.COMPLETED] * 3
    assert searched(store, index, "roads") == [ids[1]]
    with store.reading() as connection:
        assert find_index(connection, index.project_id, index.id).generation == 1
        page = list_files_of_index(connection, index.id, PageRequest(limit=2))
    assert ([file.id for file in page.items], page.has_more) == ([ids[2], ids[1]], True)
    assert all(file.attributes == {"kind": "part"} and file.num_bytes > 0 for file in page.items)
    assert len(embedder.asked) == 3


class _KilledError(BaseException):
    """Ends a process as a kill would: nothing is caught, and only what was committed stays."""


class _Killing(SilentListener):
    def __init__(self, num_left: int) -> None:
        self.num_left = num_left

    def on_stage(self, stage: Stage) -> None:
        self.num_left -= 1
        if self.num_left == 0:
            raise _KilledError


def test_killed_at_any_moment_it_goes_on_to_the_same_index(store: Store) -> None:
    undisturbed = empty_index(store)
    attached(store, undisturbed, *TEXTS)
    assert taking_in(store).do_next()
    expected = sorted(texts_of(store, undisturbed))
    num_kills = 0
    for moment in range(1, 100):
        index, embedder = empty_index(store), WordEmbedder()
        ids = attached(store, index, *TEXTS)
        killing = _Killing(moment)
        try:
            TakingIn(store, lambda _, embedder=embedder: embedder, killing).do_next()
        except _KilledError:
            num_kills += 1
        if killing.num_left > 0:
            break
        taking_in(store, embedder).do_next()
        assert sorted(texts_of(store, index)) == expected
        assert [state_of(store, index, file_id).status for file_id in ids] == [DocumentStatus.COMPLETED] * 3
        assert len(embedder.asked) == len(set(embedder.asked)) == 3
    assert num_kills > 5


def test_a_file_that_ends_its_worker_again_and_again_fails_and_stops_no_other(store: Store, index: StoredIndex) -> None:
    deadly, harmless = attached(store, index, *TEXTS[:2])
    for _ in range(5):
        with pytest.raises(_KilledError):
            taking_in(store, _DeadlyEmbedder()).do_next()
    assert taking_in(store).do_next()
    failed = state_of(store, index, deadly)
    assert failed.status is DocumentStatus.FAILED
    assert failed.error is not None
    assert failed.error.code == "server_error"
    assert state_of(store, index, harmless).status is DocumentStatus.COMPLETED


class _DeadlyEmbedder(WordEmbedder):
    def count_tokens(self, texts: object) -> list[int]:
        raise _KilledError


def test_a_process_that_is_to_end_leaves_the_rest(store: Store, index: StoredIndex) -> None:
    [file_id] = attached(store, index, TEXTS[0])
    stops = threading.Event()
    stops.set()
    assert not TakingIn(store, lambda _: WordEmbedder(), StopsWhenAsked(stops)).do_next()
    assert state_of(store, index, file_id).status is DocumentStatus.IN_PROGRESS


def test_many_files_of_one_index_do_not_keep_another_waiting(
    store: Store, index: StoredIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_in_module, "_FILES_AT_ONCE", 1)
    ids, other = attached(store, index, *TEXTS), empty_index(store)
    [waits] = attached(store, other, TEXTS[0])
    worker = taking_in(store)
    assert worker.do_next()
    assert worker.do_next()
    assert state_of(store, other, waits).status is DocumentStatus.COMPLETED
    assert [state_of(store, index, file_id).status for file_id in ids[1:]] == [DocumentStatus.IN_PROGRESS] * 2
    assert worker.do_next()
    assert state_of(store, index, ids[1]).status is DocumentStatus.COMPLETED


def test_while_another_process_changes_the_index_the_next_one_is_looked_at(store: Store, index: StoredIndex) -> None:
    [waiting] = attached(store, index, TEXTS[0])
    other = empty_index(store)
    [done] = attached(store, other, TEXTS[1])
    with alone_in_store(store, index.id, doing="changing this index", remedy=""):
        assert taking_in(store).do_next()
        assert state_of(store, index, waiting).status is DocumentStatus.IN_PROGRESS
    assert state_of(store, other, done).status is DocumentStatus.COMPLETED


def test_an_endpoint_that_does_not_answer_lets_files_wait(store: Store, index: StoredIndex) -> None:
    [file_id] = attached(store, index, TEXTS[0])
    for _ in range(10):
        with pytest.raises(RemoteError):
            taking_in(store, _SilentEmbedder()).do_next()
    assert state_of(store, index, file_id).status is DocumentStatus.IN_PROGRESS
    assert taking_in(store).do_next()
    assert state_of(store, index, file_id).status is DocumentStatus.COMPLETED


def test_an_endpoint_that_does_not_answer_keeps_no_other_index_waiting(store: Store, index: StoredIndex) -> None:
    [waits] = attached(store, index, TEXTS[0])
    other = empty_index(store)
    [read] = attached(store, other, TEXTS[1])
    with store.writing() as connection:
        change_index(connection, index.id, embedder="of an endpoint")
    worker = TakingIn(
        store, lambda name: _SilentEmbedder() if name == "of an endpoint" else WordEmbedder(), SilentListener()
    )
    with pytest.raises(RemoteError):
        worker.do_next()
    assert worker.do_next()
    assert state_of(store, other, read).status is DocumentStatus.COMPLETED
    assert state_of(store, index, waits).status is DocumentStatus.IN_PROGRESS


class _SilentEmbedder(WordEmbedder):
    def embed(self, texts: object) -> object:  # type: ignore[override]
        raise RemoteError("the endpoint does not answer")


def test_another_embedder_of_the_same_name_fails_the_files(store: Store, index: StoredIndex) -> None:
    [file_id] = attached(store, index, TEXTS[0])
    assert taking_in(store, WordEmbedder(revision="second")).do_next()
    failed = state_of(store, index, file_id)
    assert failed.error is not None
    assert "embedder" in failed.error.message


def test_a_file_whose_content_is_lost_fails(store: Store, index: StoredIndex) -> None:
    [lost] = attached(store, index, TEXTS[0])
    (store.files / lost).unlink()
    assert taking_in(store).do_next()
    failed = state_of(store, index, lost)
    assert failed.error is not None
    assert failed.error.code == "invalid_file"


def test_a_file_that_is_deleted_is_in_no_index_any_more(store: Store, index: StoredIndex) -> None:
    found, kept = attached(store, index, TEXTS[0], TEXTS[2])
    other = empty_index(store)
    with store.writing() as connection:
        attach_file(connection, other.id, find_file(connection, index.project_id, found), None)
    while taking_in(store).do_next():
        pass
    assert searched(store, index, "storms") == searched(store, other, "storms") == [found]
    [waits] = attached(store, index, "# More\n\nMore about wind.\n")
    for file_id in (found, waits):
        remove_file(store, index.project_id, file_id)
    assert not taking_in(store).do_next()
    assert searched(store, index, "storms") == searched(store, other, "storms") == []
    for one, file_id in ((index, found), (other, found), (index, waits)):
        with pytest.raises(NoSuchAttachedFileError):
            state_of(store, one, file_id)
    assert searched(store, index, "ice") == [kept]


def test_a_file_that_has_expired_is_in_no_index_any_more(store: Store, index: StoredIndex) -> None:
    expired, kept = attached(store, index, *TEXTS[:2])
    taking_in(store).do_next()
    with store.writing() as connection:
        connection.execute(update(files).where(files.c.id == expired).values(expires_at=now() - 1))
    assert remove_expired_files(store) == 1
    assert searched(store, index, "storms") == []
    assert searched(store, index, "roads") == [kept]


def test_a_document_of_a_folder_with_the_id_of_a_file_outlives_the_file(store: Store) -> None:
    made = indexed(store, [document("file-1", "Part 1 is about storms.")]).index
    with store.writing() as connection:
        remove_attached(connection, ["file-1"])
    assert searched(store, made, "storms") == ["file-1"]


def test_a_file_that_is_deleted_while_it_is_read_does_not_come_back(
    store: Store, index: StoredIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = attached(store, index, *TEXTS[:2])
    read = taking_in_module.document_of_file

    def read_and_deleted(content: Path, **options: Any) -> tuple[Document, tuple[Finding, ...]]:
        found = read(content, **options)
        if options["document_id"] == gone:
            remove_file(store, index.project_id, gone)
        return found

    monkeypatch.setattr(taking_in_module, "document_of_file", read_and_deleted)
    assert taking_in(store).do_next()
    assert searched(store, index, "storms") == []
    assert searched(store, index, "roads") == [kept]
    assert len(texts_of(store, index)) == 1


def test_rows_that_are_left_out_of_a_file_are_named_in_the_log(
    store: Store, index: StoredIndex, caplog: pytest.LogCaptureFixture
) -> None:
    [file_id] = attached(
        store, index, '{"text": "storms"}\n{"id": "x", "text": ""}\n{broken\n{"text": "ice"}\n', name="a.jsonl"
    )
    attached(store, index, TEXTS[1])
    with caplog.at_level("WARNING", logger="fettle.worker"):
        assert taking_in(store).do_next()
    assert state_of(store, index, file_id).status is DocumentStatus.COMPLETED
    [line] = caplog.messages
    assert line == (
        f"vector store {index.id}, file {file_id}, left out: 'a.jsonl:2': the column 'text' is empty; "
        "to do: fill it, or remove the row (and 1 finding more)"
    )


def test_a_file_that_is_taken_out_is_found_no_more_though_nothing_is_made_anew(
    store: Store, index: StoredIndex
) -> None:
    ids = attached(store, index, *TEXTS)
    taking_in(store).do_next()
    take_out_file(store, state_of(store, index, ids[1]))
    assert searched(store, index, "roads") == []
    assert searched(store, index, "ice") == [ids[2]]
    more = attached(store, index, "# More\n\nMore about roads.\n")
    assert taking_in(store).do_next()
    assert searched(store, index, "roads") == more


def test_what_is_not_used_is_emptied(store: Store, index: StoredIndex) -> None:
    kept = empty_index(store)
    attached(store, index, TEXTS[0])
    attached(store, kept, TEXTS[1])
    while taking_in(store).do_next():
        pass
    with store.writing() as connection:
        for one in (index, kept):
            change_index(connection, one.id, expires_after_days=2, last_active_at=now() - 3 * 86_400 * (one is index))
    empty_expired_indexes(store)
    assert content_of_index(store, index) == []
    assert not (store.indexes / index.id).exists()
    assert len(content_of_index(store, kept)) == 1
