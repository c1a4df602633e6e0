"""A search of an index: its embedder, its methods, its budget."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.errors import ConfigError
from fettle.retrieval.filters import Condition, Filter, Operator
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.records import Found, Passage, Ranked, SearchMethod, SearchSettings
from fettle.retrieval.search import IndexSearch
from searched import Batch, NumberedEmbedder, PassagesInMemory, description, passage

TEXTS = [
    "zero 0 bread",
    "one 1 wine",
    "two 2 wine and more wine",
    "three 3 a stone that is quite a bit longer",
    "one 1 bread",
    "one  1\nbread",
]


@pytest.fixture
def index(tmp_path: Path) -> FolderIndex:
    keys = range(1, len(TEXTS) + 1)
    build_folder(tmp_path, [Batch(keys, TEXTS, NumberedEmbedder().embed(TEXTS))], num_dimensions=4)
    passages = {key: passage(key, text, attributes={"key": key}) for key, text in zip(keys, TEXTS, strict=True)}
    return FolderIndex(tmp_path, description(len(TEXTS)), PassagesInMemory(passages))


def _indexed(folder: Path, passages: Sequence[Passage]) -> FolderIndex:
    texts = [one.embedded_text for one in passages]
    batch = Batch(range(len(texts)), texts, NumberedEmbedder().embed(texts))
    build_folder(folder, [batch], num_dimensions=4)
    return FolderIndex(folder, description(len(texts)), PassagesInMemory(dict(enumerate(passages))))


def ids(found: Sequence[Found]) -> list[str]:
    assert [one.rank for one in found] == list(range(1, len(found) + 1))
    return [one.passage.document_id for one in found]


def search(index: FolderIndex, question: str, **settings: object) -> list[str]:
    return ids(IndexSearch(index, NumberedEmbedder(), SearchSettings(**settings)).search(question))  # pyright: ignore


def test_each_method_finds_its_own_and_hybrid_finds_both(index: FolderIndex) -> None:
    question = "1 stone"
    assert search(index, question, method=SearchMethod.VECTOR, num_passages=2) == ["d2", "d5"]
    assert search(index, question, method=SearchMethod.FULL_TEXT)[0] == "d4"
    assert set(search(index, question, num_passages=3)) == {"d2", "d4", "d5"}


def test_full_text_search_embeds_nothing(index: FolderIndex) -> None:
    embedder = NumberedEmbedder()
    IndexSearch(index, embedder, SearchSettings(method=SearchMethod.FULL_TEXT)).search_all(["wine", "bread"])
    assert embedder.num_calls == 0


@pytest.mark.parametrize("method", SearchMethod)
def test_many_questions_are_embedded_together_and_find_what_each_finds_alone(
    index: FolderIndex, method: SearchMethod
) -> None:
    questions = ["1 stone", "wine", "bread 0", "", "nothing of it", "3"]
    embedder = NumberedEmbedder()
    together = IndexSearch(index, embedder, SearchSettings(method=method)).search_all(questions)
    assert embedder.num_calls == (0 if method is SearchMethod.FULL_TEXT else 1)
    assert together == tuple(
        IndexSearch(index, NumberedEmbedder(), SearchSettings(method=method)).search(question) for question in questions
    )
    assert IndexSearch(index, embedder, SearchSettings(method=method)).search_all([]) == ()


def test_words_that_are_nowhere_find_nothing_by_words(index: FolderIndex) -> None:
    assert search(index, "unheard-of", method=SearchMethod.FULL_TEXT) == []


def test_a_passage_that_reads_like_a_better_one_is_shown_once(index: FolderIndex) -> None:
    found = search(index, "one bread 1", method=SearchMethod.FULL_TEXT, num_passages=6)
    assert "d5" in found
    assert "d6" not in found


@pytest.mark.parametrize(
    "texts",
    [
        ("The deposit is 5 €.", "The deposit is 5 $."),
        ("Plugins are written in C++.", "Plugins are written in C#."),
        ("Store it at -5 degrees.", "Store it at 5 degrees."),
        ("It draws 5 MW.", "It draws 5 mW."),
        ("Discounts: 10 < 20 pieces", "Discounts: 10 > 20 pieces"),
        ("😀", "😢"),
    ],
)
def test_passages_that_differ_in_a_sign_alone_are_both_shown(tmp_path: Path, texts: tuple[str, str]) -> None:
    opened = _indexed(tmp_path, [passage(key, text) for key, text in enumerate(texts)])
    assert sorted(search(opened, texts[0], method=SearchMethod.VECTOR)) == ["d0", "d1"]


def test_one_answer_to_many_questions_is_shown_under_each(tmp_path: Path) -> None:
    questions = ["Can I return shoes?", "Can I return food?", "Can I return films?"]
    opened = _indexed(tmp_path, [passage(key, "Within 14 days.", title=one) for key, one in enumerate(questions)])
    assert sorted(search(opened, "return")) == ["d0", "d1", "d2"]
    sections = [passage(key, "Ten euros.", title_path=(name, "Price")) for key, name in enumerate(["Basic", "Gold"])]
    assert sorted(search(_indexed(tmp_path, sections), "price")) == ["d0", "d1"]


def test_copies_of_a_file_are_shown_once_wherever_they_lie(tmp_path: Path) -> None:
    names = ["returns.txt", "old/returns.txt", "2025/returns.txt"]
    copies = [passage(key, "Within 14 days.", source=name, title=Path(name).stem) for key, name in enumerate(names)]
    assert len(search(_indexed(tmp_path, copies), "days")) == 1


def test_one_sentence_in_the_files_of_several_towns_is_shown_of_each(tmp_path: Path) -> None:
    names = ["Oslo.md", "Lima.md", "Quito.md"]
    towns = [
        passage(key, "Open from nine to five.", source=name, title=Path(name).stem) for key, name in enumerate(names)
    ]
    assert len(search(_indexed(tmp_path, towns), "open")) == 3


def test_many_repeats_of_one_passage_take_no_place_of_others(tmp_path: Path) -> None:
    repeated = [passage(key, "1 wine", num_tokens=2) for key in range(200)]
    others = [passage(key, f"1 wine {'2 ' * (key - 199)}bread") for key in range(200, 210)]
    opened = _indexed(tmp_path, repeated + others)
    for method in SearchMethod:
        assert search(opened, "1 wine", method=method, num_passages=6) == ["d0", "d200", "d201", "d202", "d203", "d204"]


def test_passages_fill_the_budget_whole_and_in_their_order(index: FolderIndex) -> None:
    everything = search(index, "bread wine stone 1", num_passages=6)
    sizes = {f"d{key}": len(text.split()) for key, text in enumerate(TEXTS, start=1)}
    for budget in range(1, 30):
        shown = search(index, "bread wine stone 1", num_passages=6, max_tokens=budget)
        assert sum(sizes[one] for one in shown) <= budget
        assert shown == [one for one in everything if one in shown]
        left = budget - sum(sizes[one] for one in shown)
        assert all(sizes[one] > left for one in everything if one not in shown)


def test_a_filter_holds_for_both_searches(index: FolderIndex) -> None:
    where = Condition(key="key", operator=Operator.AT_LEAST, value=4)
    found = IndexSearch(index, NumberedEmbedder(), SearchSettings(num_passages=6)).search("1 wine bread", where=where)
    assert set(ids(found)) == {"d4", "d5"}


def test_deleted_passages_make_room_for_others(index: FolderIndex) -> None:
    before = search(index, "wine 1", num_passages=2)
    reader = index._reader
    assert isinstance(reader, PassagesInMemory)
    del reader.by_key[int(before[0][1:])]
    after = search(index, "wine 1", num_passages=2)
    assert after[0] == before[1]
    assert len(after) == 2


class BackwardsReranker:
    """Turns the candidates round, and remembers how many there were."""

    name = "backwards"
    max_candidates = 4

    def identity(self) -> str:
        return "backwards-1"

    def __init__(self) -> None:
        self.num_seen = 0

    def scores(self, question: str, candidates: Sequence[Found]) -> list[float]:
        self.num_seen = len(candidates)
        return [float(candidate.rank) for candidate in candidates]


@pytest.fixture
def near_and_far(tmp_path: Path) -> FolderIndex:
    """70 passages that all fit the question `1 wine`, the first 60 of them better than the last 10, in their order."""
    texts = [f"{'1 wine' if key <= 60 else '1 2 wine'}{' label' * key}" for key in range(1, 71)]
    build_folder(tmp_path, [Batch(range(1, 71), texts, NumberedEmbedder().embed(texts))], num_dimensions=4)
    passages = {key: passage(key, text) for key, text in enumerate(texts, start=1)}
    return FolderIndex(tmp_path, description(len(texts)), PassagesInMemory(passages))


def delete(index: FolderIndex, keys: Iterable[int]) -> None:
    """Take passages out of the store, as the API does: the search files still name them."""
    reader = index._reader
    assert isinstance(reader, PassagesInMemory)
    for key in keys:
        del reader.by_key[key]


@pytest.mark.parametrize("method", SearchMethod)
def test_passages_behind_more_deleted_ones_than_there_are_candidates_are_found(
    near_and_far: FolderIndex, method: SearchMethod
) -> None:
    assert set(search(near_and_far, "1 wine", method=method)) <= {f"d{key}" for key in range(1, 61)}
    delete(near_and_far, range(1, 61))
    assert set(search(near_and_far, "1 wine", method=method, num_passages=20)) == {f"d{key}" for key in range(61, 71)}
    assert len(search(near_and_far, "1 wine", method=method, num_passages=5)) == 5
    delete(near_and_far, range(61, 71))
    assert search(near_and_far, "1 wine", method=method) == []


@pytest.mark.parametrize("method", SearchMethod)
def test_a_reranker_sees_as_many_candidates_as_if_the_deleted_ones_had_never_been(
    near_and_far: FolderIndex, method: SearchMethod
) -> None:
    delete(near_and_far, range(1, 61))
    reranker, settings = BackwardsReranker(), SearchSettings(method=method, num_passages=2, num_candidates=8)
    found = IndexSearch(near_and_far, NumberedEmbedder(), settings, reranker=reranker).search("1 wine")
    assert reranker.num_seen == reranker.max_candidates
    assert [one.score for one in found] == [4.0, 3.0]


def test_deleted_passages_in_between_leave_as_many_candidates_as_were_wanted(near_and_far: FolderIndex) -> None:
    delete(near_and_far, range(2, 61, 2))
    everything = search(near_and_far, "1 wine", method=SearchMethod.VECTOR, num_passages=100)
    assert len(everything) == 40
    assert (
        search(near_and_far, "1 wine", method=SearchMethod.VECTOR, num_passages=8, num_candidates=8) == everything[:8]
    )


def test_an_index_without_deletions_is_asked_once(near_and_far: FolderIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    nearest = FolderIndex.nearest

    def counted(self: FolderIndex, query_D: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranked]:
        lengths.append(k)
        return nearest(self, query_D, k, where)

    monkeypatch.setattr(FolderIndex, "nearest", counted)
    assert search(near_and_far, "1 wine", method=SearchMethod.VECTOR, max_tokens=1) == []
    assert lengths == [50]
    delete(near_and_far, range(1, 61))
    assert search(near_and_far, "1 wine", method=SearchMethod.VECTOR, max_tokens=1) == []
    assert lengths == [50, 50, 100]


def test_a_reranker_sees_all_candidates_and_decides(index: FolderIndex) -> None:
    settings = SearchSettings(num_passages=2, num_candidates=4)
    plain = search(index, "2 3 stone wine", num_passages=4, num_candidates=4)
    found = IndexSearch(index, NumberedEmbedder(), settings, reranker=BackwardsReranker()).search("2 3 stone wine")
    assert [one.score for one in found] == [4.0, 3.0]
    assert ids(found) == [plain[3], plain[2]]


def test_candidates_that_the_reranker_does_not_look_at_come_after_the_others(index: FolderIndex) -> None:
    settings = SearchSettings(num_passages=6, num_candidates=6)
    plain = search(index, "2 3 stone wine", num_passages=6, num_candidates=6)
    found = IndexSearch(index, NumberedEmbedder(), settings, reranker=BackwardsReranker()).search("2 3 stone wine")
    assert ids(found) == [*plain[3::-1], *plain[4:]]


@pytest.mark.parametrize("embedder", [NumberedEmbedder(revision="second"), NumberedEmbedder(num_dimensions=5)])
def test_the_embedder_of_another_index_is_refused(index: FolderIndex, embedder: NumberedEmbedder) -> None:
    with pytest.raises(
        ConfigError, match=r"expected its own embedder, numbered of revision first.*bring back the embedder"
    ):
        IndexSearch(index, embedder, SearchSettings())


@pytest.mark.parametrize("setting", ["num_passages", "num_candidates", "max_tokens"])
def test_settings_out_of_range_are_refused(index: FolderIndex, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        IndexSearch(index, NumberedEmbedder(), replace(SearchSettings(), **{setting: 0}))


def test_a_search_is_told_apart_by_all_that_changes_what_it_finds(index: FolderIndex) -> None:
    def identity(settings: SearchSettings, reranker: BackwardsReranker | None = None) -> str:
        return IndexSearch(index, NumberedEmbedder(), settings, reranker=reranker).identity()

    plain = SearchSettings()
    others = [
        identity(replace(plain, num_passages=3)),
        identity(replace(plain, method=SearchMethod.VECTOR)),
        identity(replace(plain, max_tokens=100)),
        identity(plain, BackwardsReranker()),
    ]
    assert identity(plain) == identity(SearchSettings())
    assert len({identity(plain), *others}) == 5
    index.description = replace(index.description, sha256="1" * 64)
    assert identity(plain) not in others


def test_a_search_describes_itself(index: FolderIndex) -> None:
    settings = SearchSettings(num_passages=3, max_tokens=600)
    found = IndexSearch(index, NumberedEmbedder(), settings, reranker=BackwardsReranker()).describe()
    assert found == (
        "handbook (6 passages of 6 documents), searched by meaning and by words, reranked by backwards: "
        "3 passages, at most 600 tokens"
    )
