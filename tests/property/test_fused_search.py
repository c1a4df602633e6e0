"""Properties of fusion, of budgets and of measures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fettle.retrieval.fusion import fuse
from fettle.retrieval.measures import measure
from fettle.retrieval.records import Found, Ranked, SearchSettings
from fettle.retrieval.search import chosen
from searched import passage

rankings = st.lists(st.integers(0, 30), unique=True, max_size=20).map(
    lambda keys: [Ranked(key, float(-place)) for place, key in enumerate(keys)]
)


@given(st.lists(rankings, max_size=4))
def test_fusion_loses_and_invents_nothing_and_asks_in_no_order(lists: list[list[Ranked]]) -> None:
    fused = fuse(lists)
    assert sorted(ranked.key for ranked in fused) == sorted({ranked.key for ranking in lists for ranked in ranking})
    assert [(-ranked.score, ranked.key) for ranked in fused] == sorted((-ranked.score, ranked.key) for ranked in fused)
    backwards = fuse(lists[::-1])
    assert {ranked.key: round(ranked.score, 12) for ranked in fused} == {
        ranked.key: round(ranked.score, 12) for ranked in backwards
    }


@given(rankings)
def test_equal_rankings_fuse_to_themselves(ranking: list[Ranked]) -> None:
    assert [ranked.key for ranked in fuse([ranking, ranking])] == [ranked.key for ranked in ranking]


@given(rankings, rankings, st.data())
def test_a_passage_that_every_ranking_puts_before_another_stays_before_it(
    first: list[Ranked], second: list[Ranked], data: st.DataObject
) -> None:
    both = {ranked.key for ranked in first} & {ranked.key for ranked in second}
    places = [{ranked.key: place for place, ranked in enumerate(ranking)} for ranking in (first, second)]
    order = {ranked.key: place for place, ranked in enumerate(fuse([first, second]))}
    for better in both:
        for worse in both:
            if all(place[better] < place[worse] for place in places):
                assert order[better] < order[worse]


sizes = st.lists(st.integers(1, 50), max_size=12)


@given(sizes, st.integers(1, 120), st.integers(1, 8))
def test_what_is_shown_fits_and_nothing_that_fits_is_left_out(sizes: list[int], budget: int, num_passages: int) -> None:
    candidates = [
        Found(passage=passage(key, f"text {key}", num_tokens=size), rank=key, score=-key)
        for key, size in enumerate(sizes, start=1)
    ]
    settings = SearchSettings(num_passages=num_passages, max_tokens=budget)
    shown = list(chosen(candidates, settings))
    assert [one.rank for one in shown] == list(range(1, len(shown) + 1))
    keys = [one.passage.id for one in shown]
    assert keys == [one.passage.id for one in candidates if one.passage.id in keys]
    left = budget
    num_shown = 0
    for one in candidates:
        fits = one.passage.num_tokens <= left and num_shown < num_passages
        assert (one.passage.id in keys) == fits
        if fits:
            left, num_shown = left - one.passage.num_tokens, num_shown + 1


@given(
    st.lists(st.integers(0, 15), unique=True, max_size=12), st.sets(st.integers(0, 15), min_size=1), st.integers(1, 12)
)
def test_measures_lie_in_bounds_and_a_perfect_ranking_is_worth_one(ranked: list[int], right: set[int], k: int) -> None:
    names, answers = [str(one) for one in ranked], {str(one) for one in right}
    measured = measure(names, answers, k=k)
    assert 0 <= measured.recall <= 1
    assert 0 <= measured.ndcg <= 1 + 1e-12
    assert 0 <= measured.reciprocal_rank <= 1
    perfect = measure(sorted(answers), answers, k=k)
    assert perfect.reciprocal_rank == 1
    assert abs(perfect.ndcg - 1) < 1e-12
    assert measured.ndcg <= perfect.ndcg + 1e-12
