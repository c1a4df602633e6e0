"""The paired cluster bootstrap of a difference: shown beside the interval of `intervals.py`, as a check on it.

No decision rests on it; `docs/design/003-intervals.md` tells why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fettle.records import Interval
from fettle.statistics.clusters import cluster_totals
from fettle.statistics.intervals import TIE

NUM_RESAMPLES = 9999
_DRAWS_PER_CHUNK = 2_000_000


def bootstrap_difference(
    differences: Sequence[float] | NDArray[np.float64], clusters: Sequence[int], *, seed: int, level: float = 0.95
) -> Interval | None:
    """The mean of paired differences with its percentile interval over 9,999 resamples of whole clusters.

    A resample draws as many clusters as there are, with replacement; its value is the sum of their differences over the number of
    their examples. None where all resamples have one value, because there is one cluster only or all clusters have the same mean:
    the bootstrap then knows of no spread, and its interval of width 0 would claim certainty.

    Args:
        differences: Challenger minus baseline, one per example, [n].
        clusters: The cluster id of each example, [n].
        seed: Of the resampling; the same seed gives the same interval.
        level: The confidence level.

    Raises:
        ValueError: Lengths differ, there is no difference, one is not finite, or the level does not lie between 0 and 1.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, through `scipy.stats.bootstrap`.

    >>> print(bootstrap_difference([1.0, 0.0, 0.0, -1.0, 1.0, 1.0], [0, 1, 2, 3, 4, 5], seed=1))
    0.333 (-0.333 to 0.833)
    >>> bootstrap_difference([1.0] * 6, [0, 1, 2, 3, 4, 5], seed=1) is None
    True
    """
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    sums = cluster_totals(differences, clusters)
    if np.ptp(sums.totals / sums.sizes) < TIE:
        return None
    result = stats.bootstrap(
        (sums.totals, sums.sizes),
        _mean_difference,
        n_resamples=NUM_RESAMPLES,
        batch=max(1, _DRAWS_PER_CHUNK // sums.num_clusters),
        paired=True,
        vectorized=True,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(
        estimate=float(sums.totals.sum() / sums.num_examples),
        low=float(result.confidence_interval.low),
        high=float(result.confidence_interval.high),
        level=level,
        method=f"paired cluster bootstrap, percentiles of {NUM_RESAMPLES:,} resamples",
    )


def _mean_difference(totals: NDArray[np.float64], sizes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return totals.sum(axis=axis) / sizes.sum(axis=axis)
