"""A router for study reports in tests, made of simulated answers by the code that makes real ones."""

from __future__ import annotations

import math

import numpy as np

from fettle.routing.calibration import calibrated, curve_point, num_needed, quality_curve, threshold_sequence
from fettle.routing.choice import Pairs, choose_measure
from fettle.routing.confidence import Measure
from fettle.routing_records import RoutingCosts, RoutingReport, RoutingRule
from fettle.statistics.intervals import mean_interval


def routing(
    *, num: int = 500, target: float = 0.9, large_right: float = 0.95, costs: RoutingCosts | None = None
) -> RoutingReport:
    """A small model that knows when it is right, beside a large one that is right more often."""
    rng = np.random.default_rng(8)

    def drawn() -> tuple[dict[Measure, np.ndarray], Pairs]:
        chance = np.sqrt(rng.random(num))
        small, large = (rng.random(num) < one for one in (chance, np.full(num, large_right)))
        noisy = chance + 0.3 * rng.standard_normal(num)
        pairs = Pairs(small=small.astype(float), large=large.astype(float), clusters=tuple(range(num)))
        return {Measure.LABEL_MARGIN: chance, Measure.LABEL_PROBABILITY: chance**2, Measure.FORESEEN: noisy}, pairs

    of_valid, valid = drawn()
    of_test, test = drawn()
    measure, measures = choose_measure(of_valid, valid)
    confidence = of_test[measure]
    found = calibrated(
        confidence, test, target=target, level=0.95, thresholds=threshold_sequence(of_valid[measure], valid)
    )
    return RoutingReport(
        small="tuned",
        large="remote",
        target=target,
        is_target_derived=False,
        level=0.95,
        is_promised=found.is_promised,
        rule=RoutingRule(measure=measure.value, threshold=found.threshold if math.isfinite(found.threshold) else None),
        share_to_large=mean_interval((confidence < found.threshold).astype(float).tolist(), test.clusters),
        quality=curve_point(confidence, test, found.threshold).quality,
        small_quality=mean_interval(test.small.tolist(), test.clusters),
        large_quality=mean_interval(test.large.tolist(), test.clusters),
        num_calibrated=found.num_independent,
        num_needed=num_needed(target, 0.95),
        num_unscored=1,
        num_validation=num,
        measures=measures,
        curve=quality_curve(confidence, test),
        costs=costs,
    )
