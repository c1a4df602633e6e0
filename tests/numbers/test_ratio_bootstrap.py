"""The interval of a mean without bounds: the algorithm told plainly, and how often it holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fettle.statistics.paired_bootstrap import bootstrap_difference
from fettle.statistics.ratio_bootstrap import positive_mean_interval

NUM_STUDIES = 300


def ratio_and_error(totals: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Mean over all values, and the standard error of a ratio of sums by linearisation (Cochran 1977, section 6.3)."""
    mean = totals.sum() / sizes.sum()
    residuals = totals - mean * sizes
    return mean, math.sqrt(len(totals) / (len(totals) - 1) * (residuals**2).sum()) / sizes.sum()


def drawn_study(random: np.random.Generator, num_clusters: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nats of tokens, and their clusters: a log-normal level of each cluster, 5 to 63 tokens of each input, skewed tokens."""
    levels = 0.5 * np.exp(random.normal(0, 0.7, num_clusters)).repeat(size)
    lengths = random.integers(5, 64, num_clusters * size)
    nats = random.gamma(0.5, 2 * levels.repeat(lengths))
    return nats, np.arange(num_clusters).repeat(size).repeat(lengths)


def test_it_is_the_algorithm_told_plainly() -> None:
    random = np.random.default_rng(3)
    nats, clusters = drawn_study(random, 24, 2)
    totals, sizes = np.bincount(clusters, weights=nats), np.bincount(clusters).astype(float)
    mean, error = ratio_and_error(totals, sizes)
    distances = []
    for _ in range(9_000):
        drawn = random.integers(24, size=24)
        of_resample, its_error = ratio_and_error(totals[drawn], sizes[drawn])
        distances.append((of_resample - mean) / its_error)
    low, high = np.quantile(distances, [0.025, 0.975])
    found = positive_mean_interval(nats, clusters.tolist(), seed=1)
    assert found is not None
    assert found.estimate == pytest.approx(mean) == pytest.approx(nats.mean())
    assert (found.low, found.high) == pytest.approx((mean - high * error, mean - low * error), rel=0.03)


@pytest.mark.parametrize(("num_clusters", "size"), [(64, 1), (16, 4), (32, 1)])
def test_it_holds_the_truth_more_often_than_percentiles_do(
    num_clusters: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """True mean: 0.5 x E[exp(N(0, 0.7))] = 0.5 x exp(0.245) = 0.639; error of a coverage over 300 studies: 1.5 points."""
    monkeypatch.setattr("fettle.statistics.paired_bootstrap.NUM_RESAMPLES", 999)
    truth = 0.5 * math.exp(0.7**2 / 2)
    random = np.random.default_rng(7)
    held, held_by_percentiles = 0, 0
    for _ in range(NUM_STUDIES):
        nats, clusters = drawn_study(random, num_clusters, size)
        found = positive_mean_interval(nats, clusters.tolist(), seed=1, num_resamples=999)
        percentiles = bootstrap_difference(nats, clusters.tolist(), seed=1)
        assert found is not None
        assert percentiles is not None
        held += found.low <= truth <= found.high
        held_by_percentiles += percentiles.low <= truth <= percentiles.high
    assert 0.91 <= held / NUM_STUDIES <= 0.97
    assert held >= held_by_percentiles


def test_the_lower_limit_stays_at_or_above_zero_and_the_mean_within() -> None:
    found = positive_mean_interval([0.0, 0.0, 0.1, 0.0, 0.2, 0.0, 9.0, 0.1, 0.0, 0.3], range(10), seed=0)
    assert found is not None
    assert 0 <= found.low <= found.estimate == pytest.approx(0.97)
    assert found.high > 9  # one in ten is far away: how far the mean goes is anybody's guess


def test_what_says_nothing_of_the_spread_gets_no_interval() -> None:
    assert positive_mean_interval([0.1, 0.4], [7, 7], seed=0) is None
    assert positive_mean_interval([0.0, 0.0, 0.0], [0, 1, 2], seed=0) is None
    assert positive_mean_interval([0.0, 0.0, 0.0, 5.0], [0, 1, 2, 3], seed=0) is None  # (3/4)^4 of resamples lack the 5


@pytest.mark.parametrize("values", [[-0.1, 1.0], [float("inf"), 1.0], []])
def test_other_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"negative|finite|no values"):
        positive_mean_interval(values, list(range(len(values))), seed=0)
