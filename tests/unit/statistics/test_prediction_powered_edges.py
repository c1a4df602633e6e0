import pytest

from fettle.statistics.intervals import difference_interval
from fettle.statistics.prediction_powered import (
    MIN_CLUSTERS,
    prediction_powered_difference,
    prediction_powered_win_rate,
)

PEOPLE = [1.0, -1.0, 1.0, 0.0] * 10
JUDGE = [1.0, -1.0, 1.0, 1.0] * 10


def test_the_human_interval_is_the_usual_one() -> None:
    result = prediction_powered_difference([*PEOPLE, *[None] * 60], [*JUDGE, *JUDGE, *JUDGE[:20]], range(100))
    assert result.human_only == difference_interval(PEOPLE, range(40))
    assert (result.num_human, result.num_judged) == (40, 100)
    assert result.num_human_worth > 40


@pytest.mark.parametrize("judge", [[0.5] * 100, [-vote for vote in JUDGE] + [0.5] * 60])
def test_a_judge_that_says_nothing_or_the_opposite_is_not_used(judge: list[float]) -> None:
    result = prediction_powered_difference([*PEOPLE, *[None] * 60], judge, range(100))
    assert result.trust == 0
    assert result.corrected == result.human_only


def test_few_human_votes_are_not_used_to_learn_trust() -> None:
    few = MIN_CLUSTERS - 1
    result = prediction_powered_difference([*PEOPLE[:few], *[None] * (100 - few)], [*JUDGE, *[0.5] * 60], range(100))
    assert (result.trust, result.corrected) == (0, result.human_only)


def test_votes_within_one_group_are_few_however_many() -> None:
    ids = [0] * 40 + list(range(1, 61))
    result = prediction_powered_difference([*PEOPLE, *[None] * 60], [*JUDGE, *[0.5] * 60], ids)
    assert (result.trust, result.corrected) == (0, result.human_only)


def test_people_who_voted_on_everything_need_no_judge() -> None:
    result = prediction_powered_difference(PEOPLE, JUDGE, range(40))
    assert (result.trust, result.corrected) == (0, result.human_only)


def test_a_win_rate_is_the_same_on_another_scale() -> None:
    people, judge = [*PEOPLE, *[None] * 60], [*JUDGE, *JUDGE, *JUDGE[:20]]
    of_signs = prediction_powered_difference(people, judge, range(100))
    rate = prediction_powered_win_rate(
        [None if vote is None else (1 + vote) / 2 for vote in people], [(1 + vote) / 2 for vote in judge], range(100)
    )
    assert rate.corrected.estimate == pytest.approx((1 + of_signs.corrected.estimate) / 2)
    assert rate.corrected.low == pytest.approx((1 + of_signs.corrected.low) / 2)
    assert rate.judge_mean == pytest.approx(sum((1 + vote) / 2 for vote in judge) / 100)
    assert rate.judge_excess == pytest.approx(of_signs.judge_excess / 2)
    assert rate.trust == pytest.approx(of_signs.trust)


def test_swapping_the_contenders_mirrors_everything() -> None:
    people, judge = [*PEOPLE, *[None] * 60], [*JUDGE, *JUDGE, *JUDGE[:20]]
    there = prediction_powered_difference(people, judge, range(100))
    back = prediction_powered_difference(
        [None if vote is None else -vote for vote in people], [-vote for vote in judge], range(100)
    )
    assert back.corrected.low == pytest.approx(-there.corrected.high)
    assert back.trust == pytest.approx(there.trust)


def test_impossible_votes_are_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        prediction_powered_difference([None] * 3, [1.0, 0.0, 1.0], range(3))
    with pytest.raises(ValueError, match="judge vote"):
        prediction_powered_difference([1.0, None], [1.0, float("nan")], range(2))
    with pytest.raises(ValueError, match="outside"):
        prediction_powered_difference([1.5, None], [1.0, 1.0], range(2))
    with pytest.raises(ValueError, match="2 human votes, 3 judge votes"):
        prediction_powered_difference([1.0, None], [1.0, 0.0, 1.0], range(2))


def test_where_hardly_anything_is_without_a_vote_people_alone_are_heard() -> None:
    for num_alone in (1, 5, MIN_CLUSTERS - 1):
        human = [None] * num_alone + [1.0, -1.0, 1.0, 0.0] * 10
        result = prediction_powered_difference(human, [1.0, -1.0] * 20 + [1.0] * num_alone, range(len(human)))
        assert result.corrected == result.human_only
        assert result.trust == 0
