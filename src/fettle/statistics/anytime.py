"""Inference that holds however often one looks: evidence and intervals for the mean of bounded outcomes, while they arrive.

A usual interval promises 95 % for one look at a number of outcomes fixed beforehand; whoever looks daily and stops when it clears
0 errs far more often. Here a gambler bets on each outcome, at odds that are fair if the mean is what is doubted. The capital is
then a test martingale: that it ever grows 20-fold has a probability of at most 1/20 (Ville's inequality), whenever one looks and
whyever one stops. The means that the gambler has not won 20-fold against are the confidence sequence.

Assumed is only that outcomes lie within their bounds and that, given all before, each has the mean in question; independent
outcomes of one distribution do. Outcomes of one conversation go with each other: give one outcome a conversation. Where the mean
drifts, evidence against "at most m" still says that it was above m at some time; an interval is about a mean that stays.

Letters: n outcomes, J bets, V distinct values.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024), 1-27: the capital
process and its hedged form. Theirs bet a share that is set anew with each outcome; ours spread the stake over many constant
shares, most of them near 0 and 1 (Cover's universal portfolio; as in Orabona and Jun, IEEE Trans. Inf. Theory 70, 2024). That
needs no tuning, grows nearly as fast as the best constant share known only in hindsight, and does not depend on the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from fettle.records import Interval

_NUM_BETS = 32
_SHARES_J = np.sin(np.pi * (2 * np.arange(1, _NUM_BETS + 1) - 1) / (4 * _NUM_BETS)) ** 2
"""Shares of the capital that are staked, in (0, 1): equally weighted, they are the nodes of the arcsine distribution."""
_AT_ONCE = 4096
_PRECISION = 1e-9
"""Of limits, on a scale from 0 to 1."""


class Against(StrEnum):
    """What the evidence speaks against."""

    AT_MOST = "at_most"
    """That the mean is at most the one named: the evidence grows where outcomes are greater."""
    AT_LEAST = "at_least"
    """That it is at least the one named."""
    EQUAL = "equal"
    """That it is the one named; half the stake on either side."""


def log_evidence(
    outcomes: Sequence[float] | NDArray[np.float64],
    mean: float,
    against: Against,
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> float:
    """Natural logarithm of the capital won so far against a claim about the mean.

    If the claim is true, the probability that it ever reaches log(1/a) is at most a.

    Args:
        outcomes: Such as paired differences of scores, [n]; none yet is no evidence.
        mean: The one of the claim, within the bounds and at neither of them.
        against: The claim.
        bounds: What outcomes can be at least and at most.

    Raises:
        ValueError: An outcome, or the mean, is outside the bounds.

    >>> wins = [1.0] * 9
    >>> log_evidence(wins, 0.0, Against.AT_MOST) > math.log(20)
    True
    >>> log_evidence(wins, 0.0, Against.AT_LEAST) < 0
    True
    """
    values, counts = np.unique(_scaled(outcomes, bounds), return_counts=True)
    return _log_capital(values, counts, _scaled_mean(mean, bounds), against)


def log_evidence_at_looks(
    outcomes: NDArray[np.float64],
    looks: Sequence[int],
    mean: float,
    against: Against,
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> NDArray[np.float64]:
    """`log_evidence` as it was at each look: [..., number of looks], for many runs at once where there are more axes.

    Args:
        outcomes: In the order in which they came, [..., n].
        looks: How many outcomes there were at each look, growing, each from 1 to n.
        mean: As of `log_evidence`.
        against: The claim.
        bounds: As of `log_evidence`.

    Raises:
        ValueError: An outcome, or the mean, is outside the bounds; or looks do not grow.

    >>> [round(float(one), 3) for one in log_evidence_at_looks(np.array([1.0, 0.0, 1.0]), [1, 3], 0.0, Against.AT_MOST)]
    [0.405, 0.865]
    """
    ends = np.asarray(looks, dtype=np.int64)
    if ends.size == 0 or ends[0] < 1 or ends[-1] > outcomes.shape[-1] or np.any(np.diff(ends) < 1):
        raise ValueError(f"looks have to grow from 1 to {outcomes.shape[-1]} at most")
    scaled, at = _scaled(outcomes, bounds)[..., : ends[-1]], _scaled_mean(mean, bounds)
    starts = np.concatenate(([0], ends[:-1]))
    sides = [_at_looks(gains, starts) for gains in _gains(scaled, at, against)]
    return sides[0] if len(sides) == 1 else np.logaddexp(*sides) - math.log(2)


def confidence_sequence(
    outcomes: Sequence[float] | NDArray[np.float64],
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
    level: float = 0.95,
) -> Interval:
    """The interval of the mean at this look: with probability `level`, no look at all ever sees one that the mean is outside of.

    It holds the mean of the outcomes; with none yet, it is everything that is possible. Limits are exact to 1e-9 of the distance
    between the bounds.

    Args:
        outcomes: Such as paired differences of scores, or 1, 1/2 and 0 for wins, ties and losses, [n].
        bounds: What they can be at least and at most.
        level: Of all looks together.

    Raises:
        ValueError: An outcome is outside the bounds, or the level is none.

    >>> print(confidence_sequence([1.0] * 40 + [0.0] * 10, bounds=(0, 1)))
    0.800 (0.586 to 0.941)
    """
    if not 0 < level < 1:
        raise ValueError(f"a level of {level}")
    low, high = bounds
    scaled = _scaled(outcomes, bounds)
    if scaled.size == 0:
        return Interval(estimate=(low + high) / 2, low=low, high=high, level=level, method=_METHOD)
    estimate = float(scaled.mean())
    values, counts = np.unique(scaled, return_counts=True)
    bar = -math.log1p(-level)

    def excess(mean: float) -> float:
        return _log_capital(values, counts, mean, Against.EQUAL) - bar

    # Each side's capital is convex in the mean and at most 1 at the estimate, so what is not excluded is one interval around it.
    lowest, highest = (_limit(excess, estimate, end, scaled.size) for end in (0.0, 1.0))
    return Interval(
        estimate=low + (high - low) * estimate,
        low=low + (high - low) * lowest,
        high=low + (high - low) * highest,
        level=level,
        method=_METHOD,
    )


_METHOD = "betting, holds at every look"


def _limit(excess: Callable[[float], float], inside: float, end: float, num_outcomes: int) -> float:
    """Where the excess becomes positive between a mean that is not excluded and an end; the end, where it does not."""
    distance = abs(end - inside)
    sign = math.copysign(1.0, end - inside)
    if distance <= _PRECISION or excess(end - sign * _PRECISION) <= 0:
        return end
    step = min(0.1 / num_outcomes, distance / 2)
    while excess(inside + sign * step) > 0:
        step /= 2
    within = step
    while step < distance - _PRECISION and excess(inside + sign * step) <= 0:
        within, step = step, 2 * step
    outside = min(step, distance - _PRECISION)
    root = optimize.brentq(lambda away: excess(inside + sign * away), within, outside, xtol=_PRECISION)
    return inside + sign * cast("float", root)


def _scaled(outcomes: Sequence[float] | NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.float64]:
    low, high = bounds
    values = np.asarray(outcomes, dtype=np.float64)
    if not low < high or not np.all((values >= low) & (values <= high)):
        raise ValueError(f"outcomes have to lie between {low} and {high}")
    return (values - low) / (high - low)


def _scaled_mean(mean: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    if not low < mean < high:
        raise ValueError(f"a mean of {mean} is not between {low} and {high}")
    return (mean - low) / (high - low)


def _gains(scaled: NDArray[np.float64], mean: float, against: Against) -> list[NDArray[np.float64]]:
    """What one unit of a stake wins, net, with each outcome: on greater ones, on smaller ones, or both."""
    greater, smaller = scaled / mean - 1, (1 - scaled) / (1 - mean) - 1
    return {Against.AT_MOST: [greater], Against.AT_LEAST: [smaller], Against.EQUAL: [greater, smaller]}[against]


def _log_capital(values: NDArray[np.float64], counts: NDArray[np.int64], mean: float, against: Against) -> float:
    """For outcomes in [0, 1], each value with how often it came."""
    sides = [_log_mixture(gains, counts) for gains in _gains(values, mean, against)]
    return sides[0] if len(sides) == 1 else float(np.logaddexp.reduce(sides)) - math.log(2)


def _log_mixture(gains_V: NDArray[np.float64], counts_V: NDArray[np.int64]) -> float:
    """Of the capital of all bets together."""
    logs_J = np.zeros(_NUM_BETS)
    for start in range(0, gains_V.size, _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        logs_J += np.log1p(np.multiply.outer(_SHARES_J, gains_V[some])) @ counts_V[some]
    return float(np.logaddexp.reduce(logs_J)) - math.log(_NUM_BETS)


def _at_looks(gains: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.full((*gains.shape[:-1], starts.size), -np.inf)
    for share in _SHARES_J:
        of_looks = np.add.reduceat(np.log1p(share * gains), starts, axis=-1)
        np.logaddexp(total, of_looks.cumsum(axis=-1), out=total)
    return total - math.log(_NUM_BETS)
