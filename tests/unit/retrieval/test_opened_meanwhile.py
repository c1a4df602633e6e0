"""What is opened after the store was read: the index may have changed in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import fresh_store
from fettle.errors import BusyError
from fettle.retrieval.vector_stores import open_searchable, remove_vector_store
from fettle.store.database import Store
from fettle.store.indexes import NoSuchIndexError, StoredIndex
from fettle.store.locks import alone_in_store
from indexed import document, indexed

ROADS, ICE = document("roads", "About roads."), document("ice", "About ice.")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def earlier(store: Store) -> StoredIndex:
    """An index as it was before its present generation."""
    earlier = indexed(store, [ROADS]).index
    indexed(store, [ROADS, ICE])
    return earlier


def found_in(store: Store, index: StoredIndex) -> list[str]:
    opened = open_searchable(store, index)
    found = [passage.document_id for passage in opened.passages([one.key for one in opened.matching("ice", 5)])]
    opened.close()
    return found


def test_the_present_generation_is_opened(store: Store, earlier: StoredIndex) -> None:
    assert found_in(store, earlier) == ["ice"]


def test_while_the_next_one_is_made_too(store: Store, earlier: StoredIndex) -> None:
    with alone_in_store(store, earlier.id, doing="changing this index", remedy="wait"):
        assert found_in(store, earlier) == ["ice"]


def test_one_that_was_deleted_is_told(store: Store, earlier: StoredIndex) -> None:
    remove_vector_store(store, earlier.project_id, earlier.id)
    with pytest.raises(NoSuchIndexError):
        open_searchable(store, earlier)


def test_search_files_that_are_missing_wait_for_who_changes_the_index(store: Store) -> None:
    index = indexed(store, [ROADS]).index
    if store.is_postgresql:
        pytest.skip("there are no search files in PostgreSQL")
    for place in (store.indexes / index.id).rglob("manifest.json"):
        place.unlink()
    with (
        alone_in_store(store, index.id, doing="changing this index", remedy="wait"),
        pytest.raises(BusyError, match="changing this index"),
    ):
        open_searchable(store, index)
    assert found_in(store, index) == []
