"""An index in a folder finds what brute force finds."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.retrieval.filters import AllOf, Condition, Filter, Operator, fulfils
from fettle.retrieval.indexes import vector_files
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.indexes.vector_files import EXACT_UP_TO, VectorForm
from fettle.retrieval.records import Ranked
from searched import Batch, PassagesInMemory, description, passage, unit_vectors

NUM_DIMENSIONS = 64
NUM_MANY = EXACT_UP_TO + 2_000


def built(folder: Path, texts: list[str], vectors_ND: NDArray[np.float32], *, first_key: int = 1) -> FolderIndex:
    keys = range(first_key, first_key + len(texts))
    half = len(texts) // 2
    batches = [Batch(keys[:half], texts[:half], vectors_ND[:half]), Batch(keys[half:], texts[half:], vectors_ND[half:])]
    build_folder(folder, batches, num_dimensions=vectors_ND.shape[1])
    attributes = [{"third": number % 3, "hundredth": number % 100 == 0} for number in range(len(texts))]
    reader = PassagesInMemory(
        {key: passage(key, text, attributes=kept) for key, text, kept in zip(keys, texts, attributes, strict=True)}
    )
    return FolderIndex(folder, description(len(texts), vectors_ND.shape[1]), reader)


@pytest.fixture(scope="module", params=[VectorForm.CODES, VectorForm.GRAPH])
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FolderIndex, NDArray[np.float32]]:
    vectors_ND = unit_vectors(NUM_MANY, NUM_DIMENSIONS)
    texts = [f"word{number % 50} row{number}" for number in range(NUM_MANY)]
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        if request.param is VectorForm.GRAPH:
            patch.setattr(vector_files, "SCANNED_UP_TO", 0)
        index = built(folder, texts, vectors_ND)
    assert [path.name for path in folder.rglob("*.faiss")] == [f"{request.param}.faiss"]
    return index, vectors_ND


def brute_force(
    vectors_ND: NDArray[np.float32], query_D: NDArray[np.float32], k: int, where: Filter | None
) -> list[int]:
    rows = [
        row
        for row in range(len(vectors_ND))
        if where is None or fulfils({"third": row % 3, "hundredth": row % 100 == 0}, where)
    ]
    similarities = vectors_ND[rows] @ query_D
    order = sorted(range(len(rows)), key=lambda place: (-round(float(similarities[place]), 5), rows[place]))
    return [rows[place] + 1 for place in order[:k]]


THIRD = Condition(key="third", operator=Operator.EQUAL, value=1)
HUNDREDTH = Condition(key="hundredth", operator=Operator.EQUAL, value=True)


@pytest.mark.parametrize("where", [None, THIRD, HUNDREDTH, AllOf(filters=(THIRD, HUNDREDTH))])
def test_few_vectors_are_searched_exactly(tmp_path: Path, where: Filter | None) -> None:
    vectors_ND = unit_vectors(900, NUM_DIMENSIONS)
    index = built(tmp_path, ["same"] * 900, vectors_ND)
    for query_D in unit_vectors(20, NUM_DIMENSIONS, seed=1):
        found = index.nearest(query_D, 10, where)
        assert [ranked.key for ranked in found] == brute_force(vectors_ND, query_D, 10, where)[:10]
        assert [ranked.score for ranked in found] == sorted((ranked.score for ranked in found), reverse=True)


@pytest.mark.parametrize("where", [None, Condition(key="hundredth", operator=Operator.EQUAL, value=False)])
def test_many_vectors_are_found_nearly_all(many: tuple[FolderIndex, NDArray[np.float32]], where: Filter | None) -> None:
    index, vectors_ND = many
    num_right = 0
    for query_D in unit_vectors(50, NUM_DIMENSIONS, seed=1):
        found = {ranked.key for ranked in index.nearest(query_D, 10, where)}
        assert len(found) == 10
        num_right += len(found & set(brute_force(vectors_ND, query_D, 10, where)))
    assert num_right >= 0.95 * 500


@pytest.mark.parametrize("where", [THIRD, HUNDREDTH, AllOf(filters=(THIRD, HUNDREDTH))])
def test_a_filter_that_leaves_few_of_many_vectors_is_searched_exactly(
    many: tuple[FolderIndex, NDArray[np.float32]], where: Filter
) -> None:
    index, vectors_ND = many
    for query_D in unit_vectors(10, NUM_DIMENSIONS, seed=2):
        assert [ranked.key for ranked in index.nearest(query_D, 10, where)] == brute_force(
            vectors_ND, query_D, 10, where
        )


def test_similarities_of_many_vectors_are_those_of_the_vectors(many: tuple[FolderIndex, NDArray[np.float32]]) -> None:
    index, vectors_ND = many
    for ranked in index.nearest(vectors_ND[5], 10):
        assert ranked.score == pytest.approx(float(vectors_ND[ranked.key - 1] @ vectors_ND[5]), abs=1e-3)


def test_equal_passages_are_found_in_the_order_of_their_keys(tmp_path: Path) -> None:
    vectors_ND = np.repeat(unit_vectors(1, NUM_DIMENSIONS), 300, axis=0)
    index = built(tmp_path, ["the same words"] * 300, vectors_ND, first_key=40)
    assert [ranked.key for ranked in index.nearest(vectors_ND[0], 5)] == [40, 41, 42, 43, 44]
    assert [ranked.key for ranked in index.matching("words", 5)] == [40, 41, 42, 43, 44]


def test_a_filter_on_true_is_not_one_on_the_number_one(tmp_path: Path) -> None:
    vectors_ND = unit_vectors(6, NUM_DIMENSIONS)
    index = built(tmp_path, ["same"] * 6, vectors_ND)
    is_one = Condition(key="third", operator=Operator.EQUAL, value=1)
    is_true = Condition(key="third", operator=Operator.EQUAL, value=True)
    assert {ranked.key for ranked in index.nearest(vectors_ND[0], 6, is_one)} == {2, 5}
    assert index.nearest(vectors_ND[0], 6, is_true) == []


def test_words_are_scored_by_bm25s_definition(tmp_path: Path) -> None:
    texts = ["red bread", "red red wine and bread", "a stone", "wine"]
    index = built(tmp_path, texts, unit_vectors(4, NUM_DIMENSIONS))
    found = {ranked.key: ranked.score for ranked in index.matching("red wine", 10)}
    rows = [text.split() for text in texts]
    mean_length = sum(map(len, rows)) / len(rows)
    for key, row in enumerate(rows, start=1):
        expected = 0.0
        for word in ("red", "wine"):
            frequency, num_with = Counter(row)[word], sum(word in other for other in rows)
            inverse_frequency = math.log(1 + (len(rows) - num_with + 0.5) / (num_with + 0.5))
            expected += inverse_frequency * frequency / (frequency + 1.5 * (0.25 + 0.75 * len(row) / mean_length))
        assert found.get(key, 0.0) == pytest.approx(expected, abs=1e-4)
    assert 3 not in found


@pytest.mark.parametrize("where", [THIRD, HUNDREDTH])
def test_full_text_search_keeps_to_the_filter(many: tuple[FolderIndex, NDArray[np.float32]], where: Filter) -> None:
    index, _ = many
    rows = [row for row in range(NUM_MANY) if row % 50 == 0]
    fitting = [row + 1 for row in rows if fulfils({"third": row % 3, "hundredth": row % 100 == 0}, where)]
    assert [ranked.key for ranked in index.matching("word0", 7, where)] == fitting[:7]


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    index = built(tmp_path / "empty", [], np.zeros((0, NUM_DIMENSIONS), dtype=np.float32))
    assert index.nearest(unit_vectors(1, NUM_DIMENSIONS)[0], 5) == []
    assert index.matching("word", 5) == []
    index = built(tmp_path / "wordless", ["!?", ""], unit_vectors(2, NUM_DIMENSIONS))
    assert index.matching("word", 5) == []
    assert index.matching("...", 5) == []
    assert len(index.nearest(unit_vectors(1, NUM_DIMENSIONS)[0], 5)) == 2


def test_german_and_chinese_words_are_found(tmp_path: Path) -> None:
    german = "Die Rechnungen werden nicht von der Buchhaltung, sondern mit dem Einkauf und für den Kunden bezahlt."
    texts = [
        german,
        "Der Größe nach und mit den Schuhen.",
        "退款将在五个工作日内处理",
        "発送は東京から行います",
        "배송은 서울에서 출발합니다",
    ]
    index = built(tmp_path, texts, unit_vectors(5, NUM_DIMENSIONS))
    for query, key in (("rechnung", 1), ("GROESSE größe", 2), ("退款多久", 3), ("東京", 4), ("배송", 5)):
        assert index.matching(query, 1)[0].key == key


def test_a_passage_that_was_deleted_since_is_neither_filtered_nor_read(tmp_path: Path) -> None:
    vectors_ND = unit_vectors(4, NUM_DIMENSIONS)
    index = built(tmp_path, ["same"] * 4, vectors_ND)
    reader = index._reader
    assert isinstance(reader, PassagesInMemory)
    del reader.by_key[2]
    anything = Condition(key="third", operator=Operator.NOT_EQUAL, value=9)
    assert {ranked.key for ranked in index.nearest(vectors_ND[0], 4, anything)} == {1, 3, 4}
    assert [found.id for found in index.passages([4, 2, 1])] == ["d4#0", "d1#0"]


def test_many_threads_find_the_same(many: tuple[FolderIndex, NDArray[np.float32]]) -> None:
    index, _ = many
    queries = list(unit_vectors(40, NUM_DIMENSIONS, seed=3))
    wheres = [None, THIRD, HUNDREDTH, Condition(key="hundredth", operator=Operator.EQUAL, value=False)]

    def searched(number: int) -> tuple[list[Ranked], list[Ranked]]:
        where = wheres[number % len(wheres)]
        return index.nearest(queries[number], 5, where), index.matching(f"word{number}", 5, where)

    alone = [searched(number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(searched, range(40))) == alone
