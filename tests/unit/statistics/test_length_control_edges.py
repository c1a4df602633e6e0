import pytest

from fettle.statistics.length_control import length_controlled_win_rate
from fettle.statistics.win_rate import win_rate

VOTES = [1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0] * 10
LENGTHS = [
    (120.0, 100.0),
    (80.0, 90.0),
    (100.0, 95.0),
    (130.0, 60.0),
    (70.0, 100.0),
    (90.0, 80.0),
    (50.0, 60.0),
    (99.0, 90.0),
] * 10


def test_the_raw_win_rate_is_the_usual_one() -> None:
    result = length_controlled_win_rate(VOTES, LENGTHS, range(80))
    halves = [0.5] * 80
    assert result.raw == win_rate(VOTES, halves, range(80)).interval
    assert result.share_longer == pytest.approx(5 / 8)
    assert result.mean_length_difference == pytest.approx(sum(ours - theirs for ours, theirs in LENGTHS) / 80)


def test_swapping_the_contenders_mirrors_the_win_rate_and_keeps_what_longer_brings() -> None:
    there = length_controlled_win_rate(VOTES, LENGTHS, range(80))
    back = length_controlled_win_rate([1 - vote for vote in VOTES], [pair[::-1] for pair in LENGTHS], range(80))
    assert there.controlled is not None
    assert back.controlled is not None
    assert back.controlled.estimate == pytest.approx(1 - there.controlled.estimate)
    assert back.controlled.low == pytest.approx(1 - there.controlled.high)
    assert there.longer_wins is not None
    assert back.longer_wins is not None
    assert back.longer_wins.low == pytest.approx(there.longer_wins.low)


def test_the_unit_of_length_is_of_no_matter() -> None:
    characters = length_controlled_win_rate(VOTES, LENGTHS, range(80))
    tokens = length_controlled_win_rate(VOTES, [(ours / 4, theirs / 4) for ours, theirs in LENGTHS], range(80))
    assert tokens.controlled == characters.controlled


def test_equal_lengths_leave_the_win_rate_as_it_is() -> None:
    result = length_controlled_win_rate(VOTES, [(50.0, 50.0)] * 80, range(80))
    assert result.controlled == result.raw
    assert result.longer_wins is None


def test_nothing_is_said_of_equal_lengths_that_were_never_seen() -> None:
    result = length_controlled_win_rate(VOTES, [(300.0 + row % 7, 100.0) for row in range(80)], range(80))
    assert (result.controlled, result.longer_wins) == (None, None)
    always = length_controlled_win_rate(VOTES, [(300.0, 100.0)] * 80, range(80))
    assert always.controlled is None


def test_a_contender_that_always_wins_has_a_finite_interval() -> None:
    result = length_controlled_win_rate([1.0] * 80, LENGTHS, range(80))
    assert result.controlled is not None
    assert result.controlled.estimate > 0.99
    assert 0.6 < result.controlled.low < 0.99


def test_votes_that_length_decides_have_an_answer() -> None:
    votes = [float(ours > theirs) for ours, theirs in LENGTHS]
    result = length_controlled_win_rate(votes, LENGTHS, range(80))
    assert result.longer_wins is not None
    assert result.longer_wins.low > 0.9
    assert result.controlled is not None
    assert result.controlled.low < 0.5 < result.controlled.high


def test_one_cluster_says_nothing_about_others() -> None:
    result = length_controlled_win_rate(VOTES, LENGTHS, [0] * 80)
    assert result.controlled is not None
    assert (result.controlled.low, result.controlled.high) == (0.0, 1.0)


def test_impossible_votes_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        length_controlled_win_rate([1.5], [(1.0, 2.0)], [0])
    with pytest.raises(ValueError, match="not finite"):
        length_controlled_win_rate([1.0], [(float("inf"), 2.0)], [0])
    with pytest.raises(ValueError, match="2 preferences, 1 lengths"):
        length_controlled_win_rate([1.0, 0.0], [(1.0, 2.0)], [0, 1])
    with pytest.raises(ValueError, match="no values"):
        length_controlled_win_rate([], [], [])
