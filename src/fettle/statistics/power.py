"""What a test split can show before anything was measured, and how many examples it would take to show more.

The arms are compared as `intervals.difference_interval` does: a difference is found when the interval lies on its side of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, special

from fettle.records import Detectable
from fettle.statistics.clusters import assumed_design_effect

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
    variance = _variance_of_one(is_binary=is_binary, discordance=discordance, score_sd=score_sd)
    effect = assumed_design_effect(clusters, correlation=ASSUMED_CORRELATION)
    smallest = _smallest_difference(num_examples / effect, variance, is_binary=is_binary, alpha=alpha, power=power)
    return Detectable(
        num_examples=num_examples,
        num_clusters=max(1, round(len(set(clusters)) * num_examples / len(clusters))),
        design_effect=effect,
        smallest_difference=smallest,
        num_examples_to_halve=_num_examples(
            smallest / 2, effect, variance, is_binary=is_binary, alpha=alpha, power=power
        ),
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
    variance = _variance_of_one(is_binary=is_binary, discordance=discordance, score_sd=score_sd)
    effect = assumed_design_effect(clusters, correlation=ASSUMED_CORRELATION) if clusters else 1.0
    return _num_examples(difference, effect, variance, is_binary=is_binary, alpha=alpha, power=power)


def _variance_of_one(*, is_binary: bool, discordance: float | None, score_sd: float | None) -> float:
    """The mean square of one paired difference when the arms are equal."""
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
    return variance


def _smallest_difference(
    num_effective: float, variance: float, *, is_binary: bool, alpha: float, power: float
) -> float:
    """Where the power reaches `power`; it grows with the difference."""
    if not (0 < alpha < 1 and alpha / 2 < power < 1):
        raise ValueError("alpha and power lie between 0 and 1, and power exceeds alpha")

    def lacking(difference: float) -> float:
        return _power_at(difference, num_effective, variance, is_binary=is_binary, alpha=alpha) - power

    if lacking(1 - 1e-9) < 0:
        return 1.0
    return float(optimize.root_scalar(lacking, bracket=(0.0, 1 - 1e-9), method="brentq", xtol=1e-7).root)


def _power_at(difference: float, num_effective: float, variance: float, *, is_binary: bool, alpha: float) -> float:
    """The probability that the interval of `num_effective` independent differences lies above 0 when their mean is `difference`."""
    mean_square = max(variance, difference) if is_binary else variance + difference**2
    height_squared = 1.0 if is_binary else mean_square
    num_with_imaginary = num_effective + 2
    quantile = float(special.stdtrit(2 * max(num_effective, 1.0), 1 - alpha / 2))
    # The interval excludes 0 when t > quantile, t being sum / sqrt(N / (N - 1) * (sum of squares - sum^2 / N)). The sum of squares
    # rises with the sum, which makes their distance steadier than the sum: `slope` is how the sum needed follows the squares.
    squares = num_effective * mean_square + 2 * height_squared
    scale = quantile**2 * num_with_imaginary / (num_with_imaginary - 1)
    sum_needed = math.sqrt(scale * squares / (1 + scale / num_with_imaginary))
    slope = sum_needed / (2 * squares)
    variance_of_distance = _variance_of_distance(difference, mean_square, slope, is_binary=is_binary)
    spread = math.sqrt(num_effective * max(variance_of_distance, 1e-12))
    return float(special.ndtr((num_effective * difference - sum_needed) / spread))


def _variance_of_distance(difference: float, mean_square: float, slope: float, *, is_binary: bool) -> float:
    """The variance of d - slope * d^2 for one paired difference d: in {-1, 0, 1} if binary, else taken for normal."""
    if is_binary:
        return mean_square * (1 + slope**2) - 2 * slope * difference - (difference - slope * mean_square) ** 2
    spread = mean_square - difference**2
    return spread * (1 - 2 * slope * difference) ** 2 + 2 * (slope * spread) ** 2


def _num_examples(
    difference: float, effect: float, variance: float, *, is_binary: bool, alpha: float, power: float
) -> int:
    if not 0 < difference <= 1:
        raise ValueError(f"a difference to be found lies in (0, 1], not {difference}")

    def found(num_examples: int) -> bool:
        smallest = _smallest_difference(num_examples / effect, variance, is_binary=is_binary, alpha=alpha, power=power)
        return smallest <= difference + 1e-9

    too_few, enough = 0, 1
    while not found(enough) and enough < MAX_EXAMPLES:
        too_few, enough = enough, enough * 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if found(middle) else (middle, enough)
    return enough
