"""Indexes of passages as the store keeps them, on both databases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from fettle.errors import BusyError, ConfigError
from fettle.store.database import Store
from fettle.store.indexes import (
    ChangedMeanwhileError,
    DocumentStatus,
    NewDocument,
    NoSuchIndexError,
    Sizes,
    StoredIndex,
    add_document,
    add_index,
    change_index,
    find_index,
    find_named_index,
    find_replacement,
    list_all_indexes,
    list_documents,
    list_indexes,
    new_index_id,
    publish,
    remove_documents,
    remove_index,
    replace_document,
    sizes_of,
    take_place,
    use_index,
)
from fettle.store.keys import ensure_project
from fettle.store.locks import alone_in_store
from fettle.store.pages import PageRequest
from fettle.store.passages import (
    NewPassage,
    add_passages,
    count_passages,
    find_passages,
    iterate_passages,
    list_passage_numbers,
    list_passages_of,
    list_unembedded,
    set_vectors,
)


def index_of(project_id: str, name: str | None = "handbook", replaces: str | None = None) -> StoredIndex:
    return StoredIndex(
        id=new_index_id(), project_id=project_id, name=name, backend="folder", embedder="words", embedder_revision="first",
        num_dimensions=2, passage_tokens=200, overlap_tokens=20, created_at=1, last_active_at=2,
        metadata={"team": "support"}, expires_after_days=7, replaces=replaces,
    )  # fmt: skip


@pytest.fixture
def index(store: Store) -> StoredIndex:
    with store.writing() as connection:
        made = index_of(ensure_project(connection, "default").id)
        add_index(connection, made)
    return made


def new_document(document_id: str, file_id: str | None = None, num_bytes: int = 10) -> NewDocument:
    return NewDocument(
        document_id=document_id, source=document_id, title="Title", sha256=document_id.rjust(64, "0"),
        attributes={"lang": "en", "year": 2026, "draft": False}, num_bytes=num_bytes, file_id=file_id,
    )  # fmt: skip


def pieces(*texts: str) -> list[NewPassage]:
    return [
        NewPassage(
            position=position, page=None, title_path=("A", "B"), text=text, num_tokens=len(text), text_hash=text.lower()
        )
        for position, text in enumerate(texts)
    ]  # fmt: skip


def put(connection: Connection, index: StoredIndex, document_id: str, *texts: str) -> int:
    number = add_document(connection, index.id, new_document(document_id))
    add_passages(connection, index.id, number, pieces(*texts))
    return number


class TestIndexes:
    def test_are_found_as_they_were_made_by_their_own_project(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            other = ensure_project(connection, "other").id
            assert find_index(connection, index.project_id, index.id) == index
            assert find_named_index(connection, index.project_id, "handbook") == index
            assert find_named_index(connection, index.project_id, index.id) == index
            assert find_named_index(connection, other, "handbook") is None
            with pytest.raises(NoSuchIndexError, match=index.id):
                find_index(connection, other, index.id)

    def test_of_one_name_are_told_apart_by_their_ids(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            second = index_of(index.project_id)
            add_index(connection, second)
            with pytest.raises(ConfigError, match=f"{index.id}, {second.id}"):
                find_named_index(connection, index.project_id, "handbook")

    def test_come_page_by_page(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            second = index_of(index.project_id, None)
            add_index(connection, second)
            first_page = list_indexes(connection, index.project_id, PageRequest(limit=1))
            assert (first_page.items, first_page.has_more) == ((second,), True)
            next_page = list_indexes(connection, index.project_id, PageRequest(limit=1, after=second.id))
            assert (next_page.items, next_page.has_more) == ((index,), False)

    def test_are_changed_and_used(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            change_index(connection, index.id, name="guide", metadata=None)
            use_index(connection, index.id)
            changed = find_index(connection, index.project_id, index.id)
        assert changed == replace(index, name="guide", metadata=None, last_active_at=changed.last_active_at)
        assert changed.last_active_at > index.last_active_at

    def test_are_removed_with_all_that_is_in_them(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            made = index_of(index.project_id, None, replaces=index.id)
            add_index(connection, made)
            for one in (index, made):
                put(connection, one, "a.md", "one", "two")
            remove_index(connection, index.id)
            assert list_all_indexes(connection) == ()
            assert find_replacement(connection, index.id) is None
            assert count_passages(connection, index.id) == count_passages(connection, made.id) == 0


class TestDocuments:
    def test_can_be_found_once_they_are_published(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "one", "two")
            assert sizes_of(connection, index.id) == Sizes(num_documents=0, num_passages=0, num_bytes=0)
            assert list_passage_numbers(connection, index.id) == []
            published = publish(connection, index, new=[number], gone=[])
            assert sizes_of(connection, index.id) == Sizes(num_documents=1, num_passages=2, num_bytes=10)
            assert find_index(connection, index.project_id, index.id).generation == published.generation == 1
            assert [document for _, document in list_passage_numbers(connection, index.id)] == [number, number]

    def test_of_one_id_stand_side_by_side_until_one_takes_the_others_place(
        self, store: Store, index: StoredIndex
    ) -> None:
        with store.writing() as connection:
            old = put(connection, index, "a.md", "old")
            index = publish(connection, index, new=[old], gone=[])
            new = put(connection, index, "a.md", "new", "newer")
            assert sizes_of(connection, index.id).num_passages == 1
            publish(connection, index, new=[new], gone=[old])
            (left,) = list_documents(connection, index.id)
            assert (left.number, left.status) == (new, DocumentStatus.COMPLETED)
            assert [passage.text for passage in list_passages_of(connection, new)] == ["new", "newer"]

    def test_cannot_be_begun_twice(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            put(connection, index, "a.md", "one")
        with pytest.raises(IntegrityError), store.writing() as connection:
            put(connection, index, "a.md", "one")

    def test_are_not_published_over_another_change(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "one")
            publish(connection, index, new=[number], gone=[])
        with pytest.raises(ChangedMeanwhileError), store.writing() as connection:
            publish(connection, index, new=[], gone=[number])
        with store.reading() as connection:
            assert sizes_of(connection, index.id).num_documents == 1

    def test_are_listed_by_status_file_and_number(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            first = put(connection, index, "a.md", "one")
            index = publish(connection, index, new=[first], gone=[])
            failed = replace(new_document("b", "file-1"), status=DocumentStatus.FAILED, error={"code": "invalid_file"})
            second = add_document(connection, index.id, failed)
            assert [one.number for one in list_documents(connection, index.id)] == [first, second]
            assert [one.number for one in list_documents(connection, index.id, after=first)] == [second]
            assert [one.number for one in list_documents(connection, index.id, limit=1)] == [first]
            completed = list_documents(connection, index.id, status=DocumentStatus.COMPLETED)
            assert [one.number for one in completed] == [first]
            (found,) = list_documents(connection, index.id, file_id="file-1")
            assert (found.error, found.attributes) == ({"code": "invalid_file"}, failed.attributes)

    def test_keep_their_number_when_they_become_another(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "one")
            replace_document(connection, number, new_document("a.md", num_bytes=3))
            (found,) = list_documents(connection, index.id)
            assert (found.number, found.num_bytes, list_passages_of(connection, number)) == (number, 3, ())


class TestPassages:
    def test_come_with_what_is_known_of_their_document(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "One", "Two")
            first, second = list_passages_of(connection, number)
            assert (first.text, first.position, first.title, first.title_path) == ("One", 0, "Title", ["A", "B"])
            assert first.attributes == {"lang": "en", "year": 2026, "draft": False}
            wanted = [second.number, 999, first.number, second.number]
            assert find_passages(connection, index.id, wanted) == {first.number: first, second.number: second}
            assert find_passages(connection, "vs_other", wanted) == {}

    def test_of_one_text_get_one_vector(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "long text", "Same", "same")
            waiting = list_unembedded(connection, index.id)
            assert [text.text_hash for text in waiting] == ["long text", "same"]
            set_vectors(connection, index.id, {"same": b"12345678"})
            assert [text.text_hash for text in list_unembedded(connection, index.id)] == ["long text"]
            later = put(connection, index, "b.md", "SAME", "new")
            vectors = [passage.vector for one in (number, later) for passage in list_passages_of(connection, one)]
            assert vectors == [None, b"12345678", b"12345678", b"12345678", None]

    def test_are_iterated_over_in_batches(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            put(connection, index, "a.md", *(f"text {number}" for number in range(2300)))
        batches = list(iterate_passages(store, index.id))
        assert [len(batch) for batch in batches] == [1000, 1000, 300]
        assert [passage.text for batch in batches for passage in batch] == [f"text {number}" for number in range(2300)]

    def test_never_get_a_number_again(self, store: Store, index: StoredIndex) -> None:
        with store.writing() as connection:
            number = put(connection, index, "a.md", "one")
            (old,) = list_passages_of(connection, number)
            remove_documents(connection, [number])
            (new,) = list_passages_of(connection, put(connection, index, "a.md", "one"))
        assert new.number > old.number


def test_an_index_that_was_made_in_anothers_place_takes_it(store: Store, index: StoredIndex) -> None:
    with store.writing() as connection:
        old = put(connection, index, "a.md", "old")
        index = publish(connection, index, new=[old], gone=[])
        made = replace(
            index_of(index.project_id, None, replaces=index.id), embedder_revision="second", num_dimensions=3
        )
        add_index(connection, made)
        assert list_all_indexes(connection) == (
            replace(index, last_active_at=list_all_indexes(connection)[0].last_active_at),
        )
        assert find_replacement(connection, index.id) == made
        new = put(connection, made, "a.md", "new")
        take_place(connection, made, index)
        publish(connection, index, new=[new], gone=[])
        found = find_index(connection, index.project_id, index.id)
        assert (found.embedder_revision, found.num_dimensions, found.generation) == ("second", 3, 2)
        assert [one.number for one in list_documents(connection, index.id)] == [new]
        assert [number for _, number in list_passage_numbers(connection, index.id)] == [new]


def test_one_is_alone_at_a_time(store: Store) -> None:
    claim: Mapping[str, str] = {"doing": "changing this index", "remedy": "wait"}
    with alone_in_store(store, "vs_1", **claim):
        with alone_in_store(store, "vs_2", **claim):
            pass
        with pytest.raises(BusyError, match="changing this index"), alone_in_store(store, "vs_1", **claim):
            pass
    with alone_in_store(store, "vs_1", **claim):
        pass


def test_a_claim_is_let_go_of_by_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone_in_store(store, "a/name", doing="", remedy=""):
        raise ZeroDivisionError
    with alone_in_store(store, "a/name", doing="", remedy=""):
        pass
