"""What a test split can show before anything was measured, and how many examples it would take to show more.

The arms are compared as `intervals.difference_interval` does: a difference is found when the interval lies on its side of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from fettle.report_records import Detectable
from fettle.statistics.clusters import cluster_totals

ASSUMED_DISCORDANCE = 0.25
"""Share of examples that exactly one arm gets right. Two arms that are right on 80 % of examples disagree on 32 % if their errors
are independent and on 2 x 0.8 x 0.2 x (1 - r) if these correlate by r; r = 0.2, which is little for arms that share a base model,
gives 26 %. Weaker or more different arms disagree on more."""

ASSUMED_SCORE_SD = 0.25
"""Standard deviation of the difference of two graded scores on one example: that of each score (a mean of 0.75 and a standard
deviation of 0.25 are usual for field F1 and chrF) times the square root of 2 x (1 - r), with r = 0.5."""

ASSUMED_CORRELATION = 0.7
"""Of differences within a cluster: near-duplicates mostly stand or fall together."""

MAX_EXAMPLES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assumed:
    """What is taken for granted of the differences before they are seen."""

    variance: float
    """Mean square of one paired difference when the arms are equal, in (0, 1]."""
    is_binary: bool
    """Differences are -1, 0 or 1."""
    sizes: NDArray[np.float64]
    """Different sizes of the clusters at hand, [S]."""
    counts: NDArray[np.float64]
    """How many clusters have each size, [S]; others will come in the same proportions."""
    correlation: float
    """Of differences within a cluster."""

    @property
    def mean_size(self) -> float:
        """Mean number of examples in a cluster."""
        return self.num_at_hand / float(self.counts.sum())

    @property
    def num_at_hand(self) -> float:
        """Number of examples in the clusters at hand."""
        return float(self.counts @ self.sizes)

    @property
    def weighted_size(self) -> float:
        """Mean number of examples in the cluster of a random example."""
        return float(self.counts @ self.sizes**2) / self.num_at_hand

    @property
    def effect(self) -> float:
        """The design effect."""
        return 1 + (self.weighted_size - 1) * self.correlation

    def mean_square(self, difference: float) -> float:
        """The mean square of one paired difference whose mean is `difference`; so many must disagree that it is possible."""
        return max(self.variance, difference) if self.is_binary else self.variance + difference**2


def detectable(
    num_examples: int,
    clusters: Sequence[int],
    *,
    is_binary: bool,
    discordance: float | None = None,
    score_sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.80,
) -> Detectable:
    """The smallest true difference of two arms that `num_examples` paired examples find with `power`.

    It rests on assumptions, for it is said before any arm has answered: right-or-wrong scores disagree on 25 % of the examples, or
    on as many as the difference needs; the difference of graded scores has a standard deviation of 0.25; differences within a
    cluster correlate by 0.7 (where each comes from is said at the constants above). Where even a difference of 1 is not found
    the result is 1.

    Args:
        num_examples: Size of the test split; clusters are taken to be of the sizes in `clusters`.
        clusters: The cluster id of each example at hand.
        is_binary: Scores are 0 or 1.
        discordance: Share of examples that exactly one arm gets right, in (0, 1]; for binary scores only, None: 0.25.
        score_sd: Standard deviation of the paired differences, in (0, 1]; for graded scores only, None: 0.25.
        alpha: Two-sided error of the first kind.
        power: Probability of finding it, in the right direction.

    Raises:
        ValueError: There are no examples, or an argument lies outside its range.

    Source: the normal approximation of Connor, Biometrics 43 (1987), 207-211, with Kish's design effect and the imaginary win and
    loss of our interval.

    >>> round(detectable(200, range(200), is_binary=True).smallest_difference, 3)
    0.099
    """
    if num_examples < 1 or not clusters:
        raise ValueError("there are no examples")
    assumed = _assumed(clusters, is_binary=is_binary, discordance=discordance, score_sd=score_sd)
    smallest = _smallest_difference(num_examples, assumed, alpha=alpha, power=power)
    return Detectable(
        num_examples=num_examples,
        num_clusters=max(1, round(len(set(clusters)) * num_examples / len(clusters))),
        design_effect=assumed.effect,
        smallest_difference=smallest,
        num_examples_to_halve=_num_examples(smallest / 2, assumed, alpha=alpha, power=power),
        alpha=alpha,
        power=power,
    )


def num_examples_for(
    difference: float,
    clusters: Sequence[int],
    *,
    is_binary: bool,
    discordance: float | None = None,
    score_sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.80,
) -> int:
    """How many test examples find a true `difference` with `power`; assumptions and arguments as in `detectable`.

    Raises:
        ValueError: `difference` is not in (0, 1], or another argument lies outside its range.

    >>> num_examples_for(0.1, range(200), is_binary=True)
    195
    """
    assumed = _assumed(clusters or (0,), is_binary=is_binary, discordance=discordance, score_sd=score_sd)
    return _num_examples(difference, assumed, alpha=alpha, power=power)


def _assumed(
    clusters: Sequence[int], *, is_binary: bool, discordance: float | None, score_sd: float | None
) -> _Assumed:
    if (discordance if not is_binary else score_sd) is not None:
        raise ValueError("`discordance` is for binary scores, `score_sd` for graded ones")
    if is_binary:
        value = ASSUMED_DISCORDANCE if discordance is None else discordance
        variance = value
    else:
        value = ASSUMED_SCORE_SD if score_sd is None else score_sd
        variance = value**2
    if not 0 < value <= 1:
        raise ValueError(f"{value} is not in (0, 1]")
    sizes, counts = np.unique(cluster_totals(np.zeros(len(clusters)), clusters).sizes, return_counts=True)
    return _Assumed(
        variance=variance,
        is_binary=is_binary,
        sizes=sizes,
        counts=counts.astype(np.float64),
        correlation=ASSUMED_CORRELATION,
    )


def _smallest_difference(num_examples: int, assumed: _Assumed, *, alpha: float, power: float) -> float:
    """Where the power reaches `power`; it grows with the difference."""
    _require_shares(alpha, power)

    def lacking(difference: float) -> float:
        return _power_at(difference, num_examples, assumed, alpha=alpha) - power

    if lacking(1 - 1e-9) < 0:
        return 1.0
    return float(optimize.root_scalar(lacking, bracket=(0.0, 1 - 1e-9), method="brentq", xtol=1e-7).root)


def _power_at(difference: float, num_examples: int, assumed: _Assumed, *, alpha: float) -> float:
    """The probability that the interval of so many differences lies above 0 when their mean is `difference`."""
    counts = assumed.counts * num_examples / assumed.num_at_hand
    num_alike = num_examples / assumed.weighted_size  # clusters of equal size that would say as much
    moments = _moments_of_totals(difference, assumed)
    quantile = float(special.stdtrit(2 * max(num_alike, 1.0), 1 - alpha / 2))
    # The interval excludes 0 when t > quantile, t being sum / sqrt(N / (N - 1) * (sum of squares - sum^2 / N)). The sum of squares
    # rises with the sum, which makes their distance steadier than the sum: `slope` is how the sum needed follows the squares.
    imaginary = 2 * _imaginary_height_squared(difference, moments, counts, assumed) * assumed.mean_size**2
    squares = float(counts @ moments.second) + imaginary
    scale = quantile**2 * (num_alike + 2) / (num_alike + 1)
    sum_needed = math.sqrt(scale * squares / (1 + scale / (num_alike + 2)))
    slope = sum_needed / (2 * squares)
    spread = math.sqrt(max(float(counts @ moments.variance_of_distance(slope)), 1e-12))
    return float(special.ndtr((num_examples * difference - sum_needed) / spread))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moments:
    """The first four moments about 0 of a cluster's total, for each size, [S] each."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    third: NDArray[np.float64]
    fourth: NDArray[np.float64]

    def variance_of_distance(self, slope: float) -> NDArray[np.float64]:
        """The variance of total - slope * total^2, [S]."""
        mean = self.first - slope * self.second
        return self.second - 2 * slope * self.third + slope**2 * self.fourth - mean**2


def _moments_of_totals(difference: float, assumed: _Assumed) -> _Moments:
    """Graded differences are taken for normal. One in {-1, 0, 1} is that of its cluster with probability sqrt(correlation), else
    its own, which gives the correlation.
    """
    sizes, mean_square = assumed.sizes, assumed.mean_square(difference)
    if not assumed.is_binary:
        variance = (mean_square - difference**2) * sizes * (1 + (sizes - 1) * assumed.correlation)
        return _from_cumulants(difference * sizes, variance, np.zeros(len(sizes)), np.zeros(len(sizes)))
    copying = math.sqrt(assumed.correlation)
    of_cluster = {1: (mean_square + difference) / 2, 0: 1 - mean_square, -1: (mean_square - difference) / 2}
    moments = np.zeros((4, len(sizes)))
    for value, share in of_cluster.items():
        mean = copying * value + (1 - copying) * difference
        square = copying * value**2 + (1 - copying) * mean_square
        cumulants = (
            mean,
            square - mean**2,
            mean - 3 * square * mean + 2 * mean**3,
            square - 4 * mean**2 - 3 * square**2 + 12 * square * mean**2 - 6 * mean**4,
        )
        given = _from_cumulants(*(sizes * cumulant for cumulant in cumulants))
        moments += share * np.stack([given.first, given.second, given.third, given.fourth])
    return _Moments(first=moments[0], second=moments[1], third=moments[2], fourth=moments[3])


def _from_cumulants(
    mean: NDArray[np.float64], variance: NDArray[np.float64], third: NDArray[np.float64], fourth: NDArray[np.float64]
) -> _Moments:
    return _Moments(
        first=mean,
        second=variance + mean**2,
        third=third + 3 * variance * mean + mean**3,
        fourth=fourth + 4 * third * mean + 3 * variance**2 + 6 * variance * mean**2 + mean**4,
    )


def _imaginary_height_squared(
    difference: float, moments: _Moments, counts: NDArray[np.float64], assumed: _Assumed
) -> float:
    """The expected mean square of the clusters that are not all ties, as the interval draws it towards that of single examples."""
    mean_square = assumed.mean_square(difference)
    if not assumed.is_binary:
        return mean_square
    copying, tied = math.sqrt(assumed.correlation), 1 - mean_square
    own_tied = (1 - copying) * tied
    untied = 1 - tied * (copying + own_tied) ** assumed.sizes - (1 - tied) * own_tied**assumed.sizes
    of_clusters = min(float(counts @ moments.second) / float(counts @ (untied * assumed.sizes**2)), 1.0)
    return of_clusters + (1 - of_clusters) / max(float(counts @ untied), 1.0)


def _num_examples(difference: float, assumed: _Assumed, *, alpha: float, power: float) -> int:
    if not 0 < difference <= 1:
        raise ValueError(f"a difference to be found lies in (0, 1], not {difference}")
    _require_shares(alpha, power)

    def found(num_examples: int) -> bool:
        return _power_at(difference, num_examples, assumed, alpha=alpha) >= power - 1e-6

    too_few, enough = 0, 1
    while not found(enough) and enough < MAX_EXAMPLES:
        too_few, enough = enough, enough * 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if found(middle) else (middle, enough)
    return enough


def _require_shares(alpha: float, power: float) -> None:
    if not (0 < alpha < 1 and alpha / 2 < power < 1):
        raise ValueError("alpha and power lie between 0 and 1, and power exceeds alpha")
