"""Thresholds on confidence: how much a small model may answer itself, so that the quality of the whole keeps a target.

A routed system answers an example with the small model where its confidence is at least the threshold, and with the large one
elsewhere. Its quality is the mean score over requests. A threshold is calibrated on examples that both have answered, and two
promises can be made of it, which are not the same:

- **With stated confidence** (`certified_threshold`): with probability `level` over the calibration examples, the quality over all
  future requests is at least the target. Each threshold is a hypothesis ("its quality is below the target") that is tested, in an
  order that the calibration scores have no part in; the first that cannot be rejected ends it, so that no correction for their
  number is due (fixed-sequence testing). This is what "with 95 % confidence" means to who reads it, and what is used by default.
- **In expectation** (`expected_threshold`, conformal risk control): the mean quality of the next request, over calibrations and
  requests together, is at least the target. About every second calibration gives a threshold whose own quality lies below it.

Both are exact for any number of examples and any distribution, as long as the calibration examples and the requests come from one
source; a drift of what is asked ends them. Examples that belong together count once, as a cluster with its mean. Where clusters
differ in size, the mean over them is not the mean over requests (big ones may be the hard ones): `certified_threshold` then wants
both to be surely at least the target, the second one by its cluster-robust interval (`intervals.mean_interval`), which is not
exact. `expected_threshold` is about the mean over clusters.

Letters: N examples, G clusters, K thresholds.

Sources: Angelopoulos, Bates, Candès, Jordan and Lei 2021, "Learn then Test" (fixed-sequence testing); Bates, Angelopoulos, Lei,
Malik and Jordan 2021, "Distribution-free, risk-controlling prediction sets" (monotone losses, thresholds from the data);
Angelopoulos, Bates, Fisch, Lei and Schuster 2022, "Conformal risk control"; Waudby-Smith and Ramdas 2024, "Estimating means of
bounded random variables by betting".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fettle.statistics.intervals import mean_interval

_MOST_VALUES_AT_ONCE = 500_000
"""Of thresholds times examples, which bounds the memory."""
_BOLDEST_BET = 0.75
"""Share of the wealth that one example may cost at most."""
_ROUNDING = 1e-9
"""By which a mean of scores may miss a target that it equals."""

_LEAST_LEVEL = 0.01
"""Of a two-sided interval, for one-sided promises of about one half."""

Floats = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedThreshold:
    """A threshold with what may be promised of it."""

    threshold: float
    """The small model answers where its confidence is at least this; infinite: the large one answers everything."""
    is_promised: bool
    """Whether the target may be promised; False: not even of the safest threshold, and everything goes to the large model."""
    p_value: float | None
    """Of the last threshold that passed, or of the first where none did, for the mean over clusters; None: the promise is one in
    expectation."""
    num_independent: int
    """Examples it stands on, those that belong together counted once."""


def certified_threshold(
    confidence: Floats,
    small: Floats,
    large: Floats,
    *,
    target: float,
    level: float = 0.95,
    thresholds: Sequence[float] | None = None,
    clusters: Sequence[int] | None = None,
) -> CalibratedThreshold:
    """The threshold that leaves most to the small model among those whose quality is surely at least the target.

    With `thresholds` the quality need not rise with the threshold: where the small model knows better than the large one, it gets
    the credit. They must come from other examples than these (or from none): their order is fixed before these scores are seen.
    Without them every confidence among the examples is a candidate. That is exact only for a quality that cannot fall as the
    threshold rises, so it is made to: the small model is credited with the smaller of the two scores. Nothing is lost by that where
    the large model is never worse, and much where it often is.

    Args:
        confidence: Of the small model's answers, higher is more trusted; minus infinity: never to be trusted, [N].
        small: Scores of the small model's answers in [0, 1], [N].
        large: Those of the large one's, [N].
        target: Mean score that is to be kept, above 0 and below 1.
        level: Probability over calibrations that it is kept.
        thresholds: In the order in which they are tried, each one smaller than the one before it; infinite: everything goes to the
            large model. None: those that the examples have.
        clusters: The cluster id of each example, [N]; None: all are independent.

    Raises:
        ValueError: Lengths differ, there are no examples, or a value is out of its range.

    >>> right = [1.0] * 90 + [0.0] * 10
    >>> sure = [0.9] * 90 + [0.2] * 10
    >>> certified_threshold(sure, right, [1.0] * 100, target=0.9).threshold
    0.9
    """
    data = _Data.of(confidence, small, large, clusters, target)
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, not {level}")
    if thresholds is None:
        data, tried = data.with_small_never_better(), data.candidates()
    else:
        tried = np.asarray(thresholds, dtype=np.float64)
        if len(tried) == 0 or np.isnan(tried).any() or (np.diff(tried) >= 0).any():
            raise ValueError("thresholds are tried from the greatest to the smallest, and there is at least one")
    passed: tuple[float, float] | None = None
    first = math.nan
    step = max(1, _MOST_VALUES_AT_ONCE // data.num_independent)
    for start in range(0, len(tried), step):
        chunk_K = tried[start : start + step]
        p_values_K = mean_p_values(data.quality(chunk_K), target, level=level)
        first = float(p_values_K[0]) if start == 0 else first
        failing = np.flatnonzero(p_values_K > 1 - level)
        num_passed = int(failing[0]) if len(failing) else len(chunk_K)
        kept = takewhile(lambda threshold: data.keeps_over_examples(threshold, target, level), chunk_K[:num_passed])
        num_kept = sum(1 for _ in kept)
        if num_kept:
            passed = (float(chunk_K[num_kept - 1]), float(p_values_K[num_kept - 1]))
        if num_kept < len(chunk_K):
            break
    threshold, p_value = (math.inf, first) if passed is None else passed
    return CalibratedThreshold(
        threshold=threshold, is_promised=passed is not None, p_value=p_value, num_independent=data.num_independent
    )


def expected_threshold(
    confidence: Floats,
    small: Floats,
    large: Floats,
    *,
    target: float,
    clusters: Sequence[int] | None = None,
) -> CalibratedThreshold:
    """The threshold that leaves most to the small model such that the next request's expected quality is at least the target.

    The loss of an example is what its score lacks to 1. Conformal risk control wants a loss that cannot rise with the threshold,
    example by example, so the small model is credited with the smaller of the two scores, as in `certified_threshold` without
    thresholds. The condition is (G R + 1) / (G + 1) <= 1 - target for the mean loss R of G clusters: one more example could have
    the greatest loss of all, 1.

    Args:
        confidence: As in `certified_threshold`.
        small: Likewise.
        large: Likewise.
        target: Likewise.
        clusters: Likewise.

    Raises:
        ValueError: As in `certified_threshold`.

    Source: Angelopoulos et al. 2022, "Conformal risk control", theorem 1 with B = 1.

    >>> expected_threshold([3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], target=0.7).threshold
    2.0
    """
    data = _Data.of(confidence, small, large, clusters, target).with_small_never_better()
    tried_K = data.candidates()
    weights_N = 1 / (data.num_independent * np.bincount(data.cluster_N)[data.cluster_N])
    order = np.argsort(-data.confidence_N, kind="stable")
    loss_of_large = float((weights_N * (1 - data.large_N)).sum())
    rises_N = np.cumsum((weights_N * (data.large_N - data.small_N))[order])
    num_small_K = np.searchsorted(-data.confidence_N[order], -tried_K, side="right")
    loss_K = loss_of_large + np.where(num_small_K > 0, rises_N[num_small_K - 1], 0.0)
    bound_K = (data.num_independent * loss_K + 1) / (data.num_independent + 1)
    kept = np.flatnonzero(bound_K <= 1 - target + _ROUNDING)
    return CalibratedThreshold(
        threshold=float(tried_K[kept[-1]]) if len(kept) else math.inf,
        is_promised=len(kept) > 0,
        p_value=None,
        num_independent=data.num_independent,
    )


def mean_p_values(values: NDArray[np.float64], target: float, *, level: float = 0.95) -> NDArray[np.float64]:
    """For each row, how unlikely such values in [0, 1] are where their true mean is below the target.

    Rows of right-or-wrong values have the exact binomial p-value. Others are bet on, one value after the other, against a mean of
    `target`: the wealth exceeds 1/p at any time with probability p at most, so that 1 over the greatest wealth is a p-value. It
    depends on the order of the values, and is valid in any that the values have no part in.

    Args:
        values: [K, N].
        target: Above 0 and below 1.
        level: The bets are sized for a p-value of 1 - level; the result is valid for every other too.

    Source: Waudby-Smith and Ramdas 2024, sections 3 and 4: the capital process, with the predictable plug-in of equation 15.

    >>> mean_p_values(np.array([[1.0] * 10, [0.0] * 10]), 0.5).round(4).tolist()
    [0.001, 1.0]
    """
    num_rows, num_values = values.shape
    p_values_K = np.empty(num_rows)
    is_binary_K = ((values == 0) | (values == 1)).all(axis=1)
    num_right_K = values[is_binary_K].sum(axis=1)
    p_values_K[is_binary_K] = stats.binom.sf(num_right_K - 1, num_values, target)
    if not is_binary_K.all():
        p_values_K[~is_binary_K] = _betting_p_values(values[~is_binary_K], target, level)
    return p_values_K


def _betting_p_values(values_KN: NDArray[np.float64], target: float, level: float) -> NDArray[np.float64]:
    num_values = values_KN.shape[1]
    number_N = np.arange(1, num_values + 1)
    means_KN = (0.5 + np.cumsum(values_KN, axis=1)) / (number_N + 1)
    variances_KN = (0.25 + np.cumsum((values_KN - means_KN) ** 2, axis=1)) / (number_N + 1)
    before_KN = np.concatenate([np.full((len(values_KN), 1), 0.25), variances_KN[:, :-1]], axis=1)
    stakes_KN = np.minimum(np.sqrt(2 * math.log(1 / (1 - level)) / (num_values * before_KN)), _BOLDEST_BET / target)
    log_wealth_KN = np.cumsum(np.log1p(stakes_KN * (values_KN - target)), axis=1)
    return np.exp(-np.maximum(log_wealth_KN.max(axis=1), 0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """Calibration examples as arrays."""

    confidence_N: NDArray[np.float64]
    small_N: NDArray[np.float64]
    large_N: NDArray[np.float64]
    cluster_N: NDArray[np.intp]
    """Numbered from 0 in the order in which they turn up."""

    @classmethod
    def of(
        cls, confidence: Floats, small: Floats, large: Floats, clusters: Sequence[int] | None, target: float
    ) -> _Data:
        """Checked."""
        confidence_N, small_N, large_N = (np.asarray(one, dtype=np.float64) for one in (confidence, small, large))
        num_examples = len(confidence_N)
        ids = np.arange(num_examples) if clusters is None else np.asarray(clusters)
        if len({num_examples, len(small_N), len(large_N), len(ids)}) > 1:
            raise ValueError("confidences, scores and clusters differ in length")
        if num_examples == 0:
            raise ValueError("no examples to calibrate on")
        if np.isnan(confidence_N).any() or np.isposinf(confidence_N).any():
            raise ValueError("a confidence is no number, or infinite")
        scores = np.concatenate([small_N, large_N])
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("a score lies outside [0, 1]; leave unscored examples out first")
        if not 0 < target < 1:
            raise ValueError(f"a target lies between 0 and 1, not at {target}")
        _, first, number = np.unique(ids, return_index=True, return_inverse=True)
        in_order = np.argsort(np.argsort(first))
        return cls(confidence_N=confidence_N, small_N=small_N, large_N=large_N, cluster_N=in_order[number])

    @property
    def num_independent(self) -> int:
        return int(self.cluster_N.max()) + 1

    def with_small_never_better(self) -> _Data:
        """With a quality that cannot fall as the threshold rises, example by example."""
        return _Data(
            confidence_N=self.confidence_N,
            small_N=np.minimum(self.small_N, self.large_N),
            large_N=self.large_N,
            cluster_N=self.cluster_N,
        )

    def candidates(self) -> NDArray[np.float64]:
        """Infinity, then every finite confidence, greatest first."""
        finite = np.unique(self.confidence_N[np.isfinite(self.confidence_N)])
        return np.concatenate([[math.inf], finite[::-1]])

    def keeps_over_examples(self, threshold: float, target: float, level: float) -> bool:
        """Whether the mean over examples is surely at least the target; not asked where it is that over clusters."""
        sizes_G = np.bincount(self.cluster_N)
        if sizes_G.min() == sizes_G.max():
            return True
        routed_N = np.where(self.confidence_N >= threshold, self.small_N, self.large_N)
        two_sided = max(2 * level - 1, _LEAST_LEVEL)
        found = mean_interval(routed_N.tolist(), self.cluster_N.tolist(), level=two_sided)
        return found.low >= target - _ROUNDING

    def quality(self, thresholds_K: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of each cluster at each threshold, [K, G]."""
        is_small_KN = self.confidence_N[None, :] >= thresholds_K[:, None]
        routed_KN = np.where(is_small_KN, self.small_N, self.large_N)
        sizes_G = np.bincount(self.cluster_N)
        if len(sizes_G) == len(self.cluster_N):
            return routed_KN
        order = np.argsort(self.cluster_N, kind="stable")
        starts_G = np.concatenate([[0], np.cumsum(sizes_G)[:-1]])
        return np.clip(np.add.reduceat(routed_KN[:, order], starts_G, axis=1) / sizes_G, 0.0, 1.0)
