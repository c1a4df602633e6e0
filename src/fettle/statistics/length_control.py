"""A win rate as it would be if both answers were equally long: judges tend to prefer the longer one, whatever it says.

Letters: n pairs of answers, G clusters of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fettle.records import Interval
from fettle.statistics.clusters import size_weighted_mean_size
from fettle.statistics.intervals import TIE, difference_interval, student_quantile
from fettle.statistics.win_rate import as_win_rate

RIDGE = 0.01
"""Penalty on the squared coefficients, in votes: keeps them finite where length or contender decides every vote, and moves others
by hundredths of a point."""
MIN_SHARE_NEAR_EQUAL = 0.05
"""With fewer pairs at equal length or on its other side, what would happen there was not seen."""
NEAR_EQUAL = 0.25
"""Standard deviations of the length difference within which two answers are about equally long."""
IMAGINARY_VOTES = 0.5
"""Imaginary wins, and losses, at equal length, in clusters of mean size. One of each made intervals cover 97 to 100 %."""
_METHOD = "logistic regression with a length term, cluster jackknife with half an imaginary win and loss"
_MAX_REFITTED, _MOVED_LITTLE = 64, 0.05
_MAX_STEP, _MAX_STEPS, _CONVERGED = 1.0, 100, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControlled:
    """A win rate with ties as half, as it is and at equal length."""

    raw: Interval
    controlled: Interval | None
    """None: one contender's answers are longer in nearly all pairs, so that nothing is known of equal lengths."""
    longer_wins: Interval | None
    """How often, of two contenders that are equal otherwise, the one wins whose answer is one standard deviation of the length
    difference longer; above one half where the judge prefers the longer answer. None: lengths never differ, or `controlled` is
    None."""
    mean_length_difference: float
    """Challenger minus baseline, in the unit of the lengths."""
    share_longer: float
    """Share of pairs in which the challenger's answer is longer."""


def length_controlled_win_rate(
    preferences: Sequence[float],
    lengths: Sequence[tuple[float, float]],
    clusters: Sequence[int],
    *,
    level: float = 0.95,
) -> LengthControlled:
    """The raw win rate of the challenger, and the one at equal length.

    The preference is fitted by logistic regression on an intercept for this pair of contenders and on tanh of the length
    difference over its standard deviation; the win rate at equal length is the intercept's. A tie is half a win and half a loss.

    The intervals are symmetric in log odds: a jackknife over whole clusters, with half an imaginary win and half an imaginary loss
    added at equal length, and Student's t at twice the effective number of clusters. Found to cover 94 to 98 % of win rates of 50
    to 95 % (92 % of length effects, where 30 pairs hold one or two losses). A cluster bootstrap was tried: 70 to 91 % of win rates
    of 95 %.

    Args:
        preferences: 1 where the challenger was preferred, 0 where the baseline was, 0.5 for ties; means of several votes lie
            between, [n].
        lengths: Of the challenger's answer and of the baseline's, in one unit (tokens, characters), [n].
        clusters: The cluster id of each pair, [n].
        level: The confidence level.

    Raises:
        ValueError: Lengths differ in number, there is no pair, a preference lies outside [0, 1] or a length is not finite.

    Source: Dubois, Galambosi, Liang and Hashimoto, Length-Controlled AlpacaEval, arXiv:2404.04475 (2024), section 3. Their term for
    the difficulty of each instruction needs many contenders on the same instructions and is left out; intervals are ours.

    >>> votes, lengths = [1.0, 1.0, 0.0, 0.5, 1.0, 0.0] * 20, [(90, 50), (80, 60), (50, 60), (70, 40), (60, 70), (60, 50)] * 20
    >>> result = length_controlled_win_rate(votes, lengths, range(120))
    >>> print(result.raw, result.controlled, sep="; ")
    0.583 (0.501 to 0.663); 0.514 (0.405 to 0.621)
    """
    if not len(preferences) == len(lengths) == len(clusters):
        raise ValueError(f"{len(preferences)} preferences, {len(lengths)} lengths, {len(clusters)} cluster ids")
    votes_n = np.asarray(preferences, dtype=np.float64)
    if not ((votes_n >= 0) & (votes_n <= 1)).all():
        raise ValueError("a preference lies outside [0, 1]")
    of_signs = difference_interval(2 * votes_n - 1, clusters, level=level)
    apart_n = np.array([ours - theirs for ours, theirs in lengths], dtype=np.float64)
    if not np.isfinite(apart_n).all():
        raise ValueError("a length is not finite")
    raw = as_win_rate(of_signs)
    controlled, longer_wins = _controlled(votes_n, apart_n, clusters, raw)
    return LengthControlled(
        raw=raw,
        controlled=controlled,
        longer_wins=longer_wins,
        mean_length_difference=float(apart_n.mean()),
        share_longer=float((apart_n > 0).mean()),
    )


def _controlled(
    votes_n: NDArray[np.float64], apart_n: NDArray[np.float64], clusters: Sequence[int], raw: Interval
) -> tuple[Interval | None, Interval | None]:
    """The win rate at equal length, and that of the longer of equal contenders."""
    if np.abs(apart_n).max() < TIE:
        return raw, None
    spread = float(apart_n.std())
    if not _has_seen_equal_length(apart_n, spread):
        return None, None
    terms_n = np.tanh(apart_n / spread)
    plain = _fit(votes_n, terms_n, np.ones(len(votes_n)), start=np.zeros(2))
    cluster_of_n = np.unique(np.asarray(clusters), return_inverse=True)[1]
    around = _jackknife(votes_n, terms_n, cluster_of_n)
    sizes = np.bincount(cluster_of_n).astype(np.float64)
    quantile = student_quantile(raw.level, 2 * float(sizes.sum()) / size_weighted_mean_size(sizes))
    at_equal_length, of_longer = np.array([1.0, 0.0]), np.array([0.0, math.tanh(1.0)])

    def interval(direction: NDArray[np.float64]) -> Interval:
        estimate, centre = float(direction @ plain), float(direction @ around.centre)
        half_width = quantile * math.sqrt(float(direction @ around.covariance @ direction))
        low, high = min(centre - half_width, estimate), max(centre + half_width, estimate)
        if len(sizes) == 1:
            low, high = -math.inf, math.inf
        estimate, low, high = (float(special.expit(value)) for value in (estimate, low, high))
        return Interval(estimate=estimate, low=low, high=high, level=raw.level, method=_METHOD)

    return interval(at_equal_length), interval(of_longer)


def _has_seen_equal_length(apart_n: NDArray[np.float64], spread: float) -> bool:
    """Enough pairs are about equally long, or differ the other way than most."""
    direction = 1.0 if apart_n.mean() > 0 else -1.0
    num_near = int((direction * apart_n <= NEAR_EQUAL * spread).sum())
    return num_near >= max(2, MIN_SHARE_NEAR_EQUAL * len(apart_n))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """Intercept and slope with the imaginary votes, and how they vary."""

    centre: NDArray[np.float64]  # [2]
    covariance: NDArray[np.float64]  # [2, 2]


def _jackknife(votes_n: NDArray[np.float64], terms_n: NDArray[np.float64], cluster_of_n: NDArray[np.intp]) -> _Around:
    """Leaves out one cluster at a time; the imaginary win and the imaginary loss are two clusters more.

    One step of Newton's from the fit to all is enough for clusters that move it little; the others are fitted without.
    """
    num_clusters = int(cluster_of_n.max()) + 1
    imaginary = IMAGINARY_VOTES * len(votes_n) / num_clusters
    votes, terms = np.append(votes_n, [1.0, 0.0]), np.append(terms_n, [0.0, 0.0])
    weights = np.append(np.ones(len(votes_n)), [imaginary, imaginary])
    cluster_of = np.append(cluster_of_n, [num_clusters, num_clusters + 1])
    centre = _fit(votes, terms, weights, start=np.zeros(2))
    gradients, hessians = _derivatives(centre, votes, terms, weights)
    num_left_out = num_clusters + 2
    of_cluster, curvature_of_cluster = np.zeros((num_left_out, 2)), np.zeros((num_left_out, 2, 2))
    np.add.at(of_cluster, cluster_of, gradients)
    np.add.at(curvature_of_cluster, cluster_of, hessians)
    curvature_without = hessians.sum(axis=0) + RIDGE * np.eye(2) - curvature_of_cluster
    deviations = -np.linalg.solve(curvature_without, of_cluster[..., None])[..., 0]
    moved = np.abs(deviations).max(axis=1)
    for cluster in np.argsort(-moved)[: min(_MAX_REFITTED, int((moved > _MOVED_LITTLE).sum()))]:
        deviations[cluster] = _fit(votes, terms, weights * (cluster_of != cluster), start=centre) - centre
    return _Around(centre=centre, covariance=(num_left_out - 1) / num_left_out * deviations.T @ deviations)


def _fit(
    votes_n: NDArray[np.float64],
    terms_n: NDArray[np.float64],
    weights_n: NDArray[np.float64],
    *,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intercept and slope of largest ridged likelihood, [2], by Newton's method."""
    coefficients = start
    for _ in range(_MAX_STEPS):
        gradients, hessians = _derivatives(coefficients, votes_n, terms_n, weights_n)
        gradient = gradients.sum(axis=0) - RIDGE * coefficients
        step = np.linalg.solve(hessians.sum(axis=0) + RIDGE * np.eye(2), gradient)
        coefficients = coefficients + np.clip(step, -_MAX_STEP, _MAX_STEP)
        if np.abs(step).max() < _CONVERGED:
            break
    return coefficients


def _derivatives(
    coefficients: NDArray[np.float64],
    votes_n: NDArray[np.float64],
    terms_n: NDArray[np.float64],
    weights_n: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each vote's log likelihood: the gradient, [n, 2], and the second derivative with its sign changed, [n, 2, 2]."""
    design_n2 = np.stack([np.ones_like(terms_n), terms_n], axis=1)
    probability_n = special.expit(design_n2 @ coefficients)
    gradients = (weights_n * (votes_n - probability_n))[:, None] * design_n2
    curvature_n = weights_n * probability_n * (1 - probability_n)
    return gradients, curvature_n[:, None, None] * design_n2[:, :, None] * design_n2[:, None, :]
