"""Our statistics against scipy, statsmodels and definitions written out."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fettle.statistics.clusters import (
    cluster_totals,
    design_effect,
    intra_cluster_correlation,
    pooled_variance_of_mean,
    variance_components,
)
from fettle.statistics.intervals import difference_interval, mean_interval, statistic_interval, wilson
from fettle.statistics.multiplicity import holm
from fettle.statistics.paired_bootstrap import bootstrap_difference
from fettle.statistics.paired_tests import exact_sign_test, paired_test, sign_flip_test


@pytest.mark.parametrize(("successes", "num_trials"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 9), (480, 500)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_equals_statsmodels(successes: int, num_trials: int, level: float) -> None:
    low, high = proportion_confint(successes, num_trials, alpha=1 - level, method="wilson")
    interval = wilson(successes, num_trials, level=level)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("num_right", [0, 3, 50, 99, 100])
def test_mean_of_right_or_wrong_answers_is_wilson(num_right: int) -> None:
    interval = mean_interval([1.0] * num_right + [0.0] * (100 - num_right), range(100))
    low, high = proportion_confint(num_right, 100, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_copies_of_examples_leave_the_mean_interval_as_it_was() -> None:
    """Twenty clusters of five copies each know as much as twenty examples."""
    scores = np.repeat([1.0] * 14 + [0.0] * 6, 5)
    interval = mean_interval(scores.tolist(), np.repeat(np.arange(20), 5).tolist())
    low, high = proportion_confint(14, 20, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.015)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (1, 9), (30, 18), (250, 200)])
def test_mcnemar_equals_statsmodels_and_scipy(wins: int, losses: int) -> None:
    differences = [1.0] * wins + [-1.0] * losses + [0.0] * 20
    test = paired_test(differences, range(len(differences)), is_binary=True, seed=1)
    table = [[10, wins], [losses, 10]]
    assert test.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert exact_sign_test(wins, losses) == pytest.approx(test.p_value)
    if wins + losses:
        assert test.p_value == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)


def test_sign_flip_test_equals_scipy_on_single_examples() -> None:
    differences = np.random.default_rng(1).normal(0.2, 0.4, 10).clip(-1, 1)
    reference = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    ours = sign_flip_test(differences.tolist(), range(10), seed=1)
    by_definition = np.mean(
        [
            abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-12
            for signs in itertools.product((1, -1), repeat=10)
        ]
    )
    assert ours.p_value == pytest.approx(by_definition)
    assert ours.p_value == pytest.approx(reference.pvalue)


def test_random_sign_flips_come_near_the_exact_p_value() -> None:
    """Seventeen clusters are drawn, not enumerated; 17 equal differences, 13 of them positive, are a binomial test."""
    differences = [0.3] * 13 + [-0.3] * 4
    test = sign_flip_test(differences, range(17), seed=1)
    assert "draws" in test.method
    assert test.p_value == pytest.approx(stats.binomtest(13, 17).pvalue, abs=0.01)


@pytest.mark.parametrize("p_values", [[0.01], [0.04, 0.01, 0.03], [0.5, 0.9, 0.6, 0.001], [0.02, 0.02, 1.0]])
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_correlation_equals_the_analysis_of_variance() -> None:
    """With equal cluster sizes m and F = between / within mean squares it is (F - 1) / (F + m - 1)."""
    values = np.random.default_rng(2).normal(size=(30, 4)) + np.random.default_rng(3).normal(size=(30, 1))
    f_ratio = stats.f_oneway(*values).statistic
    ids = np.repeat(np.arange(30), 4).tolist()
    expected = (f_ratio - 1) / (f_ratio + 3)
    assert intra_cluster_correlation(values.ravel().tolist(), ids) == pytest.approx(expected)
    assert design_effect(values.ravel().tolist(), ids) == pytest.approx(1 + 3 * expected)


def test_variance_components_have_the_expected_mean_squares() -> None:
    """Solved from the definitions: E[MSW] = within, E[MSB] = within + n0 between, sizes unequal (Searle et al. 1992, 3.6)."""
    sizes = np.array([1, 1, 2, 3, 7])
    ids = np.repeat(np.arange(5), sizes)
    values = np.random.default_rng(7).normal(size=14)
    groups = [values[ids == group] for group in range(5)]
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (14 - 5)
    between_squares = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in groups) / (5 - 1)
    n0 = (14 - (sizes**2).sum() / 14) / (5 - 1)
    components = variance_components(values, cluster_totals(values, ids.tolist()))
    assert components.within == pytest.approx(within)
    assert components.between == pytest.approx((between_squares - within) / n0)


def test_pooled_variance_is_the_mean_of_what_repeated_sampling_shows() -> None:
    """Three clusters of 30 among 300 single examples: unbiased, and steadier than the cluster-robust variance."""
    sizes = np.array([1] * 300 + [30] * 3)
    ids = np.repeat(np.arange(303), sizes)
    generator = np.random.default_rng(8)
    studies = generator.normal(size=(2000, 303))[:, ids] + generator.normal(size=(2000, len(ids)))
    pooled = np.array([pooled_variance_of_mean(row, cluster_totals(row, ids.tolist())) for row in studies])
    residuals = np.array([np.bincount(ids, weights=row - row.mean()) for row in studies])
    robust = (residuals**2).sum(axis=1) / len(ids) ** 2
    true_variance = ((sizes**2).sum() + len(ids)) / len(ids) ** 2
    assert pooled.mean() == pytest.approx(true_variance, rel=0.03)
    assert pooled.std() < 0.6 * robust.std()


def test_pooled_variance_is_the_cluster_robust_one_when_sizes_are_equal() -> None:
    """That is the variance of G cluster means over G."""
    means = np.random.default_rng(9).normal(size=12)
    values = np.repeat(means, 4) + np.tile([1.0, -1.0, 0.5, -0.5], 12)
    ids = np.repeat(np.arange(12), 4).tolist()
    assert pooled_variance_of_mean(values, cluster_totals(values, ids)) == pytest.approx(means.var(ddof=1) / 12)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(0, 0, 100), (5, 0, 95), (30, 12, 158), (160, 60, 280)])
def test_difference_interval_is_nearly_that_of_bonett_and_price(wins: int, losses: int, ties: int) -> None:
    """Theirs is (wins - losses) / (n + 2) with one win and one loss added, a normal quantile and no small-sample factor."""
    num_examples = wins + losses + ties
    win_share, loss_share = (wins + 1) / (num_examples + 2), (losses + 1) / (num_examples + 2)
    variance = (win_share + loss_share - (win_share - loss_share) ** 2) / (num_examples + 2)
    low, high = win_share - loss_share + stats.norm.ppf([0.025, 0.975]) * np.sqrt(variance)
    interval = difference_interval([1.0] * wins + [-1.0] * losses + [0.0] * ties, range(num_examples))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_difference_interval_leaves_out_zero_where_mcnemar_rejects() -> None:
    """At 300 examples the two agree on 98 % of the outcomes with up to 50 disagreements."""
    num_disagreeing = 0
    outcomes = [(wins, total - wins) for total in range(1, 51) for wins in range(total // 2, total + 1)]
    for wins, losses in outcomes:
        differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * (300 - wins - losses))
        above_zero = difference_interval(differences, range(300)).low > 0
        num_disagreeing += above_zero != (wins > losses and exact_sign_test(wins, losses) <= 0.05)
    assert num_disagreeing <= 0.02 * len(outcomes)


def test_difference_interval_is_the_cluster_robust_one_when_there_are_many_clusters() -> None:
    """The mean's standard error is sqrt(sum of squared cluster residuals) / n."""
    generator = np.random.default_rng(4)
    sizes = generator.integers(1, 6, 3000)
    ids = np.repeat(np.arange(3000), sizes)
    differences = (generator.normal(0.05, 0.1, 3000)[ids] + generator.normal(0, 0.1, len(ids))).clip(-1, 1)
    residuals = np.bincount(ids, weights=differences - differences.mean())
    error = np.sqrt((residuals**2).sum()) / len(ids)
    interval = difference_interval(differences, ids.tolist())
    expected = differences.mean() + stats.norm.ppf([0.025, 0.975]) * error
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.02 * error)


def test_corpus_bootstrap_equals_scipy_when_there_are_many_examples() -> None:
    values = np.random.default_rng(5).beta(2, 3, 800)
    ours = statistic_interval(lambda at: float(values[at].mean()), 800, range(800), seed=1, num_resamples=4000)
    reference = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    expected = (reference.confidence_interval.low, reference.confidence_interval.high)
    assert (ours.low, ours.high) == pytest.approx(expected, abs=0.05 * (expected[1] - expected[0]))


@pytest.mark.parametrize("seed", range(3))
def test_paired_cluster_bootstrap_equals_a_loop_over_whole_clusters(seed: int) -> None:
    generator = np.random.default_rng(seed)
    ids = np.repeat(np.arange(60), generator.integers(1, 8, 60))
    differences = generator.choice([-1.0, 0.0, 1.0], len(ids), p=[0.15, 0.55, 0.3])
    clusters = [differences[ids == cluster] for cluster in range(60)]
    means = [np.concatenate([clusters[drawn] for drawn in generator.integers(0, 60, 60)]).mean() for _ in range(20_000)]
    low, high = np.quantile(means, [0.025, 0.975])
    interval = bootstrap_difference(differences, ids.tolist(), seed=seed)
    assert interval is not None
    assert interval.estimate == pytest.approx(differences.mean())
    # The error of such a percentile over 9,999 resamples is about 1.5 % of the width.
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_paired_cluster_bootstrap_agrees_with_ours_where_there_are_many_clusters() -> None:
    generator = np.random.default_rng(6)
    ids = np.repeat(np.arange(800), generator.integers(1, 4, 800))
    differences = generator.choice([-1.0, 0.0, 1.0], len(ids), p=[0.1, 0.6, 0.3])
    bootstrap = bootstrap_difference(differences, ids.tolist(), seed=1)
    ours = difference_interval(differences, ids.tolist())
    assert bootstrap is not None
    assert (bootstrap.low, bootstrap.high) == pytest.approx((ours.low, ours.high), abs=0.05 * (ours.high - ours.low))
