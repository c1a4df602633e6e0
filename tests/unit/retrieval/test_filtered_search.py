"""Whatever is asked of whatever backend: a filter leaves the passages that fulfil it, in the order that they have without it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from databases import skip_without_pgvector
from fettle.retrieval.filters import AllOf, AnyOf, Condition, Filter, Operator, fulfils
from fettle.retrieval.indexes.registry import open_index
from fettle.retrieval.records import AttributeValue
from fettle.settings import get_settings
from fettle.store.database import Store
from fettle.store.indexes import list_documents
from stored_indexes import Written, keys_by_document, new_index, put

_WORDS = [
    "alpha",
    "beta",
    "refund",
    "parcel",
    "order",
    "late",
    "card",
    "Straße",
    "café",
    "東京",
    "42",
    "x-1",
    "the",
    "of",
]
_VALUES: tuple[AttributeValue, ...] = ("a", "b", "", "1", "é", 1, 2, 2.5, True, False)
_ALL = 1_000


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


def _filter(drawn: random.Random, depth: int = 0) -> Filter:
    kind = drawn.random()
    if depth < 2 and kind < 0.5:
        filters = tuple(_filter(drawn, depth + 1) for _ in range(drawn.randint(0, 3)))
        return AllOf(filters=filters) if kind < 0.25 else AnyOf(filters=filters)
    operator = drawn.choice(list(Operator))
    is_list = operator in (Operator.ONE_OF, Operator.NONE_OF)
    value = tuple(drawn.choices(_VALUES, k=drawn.randint(0, 3))) if is_list else drawn.choice(_VALUES)
    return Condition(key=drawn.choice(["k", "l", "m", "not there"]), operator=operator, value=value)


def _written(drawn: random.Random, name: str) -> Written:
    return Written(
        id=name,
        text=" ".join(drawn.choices(_WORDS, k=drawn.randint(1, 12))),
        vector=[drawn.gauss(0, 1) for _ in range(4)],
        attributes={key: drawn.choice(_VALUES) for key in "klm" if drawn.random() < 0.7},
    )


def test_filters_lose_nothing_leak_nothing_and_change_no_order(store: Store) -> None:
    drawn = random.Random(0)
    index = new_index(store)
    attributes: dict[str, Mapping[str, AttributeValue]] = {}
    for generation in range(3):
        new = [_written(drawn, f"d{generation}-{number}") for number in range(50)]
        attributes |= {one.id: one.attributes for one in new}
        with store.reading() as connection:
            numbers = {one.document_id: one.number for one in list_documents(connection, index.id)}
        gone = drawn.sample(sorted(numbers), 20) if numbers else []
        for name in gone:
            del attributes[name]
        index = put(store, index, new, gone=[numbers[name] for name in gone])
        opened = open_index(store, index)
        name_by_key = {key: name for name, key in keys_by_document(store, index).items()}
        assert set(name_by_key.values()) == set(attributes)
        for _ in range(30):
            where, k = _filter(drawn), drawn.choice([1, 5, 40, _ALL])
            query_D = np.array([drawn.gauss(0, 1) for _ in range(4)], dtype=np.float32)
            query_D /= np.linalg.norm(query_D)
            question = " ".join(drawn.choices(_WORDS, k=drawn.randint(1, 5)))
            for everything, found in (
                (opened.nearest(query_D, _ALL), opened.nearest(query_D, k, where)),
                (opened.matching(question, _ALL), opened.matching(question, k, where)),
            ):
                fitting = [one.key for one in everything if fulfils(attributes[name_by_key[one.key]], where)]
                assert [one.key for one in found] == fitting[:k]
