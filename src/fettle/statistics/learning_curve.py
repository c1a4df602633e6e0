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
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fettle.records import Interval
from fettle.statistics.clusters import cluster_totals
from fettle.statistics.intervals import TIE, difference_interval, mean_interval

MIN_SIZES = 3
MIN_SPAN = 2.0
"""Smallest ratio of the largest training size to the smallest."""
ASSUMED_RUN_SD = 0.01
"""Standard deviation of a mean score over repeated trainings on other samples of the same size, where nothing better is known."""
LARGEST_EXPONENT = 1.0
"""At 1 twice the examples halve the error. Errors of neural networks were found to fall by 0.07 to 0.35 (Hestness et al. 2017)."""
LARGEST_FLOOR = 0.9
"""Of the smallest error seen: the part of it that no number of examples would remove."""
NUM_RESAMPLES = 2000


class CurveOutcome(StrEnum):
    """What a learning curve says about twice the examples."""

    MORE_HELPS = "more examples would help"
    MORE_BRINGS_LITTLE = "more examples would bring little"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The model trained on so many examples, and its mean score on the test rows."""

    num_examples: int
    score: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """Scores by training size, and what twice the largest size would add."""

    points: tuple[CurvePoint, ...]
    outcome: CurveOutcome
    gain: Interval | None
    """Of the mean score, from twice the examples; None where the scores follow no such curve: `reason` says why."""
    exponent: Interval | None
    reason: str
    """Why it cannot be said, for the reader; empty where it can."""
    num_unscored: int
    """Test examples left out because not every model's answer could be scored."""

    @property
    def sentence(self) -> str:
        """The result in one sentence, in percentage points."""
        if self.gain is None or self.outcome is CurveOutcome.CANNOT_SAY:
            return f"What twice the examples would bring cannot be said: {self.reason}."
        low, high = (f"{100 * value:.1f}" for value in (self.gain.low, self.gain.high))
        if self.outcome is CurveOutcome.MORE_BRINGS_LITTLE:
            return f"Twice the examples would bring at most {high} points."
        return f"Twice the examples would probably bring {100 * self.gain.estimate:+.1f} points ({low} to {high})."


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
    training (normal, `run_sd`), and two curves are fitted by least squares of logarithms, the exponent kept within [0, 1]: one
    without a floor, and one whose floor is drawn evenly between 0 and nine tenths of the smallest error, for three points cannot
    tell how high it is. The estimate is the median of all; limits are the outer ones of the two kinds' percentiles.
    More helps: the lower limit is above 0. Little: the upper limit is below `worthwhile`. Else it cannot be said; nor with fewer
    than three sizes, or where a model trained on more is surely worse than one trained on less. Found to hold the true gain in 95
    to 100 % of simulated curves with exponents of 0.05 to 1 and floors of up to 85 % of the error; a flat one is said to gain in at
    most 2.5 %.

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
    'Twice the examples would probably bring +6.8 points (2.6 to 8.0).'
    """
    ordered = sorted(scores_by_size, key=lambda pair: pair[0])
    sizes_K = np.array([size for size, _ in ordered], dtype=np.float64)
    if any(len(scores) != len(clusters) for _, scores in ordered):
        raise ValueError("the scores and the cluster ids are not about the same examples")
    if len(set(sizes_K.tolist())) < len(sizes_K) or (sizes_K <= 0).any():
        raise ValueError("training sizes must be positive, and each given once")
    scored = [row for row in range(len(clusters)) if all(scores[row] is not None for _, scores in ordered)]
    if not ordered or not scored:
        raise ValueError("no test example was scored for every size")
    kept = [clusters[row] for row in scored]
    scores_Kn = np.array([[scores[row] for row in scored] for _, scores in ordered], dtype=np.float64)
    points = tuple(
        CurvePoint(num_examples=int(size), score=mean_interval(scores_n.tolist(), kept, level=level))
        for size, scores_n in zip(sizes_K, scores_Kn, strict=True)
    )
    num_unscored = len(clusters) - len(scored)
    reason = _why_no_curve(sizes_K, scores_Kn, kept, run_sd=run_sd)
    if reason:
        return LearningCurve(
            points=points,
            outcome=CurveOutcome.CANNOT_SAY,
            gain=None,
            exponent=None,
            reason=reason,
            num_unscored=num_unscored,
        )
    gains_2R, exponents_2R = _fits(sizes_K, scores_Kn, kept, seed=seed, run_sd=run_sd)
    gain, exponent = (_outer_percentiles(values, level=level) for values in (gains_2R, exponents_2R))
    outcome = _outcome(gain, worthwhile)
    return LearningCurve(
        points=points,
        outcome=outcome,
        gain=gain,
        exponent=exponent,
        reason=_open_between(gain) if outcome is CurveOutcome.CANNOT_SAY else "",
        num_unscored=num_unscored,
    )


def _outcome(gain: Interval, worthwhile: float) -> CurveOutcome:
    if gain.high < worthwhile:
        return CurveOutcome.MORE_BRINGS_LITTLE
    return CurveOutcome.MORE_HELPS if gain.low > TIE else CurveOutcome.CANNOT_SAY


def _open_between(gain: Interval) -> str:
    return f"anything from nothing to {100 * gain.high:.1f} points agrees with these scores"


def _why_no_curve(
    sizes_K: NDArray[np.float64], scores_Kn: NDArray[np.float64], clusters: Sequence[int], *, run_sd: float
) -> str:
    """What speaks against a curve at all; empty where nothing does."""
    if len(sizes_K) < MIN_SIZES:
        return f"it takes {MIN_SIZES} training sizes, and there are {len(sizes_K)}"
    if sizes_K[-1] < MIN_SPAN * sizes_K[0]:
        return f"the largest training size is less than {MIN_SPAN:g} times the smallest"
    if len(set(clusters)) == 1:
        return "all test examples belong to one group"
    pairs = list(itertools.combinations(range(len(sizes_K)), 2))
    for less, more in pairs:
        fall = difference_interval(scores_Kn[less] - scores_Kn[more], clusters, level=1 - 0.05 / len(pairs))
        if fall.low > 2 * math.sqrt(2) * run_sd:  # two errors of the difference of two trainings' luck
            return f"the model of {sizes_K[more]:,.0f} examples is surely worse than that of {sizes_K[less]:,.0f}"
    return ""


def _fits(
    sizes_K: NDArray[np.float64], scores_Kn: NDArray[np.float64], clusters: Sequence[int], *, seed: int, run_sd: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gain from twice the largest size, and exponent, in each resample without and with a floor, [2, R] both."""
    generator = np.random.default_rng(seed)
    of_clusters = [cluster_totals(1 - scores_n, clusters) for scores_n in scores_Kn]
    totals_GK = np.stack([sums.totals for sums in of_clusters], axis=1)
    sizes_G = of_clusters[0].sizes
    num_clusters = len(sizes_G)
    counts_RG = generator.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=NUM_RESAMPLES)
    errors_RK = (counts_RG @ totals_GK) / (counts_RG @ sizes_G)[:, None]
    wider = math.sqrt(num_clusters / (num_clusters - 1))
    mean_K = totals_GK.sum(axis=0) / sizes_G.sum()
    errors_RK = mean_K + wider * (errors_RK - mean_K) + generator.normal(0, run_sd, errors_RK.shape)
    errors_RK = np.clip(errors_RK, 0.5 / sizes_G.sum(), 1.0)
    drawn_R = generator.uniform(0, LARGEST_FLOOR, NUM_RESAMPLES) * errors_RK.min(axis=1)
    floors_2R = np.stack([np.zeros(NUM_RESAMPLES), drawn_R])
    logs_2RK, log_sizes_K = np.log(errors_RK - floors_2R[..., None]), np.log(sizes_K)
    centred_K = log_sizes_K - log_sizes_K.mean()
    exponents_2R = np.clip(-(logs_2RK @ centred_K) / (centred_K**2).sum(), 0.0, LARGEST_EXPONENT)
    reducible_2R = np.exp(logs_2RK.mean(axis=-1) - exponents_2R * centred_K[-1])
    return reducible_2R * (1 - 2.0**-exponents_2R), exponents_2R


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
