"""LanceDB finds what the files of a folder find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.errors import ConfigError, ResourceError
from fettle.retrieval.filters import AllOf, Condition, Operator
from fettle.retrieval.index import PassageIndex
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.indexes.lancedb import LanceIndex, build_lance
from fettle.retrieval.records import Ranked
from searched import Batch, PassagesInMemory, description, passage, unit_vectors

pytest.importorskip("lancedb")

NUM_DIMENSIONS = 16
NUM_FEW, NUM_MANY = 600, 12_000
THIRD = Condition(key="third", operator=Operator.EQUAL, value=1)
NOT_HUNDREDTH = Condition(key="hundredth", operator=Operator.EQUAL, value=False)
HUNDREDTH_THIRD = AllOf(filters=(THIRD, Condition(key="hundredth", operator=Operator.EQUAL, value=True)))


def built(folder: Path, texts: list[str], vectors_ND: NDArray[np.float32]) -> tuple[FolderIndex, LanceIndex]:
    keys = range(1, len(texts) + 1)
    half = len(texts) // 2
    batches = [Batch(keys[:half], texts[:half], vectors_ND[:half]), Batch(keys[half:], texts[half:], vectors_ND[half:])]
    made_of = description(len(texts), vectors_ND.shape[1])
    build_folder(folder / "folder", batches, num_dimensions=vectors_ND.shape[1])
    build_lance(folder / "lance", batches, num_dimensions=vectors_ND.shape[1])
    reader = PassagesInMemory(
        {
            key: passage(key, text, attributes={"third": key % 3, "hundredth": key % 100 == 0})
            for key, text in zip(keys, texts, strict=True)
        }
    )
    return FolderIndex(folder / "folder", made_of, reader), LanceIndex(folder / "lance", made_of, reader)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderIndex, LanceIndex]:
    texts = [
        f"the refunds of order{number} and größe{number % 7} 東京{'都' * (number % 2)}" for number in range(NUM_FEW)
    ]
    return built(tmp_path_factory.mktemp("few"), texts, unit_vectors(NUM_FEW, NUM_DIMENSIONS))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderIndex, LanceIndex]:
    texts = [f"word{number % 50}" for number in range(NUM_MANY)]
    return built(tmp_path_factory.mktemp("many"), texts, unit_vectors(NUM_MANY, NUM_DIMENSIONS))


def keys(found: list[Ranked]) -> list[int]:
    return [ranked.key for ranked in found]


@pytest.mark.parametrize("where", [None, THIRD, NOT_HUNDREDTH, HUNDREDTH_THIRD])
def test_few_vectors_are_searched_exactly(few: tuple[FolderIndex, LanceIndex], where: None) -> None:
    folder, lance = few
    for query_D in unit_vectors(10, NUM_DIMENSIONS, seed=1):
        found = lance.nearest(query_D, 10, where)
        assert keys(found) == keys(folder.nearest(query_D, 10, where))
        assert [ranked.score for ranked in found] == pytest.approx(
            [ranked.score for ranked in folder.nearest(query_D, 10, where)], abs=1e-4
        )


@pytest.mark.parametrize("where", [None, THIRD, NOT_HUNDREDTH, HUNDREDTH_THIRD])
def test_many_vectors_are_found_nearly_all(many: tuple[FolderIndex, LanceIndex], where: None) -> None:
    folder, lance = many
    queries = unit_vectors(20, NUM_DIMENSIONS, seed=1)
    found = [set(keys(lance.nearest(query_D, 10, where))) for query_D in queries]
    assert all(len(one) == 10 for one in found)
    num_same = sum(
        len(one & set(keys(folder.nearest(query, 10, where)))) for one, query in zip(found, queries, strict=True)
    )
    assert num_same >= 0.9 * 200


@pytest.mark.parametrize(
    "query", ["refund order17", "GRÖSSE3", "東京都", "orders of Order5", "nowhere", "?!", "a OR (b"]
)
@pytest.mark.parametrize("where", [None, THIRD, HUNDREDTH_THIRD])
def test_words_are_found_as_in_a_folder(few: tuple[FolderIndex, LanceIndex], query: str, where: None) -> None:
    folder, lance = few
    everything = set(keys(folder.matching(query, NUM_FEW, where)))
    assert set(keys(lance.matching(query, NUM_FEW, where))) == everything
    best = folder.matching(query, 1, where)
    if best and best[0].score > 2 * folder.matching(query, 2, where)[-1].score:
        assert keys(lance.matching(query, 1, where)) == keys(best)


def test_filters_that_leave_many_are_kept_to(many: tuple[FolderIndex, LanceIndex]) -> None:
    _, lance = many
    for ranked in lance.matching("word49", 30, NOT_HUNDREDTH):
        assert ranked.key % 100 != 0
    assert len(lance.matching("word49", 30, NOT_HUNDREDTH)) == 30


def test_passages_come_from_the_store(few: tuple[FolderIndex, LanceIndex]) -> None:
    index: PassageIndex = few[1]
    assert [found.id for found in index.passages([7, 3])] == ["d7#0", "d3#0"]


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    _, lance = built(tmp_path, [], np.zeros((0, NUM_DIMENSIONS), dtype=np.float32))
    assert lance.nearest(unit_vectors(1, NUM_DIMENSIONS)[0], 5) == []
    assert lance.matching("word", 5) == []


def test_it_is_replaced_as_a_whole_and_missing_files_are_refused(tmp_path: Path) -> None:
    built(tmp_path, ["old"] * 4, unit_vectors(4, 8))
    reader = PassagesInMemory({})
    before = LanceIndex(tmp_path / "lance", description(4, 8), reader)
    built(tmp_path, ["new"] * 4, unit_vectors(4, 8))
    after = LanceIndex(tmp_path / "lance", description(4, 8), reader)
    assert (len(after.matching("old", 4)), len(after.matching("new", 4))) == (0, 4)
    assert len(list((tmp_path / "lance").glob("files-*"))) == 1
    del before
    next((tmp_path / "lance").rglob("*.lance/data/*")).unlink()
    with pytest.raises(ResourceError, match=r"damaged: .*index the same documents again"):
        LanceIndex(tmp_path / "lance", description(4, 8), reader)


def test_without_lancedb_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.retrieval.indexes.lancedb.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fettle-llm\[lancedb\]'"):
        build_lance(tmp_path, [], num_dimensions=4)
    assert list(tmp_path.iterdir()) == []
