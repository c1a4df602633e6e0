import numpy as np
import pytest

from fettle.statistics.intervals import (
    difference_interval,
    mean_interval,
    paired_difference,
    statistic_interval,
    wilson,
)


def test_all_right_is_not_certainty() -> None:
    assert mean_interval([1.0] * 100, range(100)).low == pytest.approx(1 - 3.7 / 100, abs=0.001)
    in_twenty_clusters = mean_interval([1.0] * 100, [i // 5 for i in range(100)])
    assert in_twenty_clusters.low == pytest.approx(wilson(20, 20).low)


def test_equal_scores_do_not_give_a_point() -> None:
    interval = mean_interval([0.7] * 50, range(50))
    assert interval.low < 0.69 < 0.71 < interval.high


def test_one_example_says_little() -> None:
    interval = mean_interval([1.0], [0])
    assert (interval.low, interval.high) == pytest.approx((0.207, 1.0), abs=0.001)
    assert mean_interval([1.0] * 40, [3] * 40).low == pytest.approx(0.207, abs=0.001)


def test_only_ties_do_not_prove_equality() -> None:
    interval = paired_difference([1.0] * 100, [1.0] * 100, range(100))
    assert interval.estimate == 0.0
    assert -interval.low == interval.high == pytest.approx(0.028, abs=0.001)


@pytest.mark.parametrize("num_examples", [1, 30])
def test_one_cluster_says_nothing_about_others(num_examples: int) -> None:
    interval = paired_difference([1.0] * num_examples, [0.0] * num_examples, [7] * num_examples)
    assert (interval.estimate, interval.low, interval.high) == (1.0, -1.0, 1.0)
    assert "one group" in interval.method


def test_clusters_that_cancel_out_are_not_taken_for_ties() -> None:
    """Each cluster holds a win and a loss: the sums are all 0, and yet the arms differ on every example."""
    interval = difference_interval([1.0, -1.0] * 20, [i // 2 for i in range(40)])
    assert interval.low < -0.05 < 0.05 < interval.high


def test_rounding_noise_is_a_tie() -> None:
    noisy = difference_interval([0.1 + 0.2 - 0.3] * 10, range(10))
    assert (noisy.estimate, noisy.high) == (0.0, difference_interval([0.0] * 10, range(10)).high)


def test_clusters_widen_the_interval() -> None:
    scores = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0] * 5, 4)
    alone = mean_interval(scores.tolist(), range(120))
    together = mean_interval(scores.tolist(), (np.arange(120) // 4).tolist())
    assert together.high - together.low > 1.7 * (alone.high - alone.low)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.99])
def test_higher_levels_are_wider(level: float) -> None:
    scores = [0.2, 0.9, 0.4, 1.0, 0.7, 0.1]
    for interval in (mean_interval, difference_interval):
        narrow, wide = interval(scores, range(6), level=level), interval(scores, range(6), level=level + 0.005)
        assert narrow.level == level
        assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high or wide.high == 1.0


def test_scores_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        mean_interval([1.2], [0])
    with pytest.raises(ValueError, match="outside"):
        difference_interval([-1.2], [0])
    with pytest.raises(ValueError, match="scores of one arm"):
        paired_difference([1.0], [1.0, 0.0], [0, 1])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1.0], [0], level=95)


def test_wilson_refuses_impossible_counts() -> None:
    for successes, num_trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials"):
            wilson(successes, num_trials)


def accuracy(right: np.ndarray):
    return lambda at: float(right[at].mean())


def test_corpus_interval_is_seeded_and_holds_its_estimate() -> None:
    right = np.array([1.0, 0.0, 1.0, 1.0] * 10)
    first, second = (statistic_interval(accuracy(right), 40, range(40), seed=3, num_resamples=200) for _ in range(2))
    assert first == second
    assert first.low < first.estimate == 0.75 < first.high


def test_corpus_statistic_that_never_varies_is_not_certainty() -> None:
    interval = statistic_interval(accuracy(np.ones(30)), 30, range(30), seed=1, num_resamples=50)
    assert interval.low == pytest.approx(wilson(30, 30).low)
    assert interval.high == 1.0


def test_corpus_statistic_of_one_cluster_or_of_nonsense() -> None:
    one = statistic_interval(accuracy(np.ones(5)), 5, [1] * 5, seed=1)
    assert (one.low, one.high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="not a number"):
        statistic_interval(lambda at: float("nan"), 4, range(4), seed=1, num_resamples=5)
    with pytest.raises(ValueError, match="cluster ids"):
        statistic_interval(lambda at: 0.5, 4, range(3), seed=1)


def test_corpus_bootstrap_draws_whole_clusters() -> None:
    seen: list[set[int]] = []

    def remember(at: np.ndarray) -> float:
        seen.append(set(at.tolist()))
        return float(at[0] % 2)

    statistic_interval(remember, 6, [0, 0, 1, 1, 2, 2], seed=1, num_resamples=50)
    assert all({2 * cluster, 2 * cluster + 1} <= at for at in seen for cluster in {index // 2 for index in at})
