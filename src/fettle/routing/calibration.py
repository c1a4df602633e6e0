"""From both models' scores to a threshold with its promise, and the curve of quality over the share sent to the large model."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fettle.routing.choice import Pairs
from fettle.routing_records import CurvePoint
from fettle.statistics.intervals import mean_interval
from fettle.statistics.risk_control import CalibratedThreshold, certified_threshold

_NUM_THRESHOLDS = 50
_NUM_CURVE_POINTS = 20


def threshold_sequence(confidence: NDArray[np.float64], pairs: Pairs) -> tuple[float, ...]:
    """Thresholds to be tried one after the other, found on other examples than those that they are tried on.

    They begin where the routed quality is greatest on these examples, which need not be where everything goes to the large model,
    and go on to ever smaller ones, each of which leaves more to the small model. The greater of equals begins.

    Args:
        confidence: Of the small model's answers, [N].
        pairs: Both models' scores.
    """
    finite = confidence[np.isfinite(confidence)]
    levels = np.linspace(1, 0, _NUM_THRESHOLDS)
    found = np.unique(np.quantile(finite, levels, method="nearest"))[::-1] if len(finite) else np.array([])
    tried = np.concatenate([[math.inf], found])
    best = int(np.argmax([routed(confidence, pairs, threshold).mean() for threshold in tried]))
    return tuple(map(float, tried[best:]))


def calibrated(
    confidence: NDArray[np.float64], pairs: Pairs, *, target: float, level: float, thresholds: tuple[float, ...]
) -> CalibratedThreshold:
    """The threshold with its promise; see `statistics.risk_control.certified_threshold`.

    Args:
        confidence: Of the small model's answers to the calibration examples, [N].
        pairs: Both models' scores on them.
        target: Mean score to be kept.
        level: Probability over calibrations that it is.
        thresholds: Found on other examples.
    """
    return certified_threshold(
        confidence,
        pairs.small,
        pairs.large,
        target=target,
        level=level,
        thresholds=thresholds,
        clusters=pairs.clusters,
    )


def num_needed(target: float, level: float) -> int:
    """Independent examples that it takes at least to promise a target, if each of them has the greatest score.

    >>> num_needed(0.9, 0.95), num_needed(0.95, 0.95)
    (29, 59)
    """
    return math.ceil(math.log(1 - level) / math.log(target) - 1e-9)


def quality_curve(confidence: NDArray[np.float64], pairs: Pairs) -> tuple[CurvePoint, ...]:
    """The routed system at thresholds from "everything to the large model" to "the small one answers all that it can".

    Each point has an interval of its own; they are no band that holds for all at once, and promise nothing.

    Args:
        confidence: Of the small model's answers, [N].
        pairs: Both models' scores.
    """
    finite = confidence[np.isfinite(confidence)]
    levels = np.linspace(1, 0, _NUM_CURVE_POINTS)
    found = np.unique(np.quantile(finite, levels, method="nearest"))[::-1] if len(finite) else np.array([])
    return tuple(curve_point(confidence, pairs, threshold) for threshold in (math.inf, *map(float, found)))


def curve_point(confidence: NDArray[np.float64], pairs: Pairs, threshold: float) -> CurvePoint:
    """The routed system at one threshold; infinite: everything goes to the large model."""
    return CurvePoint(
        threshold=threshold if math.isfinite(threshold) else None,
        share_to_large=float(np.mean(confidence < threshold)),
        quality=mean_interval(routed(confidence, pairs, threshold).tolist(), pairs.clusters),
    )


def routed(confidence: NDArray[np.float64], pairs: Pairs, threshold: float) -> NDArray[np.float64]:
    """The score of the answer that is given to each example, [N]."""
    return np.where(confidence >= threshold, pairs.small, pairs.large)
