"""Indexes stay open while they are searched, and are opened anew once they have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest

from fettle.retrieval.index import PassageIndex
from fettle.server import open_indexes
from fettle.server.open_indexes import OpenEmbedders, OpenIndexes
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from indexed import WordEmbedder

NO_STORE = cast("Store", None)


class Opened:
    """What a backend would open."""

    def __init__(self, index: StoredIndex) -> None:
        self.generation, self.is_closed = index.generation, False

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    """All that were opened."""
    all_of_them: list[Opened] = []

    def open_(_store: Store, index: StoredIndex) -> PassageIndex:
        all_of_them.append(Opened(index))
        return cast("PassageIndex", all_of_them[-1])

    monkeypatch.setattr(open_indexes, "open_searchable", open_)
    return all_of_them


def index(name: str = "a", generation: int = 1) -> StoredIndex:
    return StoredIndex(
        id=name, project_id="", name=None, backend="folder", embedder="words", embedder_revision="first", num_dimensions=1,
        passage_tokens=1, overlap_tokens=0, created_at=0, last_active_at=0, generation=generation,
    )  # fmt: skip


def search(indexes: OpenIndexes, *searched: StoredIndex) -> None:
    for one in searched:
        with indexes.opened(NO_STORE, one):
            pass


def test_an_index_is_opened_once(opened: list[Opened]) -> None:
    indexes = OpenIndexes()
    search(indexes, index(), index(), index())
    assert [one.is_closed for one in opened] == [False]
    indexes.close()
    assert opened[0].is_closed


def test_a_newer_generation_takes_its_place_once_nobody_searches_the_older_one(opened: list[Opened]) -> None:
    indexes = OpenIndexes()
    with indexes.opened(NO_STORE, index(generation=1)):
        search(indexes, index(generation=2))
        assert [one.generation for one in opened] == [1, 2]
        assert not opened[0].is_closed
    assert [one.is_closed for one in opened] == [True, False]


def test_who_has_read_the_store_earlier_gets_the_newer_one(opened: list[Opened]) -> None:
    indexes = OpenIndexes()
    search(indexes, index(generation=2), index(generation=1))
    assert [one.generation for one in opened] == [2]


def test_the_least_recently_used_is_closed(opened: list[Opened]) -> None:
    indexes = OpenIndexes(most=2)
    search(indexes, index("a"), index("b"), index("a"), index("c"))
    assert [one.is_closed for one in opened] == [False, True, False]


def test_an_index_is_opened_anew_where_attributes_alone_have_changed(opened: list[Opened]) -> None:
    indexes, later = OpenIndexes(), replace(index(), attributes_version=1)
    search(indexes, index(), later, later, index(), index(generation=2))
    assert [(one.generation, one.is_closed) for one in opened] == [(1, True), (1, True), (2, False)]


def test_one_that_cannot_be_opened_is_tried_again(monkeypatch: pytest.MonkeyPatch, opened: list[Opened]) -> None:
    indexes, works = OpenIndexes(), open_indexes.open_searchable

    def fails(_store: Store, _index: StoredIndex) -> PassageIndex:
        raise OSError

    monkeypatch.setattr(open_indexes, "open_searchable", fails)
    with pytest.raises(OSError):  # noqa: PT011 (its kind is all there is)
        search(indexes, index())
    monkeypatch.setattr(open_indexes, "open_searchable", works)
    search(indexes, index())
    assert len(opened) == 1


def test_many_threads_search_while_generations_come(opened: list[Opened]) -> None:
    indexes = OpenIndexes(most=2)

    def work(number: int) -> None:
        for generation in range(1, 40):
            with indexes.opened(NO_STORE, index(str(number % 3), generation)) as found:
                assert not cast("Opened", found).is_closed

    run_all([lambda number=number: work(number) for number in range(6)])
    indexes.close()
    assert all(one.is_closed for one in opened)


def test_an_embedder_is_loaded_once_and_asked_by_one_thread_at_a_time() -> None:
    inside, loaded = threading.Lock(), []

    class Alone(WordEmbedder):
        def embed(self, texts: object) -> object:  # type: ignore[override]
            assert inside.acquire(blocking=False)
            try:
                return super().embed(texts)  # type: ignore[arg-type]
            finally:
                inside.release()

    def load(name: str) -> WordEmbedder:
        loaded.append(name)
        return Alone()

    embedders = OpenEmbedders(load)
    run_all([lambda: embedders.named("words").embed_queries(["a b c"] * 50) for _ in range(8)])
    assert loaded == ["words"]
    found = embedders.named("words")
    assert (found.name, found.revision) == ("words", "first")
    inner = WordEmbedder()
    assert (found.max_tokens, found.count_tokens(["a b"])) == (inner.max_tokens, inner.count_tokens(["a b"]))


def run_all(work: list[Callable[[], object]]) -> None:
    """In threads; what one of them raises is raised."""
    errors: list[BaseException] = []

    def guarded(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
