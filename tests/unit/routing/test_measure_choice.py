"""Which measure of confidence is chosen, what is foreseen from the input, and where thresholds come from."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest

from fettle.routing.calibration import calibrated, num_needed, quality_curve, routed, threshold_sequence
from fettle.routing.choice import Pairs, choose_measure, curve_area
from fettle.routing.confidence import Measure
from fettle.routing.foreseen import fit_foresight, foreseen_out_of_fold
from fettle.routing_records import RoutingCosts


def pairs(small, large, clusters=None) -> Pairs:
    return Pairs(
        small=np.asarray(small, float),
        large=np.asarray(large, float),
        clusters=tuple(range(len(small))) if clusters is None else tuple(clusters),
    )


def seen(num: int, *, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A confidence that is the chance of being right with noise on it, and whether the answers are right."""
    rng = np.random.default_rng(seed)
    chance = rng.random(num)
    return chance + noise * rng.standard_normal(num), (rng.random(num) < chance).astype(float)


def test_the_area_is_the_mean_quality_over_all_shares_and_over_all_orders_of_equals() -> None:
    confidence, small, large = [0.9, 0.5, 0.5, 0.1], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]

    def of_order(order) -> float:
        # The quality of sending all but the first k away, k = 0 to 4, by the trapezoid rule.
        kept = [np.mean([*(small[i] for i in order[:k]), *(large[i] for i in order[k:])]) for k in range(5)]
        return float(np.mean([(kept[k] + kept[k + 1]) / 2 for k in range(4)]))

    orders = [o for o in permutations(range(4)) if all(confidence[a] >= confidence[b] for a, b in pairwise(o))]
    assert len(orders) == 2
    area = curve_area(np.array(confidence), np.array(small), np.array(large))
    assert area == pytest.approx(np.mean([of_order(order) for order in orders]))


def test_a_dearer_measure_is_chosen_only_where_it_is_surely_better() -> None:
    good, right = seen(400, noise=0.0, seed=1)
    poor = np.random.default_rng(2).random(400)
    both = pairs(right, np.ones(400))
    chosen, tried = choose_measure({Measure.LABEL_MARGIN: poor, Measure.FORESEEN: good}, both)
    assert chosen is Measure.FORESEEN
    assert [one.measure for one in tried] == ["foreseen", "label_margin"]
    assert tried[0].below_chosen is None
    assert tried[1].below_chosen is not None
    assert tried[1].below_chosen.low > 0
    assert tried[1].below_chosen.estimate == pytest.approx(tried[0].area - tried[1].area)
    alike = good + 1e-3 * poor
    chosen, _ = choose_measure({Measure.LABEL_MARGIN: alike, Measure.FORESEEN: good}, both)
    assert chosen is Measure.LABEL_MARGIN


def test_foresight_tells_inputs_apart_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((200, 6)).astype(np.float32)
    scores = (vectors[:, 0] + 0.3 * rng.standard_normal(200) > 0).astype(float)
    found = foreseen_out_of_fold(vectors, scores, list(range(200)))
    assert found is not None
    assert found[scores == 1].mean() > found[scores == 0].mean() + 1
    fitted = fit_foresight(vectors, scores)
    assert fitted is not None
    assert fitted.of(vectors).shape == (200,)
    with pytest.raises(ValueError, match="dimensions"):
        fitted.of(vectors[:, :3])


def test_foresight_learns_nothing_from_noise_or_from_copies_of_what_it_judges() -> None:
    rng = np.random.default_rng(5)
    vectors = np.repeat(rng.standard_normal((40, 8)).astype(np.float32), 5, axis=0)  # five copies of each
    scores = np.repeat((rng.random(40) < 0.5).astype(float), 5)
    found = foreseen_out_of_fold(vectors, scores, [i // 5 for i in range(200)])
    assert found is not None
    assert abs(np.corrcoef(found, scores)[0, 1]) < 0.4, "with the copies in training it would be near 1"


def test_foresight_needs_both_kinds_and_counts_graded_scores_as_parts() -> None:
    vectors = np.eye(6, dtype=np.float32)
    assert fit_foresight(vectors, np.ones(6)) is None
    assert foreseen_out_of_fold(vectors, np.ones(6), range(6)) is None
    assert foreseen_out_of_fold(vectors, np.array([0.0, 1.0] * 3), [0, 0, 0, 1, 1, 1]) is None
    graded = fit_foresight(np.ones((4, 1), dtype=np.float32), np.full(4, 0.75))
    assert graded is not None
    assert graded.of(np.ones((1, 1), dtype=np.float32))[0] == pytest.approx(math.log(3), abs=0.05)


def test_thresholds_begin_where_the_quality_is_greatest_and_go_down() -> None:
    # The small model knows better above 0.6, and worse below.
    confidence = np.linspace(0, 1, 101)
    both = pairs((confidence > 0.6).astype(float), np.full(101, 0.5))
    tried = threshold_sequence(confidence, both)
    assert tried[0] == pytest.approx(0.61, abs=0.02)
    assert all(later < earlier for earlier, later in pairwise(tried))
    oracle = threshold_sequence(confidence, pairs((confidence > 0.6).astype(float), np.ones(101)))
    assert oracle[0] == math.inf


def test_the_curve_runs_from_the_large_model_to_the_small_one() -> None:
    confidence, right = seen(200, noise=0.1, seed=6)
    confidence[3] = -math.inf  # a failed request stays with the large model
    both = pairs(right, np.ones(200))
    curve = quality_curve(confidence, both)
    assert (curve[0].threshold, curve[0].share_to_large, curve[0].quality.estimate) == (None, 1.0, 1.0)
    assert curve[-1].share_to_large == 1 / 200
    shares = [point.share_to_large for point in curve]
    assert shares == sorted(shares, reverse=True)
    assert all(point.quality.low <= point.quality.estimate <= point.quality.high for point in curve)


def test_calibration_counts_near_duplicates_once() -> None:
    confidence = np.tile([0.9, 0.1], 60)
    both = pairs(np.tile([1.0, 0.0], 60), np.ones(120))
    found = calibrated(confidence, both, target=0.9, level=0.95, thresholds=(math.inf, 0.9, 0.1))
    assert (found.threshold, found.is_promised, found.num_independent) == (0.9, True, 120)
    assert routed(confidence, both, found.threshold).mean() == 1.0
    copies = pairs(both.small, both.large, [i // 10 for i in range(120)])
    assert not calibrated(confidence, copies, target=0.9, level=0.95, thresholds=(math.inf, 0.9)).is_promised
    assert num_needed(0.9, 0.95) == 29


def test_costs_count_the_small_model_at_every_request() -> None:
    costs = RoutingCosts(small_per_request=0.002, large_per_request=0.01)
    assert costs.cost_per_request(1.0) == pytest.approx(0.012)
    assert costs.saving(1.0) == pytest.approx(-0.2)
    assert costs.saving(0.0) == pytest.approx(0.8)
    assert RoutingCosts(small_per_request=0.1, large_per_request=0.0).saving(0.5) is None
