"""What more training examples would probably bring, from the scores of models trained on parts of those at hand.

Three or four points do not tell a curve: what they leave open (its floor, the luck of each training) is drawn at random, so that
the interval holds it.

Letters: n test examples, G clusters of them, K training sizes, R resamples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fettle.records import Interval
from fettle.statistics.clusters import cluster_totals
from fettle.statistics.intervals import TIE, difference_interval, mean_interval
from fettle.tuning_records import CurveOutcome, CurvePoint, LearningCurve

MIN_SIZES = 3
MIN_CLUSTERS = 30
"""Independent test examples; with fewer the resamples say too little of what other ones would show."""
MIN_SPAN = 2.0
"""Smallest ratio of the largest training size to the smallest."""
ASSUMED_RUN_SD = 0.01
"""Standard deviation of a mean score over repeated trainings on other samples of the same size, where nothing better is known."""
LARGEST_EXPONENT = 2.0
"""At 1 twice the examples halve the error. Errors of neural networks were found to fall by 0.07 to 0.35 (Hestness et al. 2017)."""
LARGEST_FLOOR = 0.98
"""Of the smallest error seen: the part of it that no number of examples would remove."""
NUM_RESAMPLES = 2000


def learning_curve(
    scores_by_size: Sequence[tuple[int, Sequence[float | None]]],
    clusters: Sequence[int],
    *,
    seed: int,
    worthwhile: float = 0.01,
    run_sd: float = ASSUMED_RUN_SD,
    level: float = 0.95,
) -> LearningCurve:
    """Fits error = floor + a x size^-exponent and says what twice the largest size would bring.

    The test rows are resampled by whole clusters, the same for all sizes. In each resample every mean gets the luck of another
    training (normal, `run_sd`, or more where the scores scatter more about any curve), and two curves are fitted by least squares
    of logarithms, the exponent kept within [0, 2]: one without a floor, and one whose floor is drawn evenly between 0 and
    98 % of the smallest error, for three points cannot tell how high it is. The estimate is the median of all; limits are the
    outer ones of the two kinds' percentiles.

    More helps: the lower limit is above 0. Little: the upper limit is below `worthwhile`. Else it cannot be said; nor with fewer
    than three sizes or 30 independent test examples, where a size gets all right or all wrong, or where a model trained on more is
    surely worse than one trained on less. Found to hold the true gain in 95 to 100 % of simulated curves with exponents of 0.05 to
    1.5 and floors of up to 88 % of the error, and of those with three times the luck that was assumed; a flat one is said to rise
    in at most 2.5 % (4 % with three times the luck).

    Args:
        scores_by_size: Number of training examples, and the score in [0, 1] of that model on each test example (None: could not be
            scored), [K] of [n].
        clusters: The cluster id of each test example, [n].
        seed: Of everything drawn.
        worthwhile: Smallest gain in mean score that is worth the labelling.
        run_sd: Standard deviation of a mean score over repeated trainings.
        level: The confidence level.

    Raises:
        ValueError: Lengths differ, a size is not positive or given twice, a score lies outside [0, 1], or no row is scored by all.

    Source: Hestness et al., Deep Learning Scaling is Predictable, Empirically, arXiv:1712.00409 (2017), for the form.

    >>> right = [(100, [1.0] * 50 + [0.0] * 50), (200, [1.0] * 65 + [0.0] * 35), (400, [1.0] * 75 + [0.0] * 25)]
    >>> learning_curve([(size, scores * 5) for size, scores in right], range(500), seed=1).sentence
    'Twice the examples would probably bring +6.8 points (1.2 to 8.0).'
    """
    rows = _scored_rows(scores_by_size, clusters)
    points = tuple(
        CurvePoint(num_examples=int(size), score=mean_interval(scores_n.tolist(), rows.clusters, level=level))
        for size, scores_n in zip(rows.sizes_K, rows.scores_Kn, strict=True)
    )
    gain = exponent = None
    outcome, reason = CurveOutcome.CANNOT_SAY, _why_no_curve(rows, run_sd=run_sd)
    if not reason:
        gains_2R, exponents_2R = _resampled(rows, seed=seed, run_sd=run_sd)
        gain, exponent = (_outer_percentiles(values, level=level) for values in (gains_2R, exponents_2R))
        outcome = _outcome(gain, worthwhile)
        if outcome is CurveOutcome.CANNOT_SAY:
            reason = f"anything from nothing to {100 * gain.high:.1f} points agrees with these scores"
    return LearningCurve(
        points=points,
        outcome=outcome,
        gain=gain,
        exponent=exponent,
        reason=reason,
        num_unscored=len(clusters) - len(rows.clusters),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoredRows:
    """The test rows that every model's answer to was scored."""

    sizes_K: NDArray[np.float64]
    scores_Kn: NDArray[np.float64]
    clusters: tuple[int, ...]  # [n]


def _scored_rows(scores_by_size: Sequence[tuple[int, Sequence[float | None]]], clusters: Sequence[int]) -> _ScoredRows:
    ordered = sorted(scores_by_size, key=lambda pair: pair[0])
    sizes_K = np.array([size for size, _ in ordered], dtype=np.float64)
    if any(len(scores) != len(clusters) for _, scores in ordered):
        raise ValueError("the scores and the cluster ids are not about the same examples")
    if len(set(sizes_K.tolist())) < len(sizes_K) or (sizes_K <= 0).any():
        raise ValueError("training sizes must be positive, and each given once")
    scored = [row for row in range(len(clusters)) if all(scores[row] is not None for _, scores in ordered)]
    if not ordered or not scored:
        raise ValueError("no test example was scored for every size")
    return _ScoredRows(
        sizes_K=sizes_K,
        scores_Kn=np.array([[scores[row] for row in scored] for _, scores in ordered], dtype=np.float64),
        clusters=tuple(clusters[row] for row in scored),
    )


def _outcome(gain: Interval, worthwhile: float) -> CurveOutcome:
    if gain.high < worthwhile:
        return CurveOutcome.MORE_BRINGS_LITTLE
    return CurveOutcome.MORE_HELPS if gain.low > TIE else CurveOutcome.CANNOT_SAY


def _why_no_curve(rows: _ScoredRows, *, run_sd: float) -> str:
    """What speaks against a curve at all; empty where nothing does."""
    sizes_K = rows.sizes_K
    if len(sizes_K) < MIN_SIZES:
        return f"it takes {MIN_SIZES} training sizes, and there are {len(sizes_K)}"
    if sizes_K[-1] < MIN_SPAN * sizes_K[0]:
        return f"the largest training size is less than {MIN_SPAN:g} times the smallest"
    if (num_clusters := len(set(rows.clusters))) < MIN_CLUSTERS:
        return f"{num_clusters} independent test examples are too few for it; it takes {MIN_CLUSTERS}"
    for size, scores_n in zip(sizes_K, rows.scores_Kn, strict=True):
        if np.ptp(scores_n) <= TIE:
            return f"with {size:,.0f} training examples all test answers have one score"
    pairs = list(itertools.combinations(range(len(sizes_K)), 2))
    for less, more in pairs:
        fall_n = rows.scores_Kn[less] - rows.scores_Kn[more]
        fall = difference_interval(fall_n, rows.clusters, level=1 - 0.05 / len(pairs))
        if fall.low > 2 * math.sqrt(2) * run_sd:  # two errors of the difference of two trainings' luck
            return f"the model of {sizes_K[more]:,.0f} examples is surely worse than that of {sizes_K[less]:,.0f}"
    return ""


def _resampled(rows: _ScoredRows, *, seed: int, run_sd: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gain from twice the largest size, and exponent, in each resample without and with a floor, [2, R] both."""
    generator = np.random.default_rng(seed)
    of_clusters = [cluster_totals(1 - scores_n, rows.clusters) for scores_n in rows.scores_Kn]
    totals_GK = np.stack([sums.totals for sums in of_clusters], axis=1)
    sizes_G = of_clusters[0].sizes
    num_clusters, num_rows = len(sizes_G), sizes_G.sum()
    counts_RG = generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=NUM_RESAMPLES)
    resampled_RK = (counts_RG @ totals_GK) / (counts_RG @ sizes_G)[:, None]
    mean_K = totals_GK.sum(axis=0) / num_rows
    luck_RK = generator.normal(0, max(run_sd, _unexplained(mean_K, rows.sizes_K)), resampled_RK.shape)
    wider = math.sqrt(num_clusters / (num_clusters - 1))
    errors_RK = np.clip(mean_K + wider * (resampled_RK - mean_K) + luck_RK, 0.5 / num_rows, 1.0)
    drawn_R = generator.uniform(0, LARGEST_FLOOR, NUM_RESAMPLES) * errors_RK.min(axis=1)
    reducible_2RK, exponents_2R = _fit(
        errors_RK - np.stack([np.zeros(NUM_RESAMPLES), drawn_R])[..., None], rows.sizes_K
    )
    return reducible_2RK[..., -1] * (1 - 2.0**-exponents_2R), exponents_2R


def _fit(
    reducible: NDArray[np.float64], sizes_K: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The power law of errors above a floor, [..., K], all above 0: its values at the sizes, and its exponent, [...]."""
    log_sizes_K, logs = np.log(sizes_K), np.log(reducible)
    centred_K = log_sizes_K - log_sizes_K.mean()
    exponents = np.clip(-(logs @ centred_K) / (centred_K**2).sum(), 0.0, LARGEST_EXPONENT)
    return np.exp(logs.mean(axis=-1, keepdims=True) - exponents[..., None] * centred_K), exponents


def _unexplained(errors_K: NDArray[np.float64], sizes_K: NDArray[np.float64]) -> float:
    """The residual standard deviation of the curve that fits best whatever its floor: a sign of more luck than was assumed."""
    above_K = np.maximum(errors_K, TIE)
    floors_F = np.linspace(0, LARGEST_FLOOR, 19)[:, None] * above_K.min()
    fitted_FK, _ = _fit(above_K - floors_F, sizes_K)
    return float(np.sqrt(((fitted_FK + floors_F - above_K) ** 2).sum(axis=-1) / (len(sizes_K) - 2)).min())


def _outer_percentiles(values_2R: NDArray[np.float64], *, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    lows, highs = np.quantile(values_2R, [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return Interval(
        estimate=float(np.median(values_2R)),
        low=float(lows.min()),
        high=float(highs.max()),
        level=level,
        method=f"power law without and with a floor, {NUM_RESAMPLES:,} resamples of test clusters and of the luck of training",
    )
