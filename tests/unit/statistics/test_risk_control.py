"""Thresholds on confidence: hand-worked cases, ties, clusters, what cannot be promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fettle.statistics.risk_control import certified_threshold, expected_threshold, mean_p_values

SURE = [0.9] * 60 + [0.5] * 30 + [0.1] * 10
RIGHT = [1.0] * 60 + [1.0] * 27 + [0.0] * 3 + [0.0] * 10


def test_the_least_threshold_that_passes_is_taken_and_its_p_value_told() -> None:
    found = certified_threshold(SURE, RIGHT, [1.0] * 100, target=0.9)
    # At 0.5 the small model answers 90, 3 of them wrong: P(at least 97 of 100 right | 0.9) = 0.0078. At 0.1, 13 are wrong.
    assert (found.threshold, found.is_promised, found.num_independent) == (0.5, True, 100)
    assert found.p_value == pytest.approx(0.00784, abs=1e-5)


def test_with_a_target_that_nothing_can_be_shown_to_reach_everything_goes_to_the_large_model() -> None:
    found = certified_threshold([0.9, 0.8, 0.7], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], target=0.9)
    assert (found.threshold, found.is_promised) == (math.inf, False)
    assert found.p_value == pytest.approx(0.9**3)


def test_examples_of_one_confidence_go_the_same_way() -> None:
    found = certified_threshold([0.5] * 100, [1.0] * 80 + [0.0] * 20, [1.0] * 100, target=0.9)
    assert (found.threshold, found.is_promised) == (math.inf, True)


def test_an_answer_that_is_never_to_be_trusted_goes_to_the_large_model_at_every_threshold() -> None:
    confidence = [0.5] * 90 + [-math.inf] * 10
    found = certified_threshold(confidence, [1.0] * 90 + [0.0] * 10, [1.0] * 100, target=0.9)
    assert found.threshold == 0.5
    assert expected_threshold(confidence, [1.0] * 90 + [0.0] * 10, [1.0] * 100, target=0.9).threshold == 0.5


def test_without_thresholds_of_its_own_the_small_model_gets_no_credit_for_knowing_better() -> None:
    confidence, small, large = [0.5] * 100, [1.0] * 100, [1.0] * 85 + [0.0] * 15
    assert not certified_threshold(confidence, small, large, target=0.9).is_promised
    given = certified_threshold(confidence, small, large, target=0.9, thresholds=[0.4])
    assert (given.threshold, given.is_promised) == (0.4, True)


def test_the_first_threshold_that_fails_ends_the_trials() -> None:
    # At 0.7 the small model's mistakes are in, at 0.1 it is right where the large one is wrong: together they would pass.
    confidence, small = [0.7] * 20 + [0.1] * 80, [0.0] * 20 + [1.0] * 80
    large = [1.0] * 100
    found = certified_threshold(confidence, small, large, target=0.9, thresholds=[math.inf, 0.7, 0.1])
    assert found.threshold == math.inf
    assert certified_threshold(confidence, small, large, target=0.7, thresholds=[math.inf, 0.7, 0.1]).threshold == 0.1


def test_copies_of_one_example_count_once() -> None:
    alone = certified_threshold([0.9] * 20, [1.0] * 20, [1.0] * 20, target=0.8)
    copied = certified_threshold(
        [0.9] * 100, [1.0] * 100, [1.0] * 100, target=0.8, clusters=[i % 20 for i in range(100)]
    )
    assert (copied.num_independent, copied.p_value) == (20, alone.p_value)
    few = certified_threshold([0.9] * 100, [1.0] * 100, [1.0] * 100, target=0.8, clusters=[i % 5 for i in range(100)])
    assert not few.is_promised


def test_conformal_risk_control_by_hand() -> None:
    # Target 0.8 of 9 examples: (9 R + 1) / 10 <= 0.2, so one mistake in all is allowed.
    confidence = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    small = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert expected_threshold(confidence, small, [1.0] * 9, target=0.8).threshold == 4.0
    nothing = expected_threshold(confidence[:3], small[:3], [1.0] * 3, target=0.8)
    assert (nothing.threshold, nothing.is_promised) == (math.inf, False)


def test_conformal_risk_control_weighs_clusters_alike() -> None:
    # Two clusters, one of three examples whose small answers are all wrong: its mean loss is 1, as that of one example.
    confidence, small, large = [2.0, 2.0, 2.0, 5.0], [0.0, 0.0, 0.0, 1.0], [1.0] * 4
    assert expected_threshold(confidence, small, large, target=0.5, clusters=[4, 4, 4, 2]).threshold == 5.0
    assert expected_threshold(confidence, small, large, target=0.3, clusters=[4, 4, 4, 2]).threshold == 2.0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"confidence": [0.1]}, "differ in length"),
        ({"confidence": [0.1, math.nan]}, "no number"),
        ({"confidence": [0.1, math.inf]}, "infinite"),
        ({"small": [0.1, 1.1]}, "outside"),
        ({"large": [math.nan, 1.0]}, "outside"),
        ({"target": 1.0}, "target"),
        ({"level": 1.0}, "level"),
        ({"thresholds": [0.1, 0.2]}, "greatest"),
        ({"thresholds": []}, "at least one"),
        ({"confidence": [], "small": [], "large": []}, "no examples"),
    ],
)
def test_what_makes_no_sense_is_refused(changed, words) -> None:
    arguments = {"confidence": [0.2, 0.1], "small": [1.0, 0.0], "large": [1.0, 1.0], "target": 0.9} | changed
    values = [arguments.pop(name) for name in ("confidence", "small", "large")]
    with pytest.raises(ValueError, match=words):
        certified_threshold(*values, **arguments)


def test_many_examples_are_tried_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    confidence = rng.random(150)
    small, large = rng.random(150) * 0.4 + 0.6 * confidence, np.full(150, 0.95)
    whole = certified_threshold(confidence, small, large, target=0.85)
    monkeypatch.setattr("fettle.statistics.risk_control._MOST_VALUES_AT_ONCE", 450)
    assert certified_threshold(confidence, small, large, target=0.85) == whole
    assert whole.is_promised
    assert math.isfinite(whole.threshold)


def test_wealth_grows_only_where_the_mean_is_above_the_target() -> None:
    p_values = mean_p_values(np.array([[0.6, 0.5, 0.7, 0.6] * 25, [0.4, 0.5, 0.3, 0.4] * 25]), 0.5)
    assert p_values[0] < 0.001
    assert p_values[1] > 0.9
