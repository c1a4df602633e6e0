"""What every backend promises: files, LanceDB and PostgreSQL (`make test-postgres`) find the same passages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from databases import skip_without_pgvector
from fettle.errors import ResourceError
from fettle.retrieval.filters import Condition, Operator
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.indexes.registry import backend_named, open_index
from fettle.retrieval.records import Ranked
from fettle.retrieval.vector_stores import open_searchable
from fettle.settings import get_settings
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from stored_indexes import Written, keys_by_document, new_index, prepare, put, stage

_TEXTS = {
    "refunds": ("Refunds take five days, and refunds of cards take ten.", (1, 0, 0, 0)),
    "parcels": ("A parcel is late when five days have gone.", (1, 1, 0, 0)),
    "cards": ("Cards are charged when the parcel leaves.", (0, 1, 1, 0)),
    "tokyo": ("東京都の営業所は五時に閉まります。", (0, 0, 0, 1)),
}


@pytest.fixture(params=["folder", "lancedb"], autouse=True)
def _backend(store: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    skip_without_pgvector(store)
    if request.param == "lancedb":
        pytest.importorskip("lancedb")
        if store.is_postgresql:
            pytest.skip("PostgreSQL searches its own indexes")
    monkeypatch.setenv("FETTLE_INDEX_BACKEND", request.param)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def index(store: Store) -> StoredIndex:
    written = [
        Written(id=name, text=text, vector=vector, attributes={"kind": name[0], "length": len(text)})
        for name, (text, vector) in _TEXTS.items()
    ]
    return put(store, new_index(store), written)


@pytest.fixture
def opened(store: Store, index: StoredIndex) -> PassageIndex:
    return open_index(store, index)


def _names(store: Store, index: StoredIndex, ranked: Sequence[Ranked]) -> list[str]:
    name_by_key = {key: name for name, key in keys_by_document(store, index).items()}
    return [name_by_key[one.key] for one in ranked]


def _unit(*vector: float) -> np.ndarray:
    return np.array(vector, dtype=np.float32) / np.linalg.norm(vector)


def test_the_nearest_come_first_with_their_cosine_similarities(
    store: Store, index: StoredIndex, opened: PassageIndex
) -> None:
    found = opened.nearest(_unit(1, 0, 0, 0), 3)
    assert _names(store, index, found) == ["refunds", "parcels", "cards"]
    assert [one.score for one in found] == pytest.approx([1, 2**-0.5, 0], abs=1e-5)


def test_equally_near_passages_come_in_the_order_of_their_keys(store: Store) -> None:
    index = put(store, new_index(store), [Written(id=name, text=name, vector=(1, 0, 0, 0)) for name in "cab"])
    assert _names(store, index, open_index(store, index).nearest(_unit(1, 1, 0, 0), 3)) == ["c", "a", "b"]


def test_words_are_found_whatever_their_endings_and_the_telling_ones_weigh_most(
    store: Store, index: StoredIndex, opened: PassageIndex
) -> None:
    found = opened.matching("late refund?", 4)
    assert _names(store, index, found)[:2] == ["refunds", "parcels"]
    assert found[0].score > found[1].score > 0


def test_passages_without_a_word_of_the_query_are_not_found(
    store: Store, index: StoredIndex, opened: PassageIndex
) -> None:
    assert _names(store, index, opened.matching("charged", 4)) == ["cards"]
    assert opened.matching("zebra", 4) == []
    assert opened.matching(" ?! ", 4) == []
    assert opened.matching("", 4) == []


def test_frequent_words_find_nothing_by_themselves_and_help_to_order(store: Store, index: StoredIndex) -> None:
    index = put(
        store,
        index,
        [
            Written(id="with", text="Where do I find the form for refunds of zebras at sea?", vector=(1, 0, 0, 0)),
            Written(
                id="without",
                text="Big zebras, small zebras, striped animals, four grazing gnus nearby.",
                vector=(1, 0, 0, 0),
            ),
        ],
    )
    opened = open_index(store, index)
    assert set(_names(store, index, opened.matching("Where are the zebras?", 9))) == {"with", "without"}
    assert _names(store, index, opened.matching("Where do I go for gnus?", 9)) == ["without"]
    assert _names(store, index, opened.matching("Where do I?", 9))[0] == "with"
    alone, helped = (
        {one.key: one.score for one in opened.matching(question, 9)}
        for question in ("zebras", "where do I find zebras")
    )
    key = keys_by_document(store, index)["with"]
    assert helped[key] > alone[key]


def test_a_word_that_is_asked_twice_counts_once(opened: PassageIndex) -> None:
    assert opened.matching("parcel late parcel late", 4) == opened.matching("late parcel", 4)


def test_the_share_of_a_questions_words_that_a_passage_has(
    store: Store, index: StoredIndex, opened: PassageIndex
) -> None:
    keys = keys_by_document(store, index)
    assert opened.share_of_words("Where are refunds?", keys["refunds"]) == pytest.approx(1)
    assert opened.share_of_words("Where are refunds?", keys["cards"]) == 0
    assert opened.share_of_words("refunds of zebras", keys["refunds"]) == pytest.approx(1)  # zebras are nowhere
    assert 0 < opened.share_of_words("refunds, five parcels", keys["parcels"]) < 1
    assert opened.share_of_words("zebras", keys["refunds"]) == opened.share_of_words("", keys["refunds"]) == 0


def test_words_of_scripts_without_spaces_are_found(store: Store, index: StoredIndex, opened: PassageIndex) -> None:
    assert _names(store, index, opened.matching("東京の営業時間", 4)) == ["tokyo"]


@pytest.mark.parametrize("query", ["it's", "q & z | !x <-> w:*", "\\' \\\\", "😀 refunds", "x" * 100_000, "\0refunds"])
def test_whatever_is_asked_is_words_and_no_syntax(opened: PassageIndex, query: str) -> None:
    assert len(opened.matching(query, 4)) == ("refunds" in query)


def test_a_filter_leaves_the_order_of_the_others(store: Store, index: StoredIndex, opened: PassageIndex) -> None:
    where = Condition(key="kind", operator=Operator.ONE_OF, value=("p", "c"))
    assert _names(store, index, opened.nearest(_unit(1, 0, 0, 0), 4, where)) == ["parcels", "cards"]
    assert _names(store, index, opened.matching("five days for refunds of parcels", 4, where)) == ["parcels", "cards"]
    nothing = Condition(key="kind", operator=Operator.EQUAL, value="z")
    assert opened.nearest(_unit(1, 0, 0, 0), 4, nothing) == opened.matching("refunds", 4, nothing) == []


def test_passages_are_read_in_the_order_of_the_keys(store: Store, index: StoredIndex, opened: PassageIndex) -> None:
    keys = keys_by_document(store, index)
    read = opened.passages([keys["cards"], -1, keys["refunds"]])
    assert [passage.document_id for passage in read] == ["cards", "refunds"]


def test_an_empty_index_has_nothing(store: Store) -> None:
    opened = open_index(store, put(store, new_index(store), []))
    assert opened.nearest(_unit(1, 0, 0, 0), 3) == opened.matching("refunds", 3) == []


def test_what_is_in_progress_is_not_found_and_what_is_published_is(store: Store, index: StoredIndex) -> None:
    new = stage(store, index, [Written(id="zebra", text="Zebras are no parcels.", vector=(1, 0, 0, 0))])
    prepare(store, index, new=new)
    assert open_index(store, index).matching("zebras", 4) == []
    assert len(open_index(store, index).nearest(_unit(1, 0, 0, 0), 9)) == 4
    changed = put(store, index, [Written(id="zoo", text="A zoo has zebras.", vector=(0, 0, 1, 1))])
    assert _names(store, changed, open_index(store, changed).matching("zebras", 4)) == ["zoo"]


def test_what_is_gone_is_not_found(store: Store, index: StoredIndex) -> None:
    with store.reading() as connection:
        number = connection.exec_driver_sql(
            "SELECT number FROM index_documents WHERE document_id = 'refunds'"
        ).scalar_one()
    changed = put(store, index, [], gone=[number])
    opened = open_index(store, changed)
    assert opened.matching("refunds", 4) == []
    assert len(opened.nearest(_unit(1, 0, 0, 0), 9)) == 3
    assert opened.description.num_passages == 3


def test_indexes_do_not_find_each_others_passages(store: Store, index: StoredIndex) -> None:
    other = put(store, new_index(store), [Written(id="cards", text="Cards of another index.", vector=(0, 1, 1, 0))])
    assert _names(store, other, open_index(store, other).matching("cards parcel", 9)) == ["cards"]
    assert len(open_index(store, index).nearest(_unit(0, 1, 1, 0), 9)) == 4


def test_an_index_that_was_not_made_searchable_says_so(store: Store) -> None:
    index = new_index(store)
    assert not backend_named(index.backend).is_prepared(store, index)
    with pytest.raises(ResourceError, match="index the same documents again"):
        open_index(store, index)


def test_an_index_that_was_replaced_since_it_was_looked_up_is_found_as_it_is_now(
    store: Store, index: StoredIndex
) -> None:
    put(store, index, [Written(id="zoo", text="A zoo has zebras.", vector=(0, 0, 1, 1))])
    assert _names(store, index, open_searchable(store, index).matching("zebras", 4)) == ["zoo"]


def test_searches_in_many_threads_find_the_same(opened: PassageIndex) -> None:
    expected = opened.nearest(_unit(1, 2, 3, 4), 4), opened.matching("parcel cards", 4)
    wrong: list[object] = []

    def search() -> None:
        for _ in range(10):
            found = opened.nearest(_unit(1, 2, 3, 4), 4), opened.matching("parcel cards", 4)
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
