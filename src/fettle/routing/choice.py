"""Which measure of confidence is used: the one whose curve of quality over cost lies highest, on the validation split.

The curve says what quality is reached for each share of requests that is sent to the large model, the least trusted ones first; its
area is the mean quality over all shares, so that no threshold has to be chosen to compare two measures.

Letters: N examples, M measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fettle.records import Interval
from fettle.routing.confidence import Measure
from fettle.routing_records import TriedMeasure
from fettle.statistics.intervals import statistic_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Examples that both models have answered, with both scores."""

    small: NDArray[np.float64]  # [N], in [0, 1]
    large: NDArray[np.float64]  # [N], likewise
    clusters: tuple[int, ...]  # [N], near-duplicates have one id

    @property
    def number(self) -> int:
        """The number of examples, N."""
        return len(self.small)


def curve_area(confidence: NDArray[np.float64], small: NDArray[np.float64], large: NDArray[np.float64]) -> float:
    """Mean quality over all shares sent to the large model, in [0, 1]; examples of one confidence are sent in random order.

    An example whose confidence is the r-th greatest of N is answered by the small model at 1 - (r - 1/2) / N of the shares.

    Args:
        confidence: Of the small model's answers, [N].
        small: Its scores, [N].
        large: The large model's, [N].

    >>> curve_area(np.array([2.0, 1.0]), np.array([1.0, 0.0]), np.array([1.0, 1.0]))
    0.875
    """
    ranks = stats.rankdata(-confidence)
    shares = 1 - (ranks - 0.5) / len(confidence)
    return float(np.mean(large + shares * (small - large)))


def choose_measure(
    confidences: Mapping[Measure, NDArray[np.float64]], pairs: Pairs, *, seed: int
) -> tuple[Measure, tuple[TriedMeasure, ...]]:
    """The measure to use, and how all of them did, the greatest area first.

    A measure that is dearer to serve takes the place of a cheaper one only where its area is surely greater: the interval of the
    paired difference, over resamples of whole clusters, excludes zero.

    Args:
        confidences: [N] by measure, in any order; at least one.
        pairs: Both models' scores.
        seed: Of the resampling.
    """
    measures = [measure for measure in Measure if measure in confidences]
    chosen = measures[0]
    for measure in measures[1:]:
        if _area_above(confidences[measure], confidences[chosen], pairs, seed=seed).low > 0:
            chosen = measure
    tried = [
        TriedMeasure(
            measure=measure.value,
            area=curve_area(confidences[measure], pairs.small, pairs.large),
            below_chosen=None
            if measure is chosen
            else _area_above(confidences[chosen], confidences[measure], pairs, seed=seed),
        )
        for measure in measures
    ]
    return chosen, tuple(sorted(tried, key=lambda one: -one.area))


def _area_above(one: NDArray[np.float64], other: NDArray[np.float64], pairs: Pairs, *, seed: int) -> Interval:
    """The area of one measure minus that of another; ranks are those of each resample."""

    def moved(places: NDArray[np.intp]) -> float:
        small, large = pairs.small[places], pairs.large[places]
        difference = curve_area(one[places], small, large) - curve_area(other[places], small, large)
        return (difference + 1) / 2  # a difference lies in [-1, 1], and the interval's statistic in [0, 1]

    found = statistic_interval(moved, pairs.number, pairs.clusters, seed=seed)
    return Interval(
        estimate=2 * found.estimate - 1,
        low=2 * found.low - 1,
        high=2 * found.high - 1,
        level=found.level,
        method=found.method,
    )
