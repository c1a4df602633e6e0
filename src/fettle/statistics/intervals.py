"""Confidence intervals for means, paired differences and corpus statistics, with clusters of any size.

The means and differences have closed forms; why they replace the bootstrap, with the coverage of both, is told in
`docs/design/003-intervals.md`. A corpus statistic (macro F1) has none and takes the cluster bootstrap.

Letters: n examples, G clusters, N = G + 2 clusters with the imaginary ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.records import Interval
from fettle.statistics.clusters import (
    ClusterTotals,
    cluster_totals,
    index_groups,
    pooled_variance_of_mean,
    size_weighted_mean_size,
)

TIE = 1e-9
"""Two scores closer than this are equal: graders compute in floating point."""

_ONE_CLUSTER = "one group of examples only, which says nothing about others"


def wilson(successes: float, num_trials: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion; both counts may be fractional (effective sample sizes).

    Raises:
        ValueError: There are no trials, or more successes than trials.

    Source: Wilson, JASA 22 (1927), 209-212.

    >>> print(wilson(10, 10))
    1.000 (0.722 to 1.000)
    """
    if num_trials <= 0 or not 0 <= successes <= num_trials * (1 + 1e-12):
        raise ValueError(f"{successes} successes in {num_trials} trials")
    return _wilson_at(
        min(successes / num_trials, 1.0), num_trials, _normal_quantile(level), level=level, method="Wilson"
    )


def mean_interval(scores: Sequence[float], clusters: Sequence[int], *, level: float = 0.95) -> Interval:
    """The mean of scores in [0, 1], with Wilson's interval at the effective number of examples.

    The design effect is the variance of the mean over that of independent right-or-wrong answers: the larger of the cluster-robust
    variance and the pooled one, which differ when cluster sizes do (a few big clusters among single examples say too little about
    themselves for the first, and may be unlike the others, which the second takes for granted). The effect is averaged with that of
    one imaginary cluster whose examples are copies of each other, the K clusters that were not all right (or all wrong) being the
    others: few such clusters know little about it, and with none of them each cluster counts as one example. Where few clusters
    differ from the mean their variance is itself uncertain, so Student's t takes the place of the normal quantile. Right-or-wrong
    answers without clusters get Wilson's interval itself.

    With clusters of unequal sizes it was found to cover 94 to 99 % (the table is in `docs/design/003-intervals.md`). Where one or
    two clusters hold a quarter of the examples or more it errs on the wide side, but near 0 and 1, where it can fall to 90 %.

    Args:
        scores: One score in [0, 1] per example, unscored ones left out, [n].
        clusters: The cluster id of each example, [n].
        level: The confidence level.

    Raises:
        ValueError: Lengths differ, there is no score, or one lies outside [0, 1].

    Source: Wilson's interval at an effective sample size as in Korn and Graubard, Survey Methodology 24 (1998), 193-201.

    >>> print(mean_interval([1.0] * 9 + [0.0], list(range(10))))
    0.900 (0.596 to 0.982)
    """
    array = np.asarray(scores, dtype=np.float64)
    sums = cluster_totals(array, clusters)
    if array.min() < -TIE or array.max() > 1 + TIE:
        raise ValueError("a score lies outside [0, 1]")
    mean = min(max(float(sums.totals.sum()) / sums.num_examples, 0.0), 1.0)
    if sums.num_clusters == sums.num_examples and bool(((array == 0) | (array == 1)).all()):
        return wilson(mean * sums.num_examples, sums.num_examples, level=level)
    num_effective = sums.num_examples / _guarded_design_effect(array, sums, mean)
    quantile = student_quantile(level, 2 * _degrees_of_freedom(sums, mean))
    return _wilson_at(mean, num_effective, quantile, level=level, method="Wilson at the effective number of examples")


def _wilson_at(proportion: float, num_trials: float, quantile: float, *, level: float, method: str) -> Interval:
    """Wilson's interval with any quantile in place of the normal one."""
    denominator = 1 + quantile**2 / num_trials
    centre = (proportion + quantile**2 / (2 * num_trials)) / denominator
    variance = proportion * (1 - proportion) / num_trials + quantile**2 / (4 * num_trials**2)
    half_width = quantile / denominator * math.sqrt(variance)
    limits = (centre - half_width, centre + half_width)
    return _interval(proportion, *limits, level=level, bounds=(0.0, 1.0), method=method)


def _guarded_design_effect(scores: NDArray[np.float64], sums: ClusterTotals, mean: float) -> float:
    """The design effect against binary scores, averaged with that of one imaginary cluster of copies."""
    largest = size_weighted_mean_size(sums.sizes)
    if not TIE < mean < 1 - TIE or sums.num_clusters == 1:
        return largest
    num_clusters, num_examples = sums.num_clusters, sums.num_examples
    robust = float(((sums.totals - mean * sums.sizes) ** 2).sum()) / num_examples**2 * num_clusters / (num_clusters - 1)
    variance = max(robust, pooled_variance_of_mean(scores, sums))
    estimated = variance * (num_examples - 1) / (mean * (1 - mean))
    num_not_right = int((sums.totals < sums.sizes - TIE).sum())
    num_not_wrong = int((sums.totals > TIE).sum())
    num_informative = min(num_not_right, num_not_wrong)
    return (num_informative * estimated + max(largest, estimated)) / (num_informative + 1)


def _degrees_of_freedom(sums: ClusterTotals, mean: float) -> float:
    """Satterthwaite's degrees of freedom of a variance, from the kurtosis of the G cluster means: about G if they are normal."""
    squares = (sums.totals / sums.sizes - mean) ** 2
    if squares.sum() < TIE:
        return math.inf
    num_carrying = float(squares.sum() ** 2 / (squares**2).sum())
    return 2 * sums.num_clusters * num_carrying / max(sums.num_clusters - num_carrying, TIE)


def paired_difference(
    challenger: Sequence[float], baseline: Sequence[float], clusters: Sequence[int], *, level: float = 0.95
) -> Interval:
    """The mean of `challenger - baseline` over the same examples, both in [0, 1]; see `difference_interval`.

    Raises:
        ValueError: Lengths differ, or there is no pair.

    >>> print(paired_difference([1.0] * 10, [1.0] * 10, list(range(10))))
    0.000 (-0.257 to 0.257)
    """
    if len(challenger) != len(baseline):
        raise ValueError(f"{len(challenger)} scores of one arm but {len(baseline)} of the other")
    differences = np.asarray(challenger, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    return difference_interval(differences, clusters, level=level)


def difference_interval(
    differences: Sequence[float] | NDArray[np.float64], clusters: Sequence[int], *, level: float = 0.95
) -> Interval:
    """The mean of paired differences in [-1, 1], from their cluster-robust variance with one imaginary win and one imaginary loss.

    Two clusters of mean size are added, one all wins and one all losses, so that a sample without losses does not pass for proof
    that there are none. Their height is the root-mean-square of the clusters that are not all ties, drawn towards that of single
    untied examples by one part in K where K such clusters were seen; with ties only it is 1, the largest possible. The limits are
    those of the mean over all N = G + 2 clusters, with Student's t at twice the effective number of clusters, which coverage was
    found to need, and the larger of two variances: the leverage-corrected robust one (CR2) and the pooled one, which knows more
    where a few big clusters stand among single examples. For right-or-wrong answers without clusters this is nearly Bonett and
    Price's interval, and it excludes 0 almost exactly where McNemar's exact test does. The estimate is the plain mean.

    With clusters of unequal sizes it was found to cover 94 to 98 %, and up to 100 % where arms seldom disagree, or where one to
    three clusters hold a quarter of the examples or more.

    Args:
        differences: One difference in [-1, 1] per example, [n].
        clusters: The cluster id of each example, [n].
        level: The confidence level.

    Raises:
        ValueError: Lengths differ, there is no difference, or one lies outside [-1, 1].

    Source: Bonett and Price, J. Educ. Behav. Stat. 37 (2012), 479-488, extended to clusters; Bell and McCaffrey, Survey Methodology
    28 (2002), 169-181 for CR2.
    """
    array = np.asarray(differences, dtype=np.float64)
    array = np.where(np.abs(array) < TIE, 0.0, array)
    sums = cluster_totals(array, clusters)
    if np.abs(array).max() > 1 + TIE:
        raise ValueError("a difference lies outside [-1, 1]")
    estimate = float(sums.totals.sum()) / sums.num_examples
    if sums.num_clusters == 1:
        return Interval(estimate=estimate, low=-1.0, high=1.0, level=level, method=_ONE_CLUSTER)
    mean_size = sums.num_examples / sums.num_clusters
    height = _imaginary_height(array, sums)
    totals_N = np.append(sums.totals, [height * mean_size, -height * mean_size])
    sizes_N = np.append(sums.sizes, [mean_size, mean_size])
    share_N = sizes_N / sizes_N.sum()
    centre = float(totals_N.sum() / sizes_N.sum())
    residuals_N = (totals_N - centre * sizes_N) / sizes_N.sum()
    robust = float((residuals_N**2 / (1 - share_N)).sum())
    of_imaginary = 2 * (height * mean_size) ** 2 / (1 - share_N[-1])
    of_examples = sums.num_examples**2 * pooled_variance_of_mean(array, sums)
    pooled = (of_examples + of_imaginary) / sizes_N.sum() ** 2
    standard_error = math.sqrt(max(robust, pooled))
    num_effective_clusters = sums.num_examples / size_weighted_mean_size(sums.sizes)
    half_width = student_quantile(level, 2 * num_effective_clusters) * standard_error
    method = "cluster-robust, with one imaginary win and one imaginary loss"
    return _interval(estimate, centre - half_width, centre + half_width, level=level, bounds=(-1.0, 1.0), method=method)


def _imaginary_height(differences: NDArray[np.float64], sums: ClusterTotals) -> float:
    """The mean difference in each imaginary cluster, up to its sign, in (0, 1]."""
    is_untied = np.abs(sums.totals) > TIE
    untied = differences[differences != 0]
    if len(untied) == 0:
        return 1.0
    of_examples = float((untied**2).mean())
    if not is_untied.any():
        return math.sqrt(of_examples)
    of_clusters = float((sums.totals[is_untied] ** 2).sum() / (sums.sizes[is_untied] ** 2).sum())
    return math.sqrt(of_clusters + max(of_examples - of_clusters, 0.0) / int(is_untied.sum()))


def statistic_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    num_examples: int,
    clusters: Sequence[int],
    *,
    seed: int,
    level: float = 0.95,
    num_resamples: int = 2000,
) -> Interval:
    """A statistic in [0, 1] of the whole corpus, such as macro F1, with its cluster-bootstrap interval.

    Clusters are drawn with replacement; the percentiles are those further out by which a percentile interval of G values must be
    widened to match Student's t. Where every resample gives the same value the interval is as wide as Wilson's would be for G
    clusters that all agree.

    Args:
        statistic: Its value on the examples at the given positions, which may repeat; must be finite and in [0, 1].
        num_examples: Positions go from 0 to this, exclusive.
        clusters: The cluster id of each example, [num_examples].
        seed: Of the resampling; the same seed gives the same interval.
        level: The confidence level.
        num_resamples: How often the statistic is computed.

    Raises:
        ValueError: Lengths differ, or the statistic leaves [0, 1].

    Source: Hesterberg, What teachers should know about the bootstrap, Am. Stat. 69 (2015), 371-386, section 5.3.
    """
    if len(clusters) != num_examples or num_examples == 0:
        raise ValueError(f"{num_examples} examples but {len(clusters)} cluster ids")
    groups = index_groups(clusters)
    estimate = float(statistic(np.arange(num_examples)))
    if len(groups) == 1:
        return Interval(estimate=estimate, low=0.0, high=1.0, level=level, method=_ONE_CLUSTER)
    generator = np.random.default_rng(seed)
    values = np.array([statistic(_resampled(groups, generator)) for _ in range(num_resamples)])
    if not (np.isfinite(values).all() and values.min() > -TIE and values.max() < 1 + TIE):
        raise ValueError("the statistic is not a number in [0, 1] on every resample")
    num_clusters = len(groups)
    if values.max() - values.min() < TIE:
        doubt = 1 - wilson(num_clusters, num_clusters, level=level).low
        low, high, method = estimate - doubt, estimate + doubt, "as wide as Wilson's: no resample differed"
    else:
        wider = student_quantile(level, num_clusters - 1) * math.sqrt(num_clusters / (num_clusters - 1))
        tail = float(special.ndtr(-wider))
        low, high = np.quantile(values, [tail, 1 - tail])
        method = f"cluster bootstrap, {num_resamples} resamples"
    return _interval(estimate, float(low), float(high), level=level, bounds=(0.0, 1.0), method=method)


def _resampled(groups: tuple[NDArray[np.intp], ...], generator: np.random.Generator) -> NDArray[np.intp]:
    drawn = generator.integers(len(groups), size=len(groups))
    return np.concatenate([groups[cluster] for cluster in drawn])


def _interval(
    estimate: float, low: float, high: float, *, level: float, bounds: tuple[float, float], method: str
) -> Interval:
    """An interval kept within `bounds` and around its own estimate."""
    return Interval(
        estimate=estimate,
        low=max(min(low, estimate), bounds[0]),
        high=min(max(high, estimate), bounds[1]),
        level=level,
        method=method,
    )


def _normal_quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    return float(special.ndtri((1 + level) / 2))


def student_quantile(level: float, degrees_of_freedom: float) -> float:
    """How many standard errors wide half an interval is, by Student's t; by the normal distribution from 1e6 degrees on.

    Raises:
        ValueError: The level does not lie between 0 and 1.

    >>> round(student_quantile(0.95, 10), 3), round(student_quantile(0.95, math.inf), 3)
    (2.228, 1.96)
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    if degrees_of_freedom > 1e6:
        return _normal_quantile(level)
    return float(special.stdtrit(degrees_of_freedom, (1 + level) / 2))
