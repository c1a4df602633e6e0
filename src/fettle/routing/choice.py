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
from fettle.statistics.intervals import difference_interval


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
    confidences: Mapping[Measure, NDArray[np.float64]], pairs: Pairs
) -> tuple[Measure, tuple[TriedMeasure, ...]]:
    """The measure to use, and how all of them did, the greatest area first.

    A measure that is dearer to serve takes the place of a cheaper one only where its area is surely greater: the interval of the
    paired difference excludes zero.

    Args:
        confidences: [N] by measure, in any order; at least one.
        pairs: Both models' scores.
    """
    measures = [measure for measure in Measure if measure in confidences]
    chosen = measures[0]
    for measure in measures[1:]:
        if area_difference(confidences[measure], confidences[chosen], pairs).low > 0:
            chosen = measure
    tried = [
        TriedMeasure(
            measure=measure.value,
            area=curve_area(confidences[measure], pairs.small, pairs.large),
            below_chosen=None
            if measure is chosen
            else area_difference(confidences[chosen], confidences[measure], pairs),
        )
        for measure in measures
    ]
    return chosen, tuple(sorted(tried, key=lambda one: -one.area))


def area_difference(one: NDArray[np.float64], other: NDArray[np.float64], pairs: Pairs) -> Interval:
    """The area of one measure minus that of another on the same examples, with its cluster-robust interval.

    An example changes the area by its own place in the order and by those of the examples that it stands before or behind. Both
    together are its influence, whose mean over the examples is twice the difference; the interval is that of this mean.

    Args:
        one: Confidences by the one measure, [N].
        other: By the other, [N].
        pairs: Both models' scores.

    Source: Hájek's projection of a statistic of pairs, as DeLong, DeLong and Clarke-Pearson 1988 for areas under ROC curves.
    """
    gains_N = pairs.small - pairs.large
    influence_N = _influence(one, gains_N) - _influence(other, gains_N)
    difference = float(influence_N.mean()) / 2
    halved = difference_interval(influence_N / 2, pairs.clusters)
    return Interval(
        estimate=difference,
        low=max(-1.0, 2 * halved.low - difference),
        high=min(1.0, 2 * halved.high - difference),
        level=halved.level,
        method="cluster-robust, of the influence of each example",
    )


def _influence(confidence: NDArray[np.float64], gains_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each example, the gain at its own place, and that of the examples with more confidence, which it stands behind; [N].

    Equals count one half each way.
    """
    num_examples = len(confidence)
    _, group_N = np.unique(-confidence, return_inverse=True)  # 0 is the greatest confidence
    gains_G = np.bincount(group_N, weights=gains_N)
    above_G = np.cumsum(gains_G) - gains_G / 2
    sizes_G = np.bincount(group_N)
    below_G = num_examples - np.cumsum(sizes_G) + sizes_G / 2
    return (gains_N * below_G[group_N] + above_G[group_N]) / num_examples
