import pytest

from fettle.statistics.win_rate import win_rate


def test_counts_and_ties_as_half() -> None:
    result = win_rate([0.9, 0.5, 0.3, 1.0], [0.1, 0.5, 0.4, 0.0], range(4))
    assert (result.num_wins, result.num_ties, result.num_losses) == (2, 1, 1)
    assert result.interval.estimate == 0.625


def test_winning_always_is_not_certainty() -> None:
    interval = win_rate([1.0] * 50, [0.0] * 50, range(50)).interval
    assert (interval.estimate, interval.high) == (1.0, 1.0)
    assert 0.9 < interval.low < 0.97


def test_size_of_a_win_does_not_matter() -> None:
    assert win_rate([0.51] * 9, [0.5] * 9, range(9)) == win_rate([1.0] * 9, [0.0] * 9, range(9))


def test_arms_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one arm"):
        win_rate([1.0], [1.0, 0.0], [0, 1])
