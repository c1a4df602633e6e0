"""Properties of fusion, of budgets and of measures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fettle.retrieval.fusion import fuse
from fettle.retrieval.measures import measure
from fettle.retrieval.records import Found, Ranked, SearchSettings
from fettle.retrieval.search import chosen
from searched import passage

scores = st.lists(st.floats(-1, 40, width=32), max_size=20).map(lambda drawn: sorted(drawn, reverse=True))
rankings = st.tuples(st.permutations(range(30)), scores).map(
    lambda drawn: [Ranked(key, score) for key, score in zip(drawn[0], drawn[1], strict=False)]
)
found_by_words = rankings.map(lambda ranking: [one for one in ranking if one.score > 0])
shares = st.floats(0, 1)


@given(rankings, found_by_words, shares)
def test_fusion_loses_and_invents_nothing_and_scores_lie_between_0_and_1(
    nearest: list[Ranked], matching: list[Ranked], share: float
) -> None:
    fused = fuse(nearest, matching, share)
    assert sorted(ranked.key for ranked in fused) == sorted({one.key for one in [*nearest, *matching]})
    assert [(-ranked.score, ranked.key) for ranked in fused] == sorted((-ranked.score, ranked.key) for ranked in fused)
    assert all(0 < ranked.score <= 1 + 1e-9 for ranked in fused)
    if nearest and matching and nearest[0].key == matching[0].key:
        assert fused[0].key == nearest[0].key
        assert abs(fused[0].score - 1) < 1e-9


@given(rankings, shares)
def test_one_ranking_keeps_its_order_whatever_the_other_lacks(ranking: list[Ranked], share: float) -> None:
    keys = [ranked.key for ranked in ranking]
    assert [one.key for one in fuse(ranking, [], share)] == keys
    found = [one for one in ranking if one.score > 0]
    assert [one.key for one in fuse([], found, share)] == [one.key for one in found]


@given(rankings, found_by_words, shares)
def test_a_passage_that_both_rankings_put_before_another_stays_before_it(
    nearest: list[Ranked], matching: list[Ranked], share: float
) -> None:
    places = [{ranked.key: place for place, ranked in enumerate(ranking)} for ranking in (nearest, matching)]
    order = {ranked.key: place for place, ranked in enumerate(fuse(nearest, matching, share))}
    both = places[0].keys() & places[1].keys()
    for better in both:
        for worse in both:
            if all(place[better] < place[worse] for place in places):
                assert order[better] < order[worse]


@given(found_by_words, found_by_words)
def test_the_more_of_the_question_is_found_the_more_its_words_count(
    nearest: list[Ranked], matching: list[Ranked]
) -> None:
    if nearest and matching and nearest[0].key != matching[0].key:
        of_words = [{one.key: one.score for one in fuse(nearest, matching, share)} for share in (0.0, 0.5, 1.0)]
        leads = [scores[matching[0].key] - scores[nearest[0].key] for scores in of_words]
        assert leads[0] < leads[1] < leads[2]


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
