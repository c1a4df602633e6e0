"""What holds of a calibrated threshold, whatever the examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fettle.statistics.risk_control import certified_threshold, expected_threshold, mean_p_values

CONFIDENCES = st.sampled_from([-math.inf, -1.5, 0.0, 0.25, 0.5, 1.0])  # few, so that there are ties
SCORES = st.sampled_from([0.0, 0.25, 1.0]) | st.floats(0, 1)
ROWS = st.lists(st.tuples(CONFIDENCES, SCORES, SCORES), min_size=1, max_size=60)
TARGETS = st.floats(0.05, 0.95)


def columns(rows: list[tuple[float, float, float]]) -> tuple[list[float], list[float], list[float]]:
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def routed(rows: list[tuple[float, float, float]], threshold: float) -> float:
    """Mean quality with the small model credited with the lesser score."""
    return float(np.mean([min(small, large) if sure >= threshold else large for sure, small, large in rows]))


@settings(max_examples=150, deadline=None)
@given(ROWS, TARGETS)
def test_conformal_risk_control_is_the_definition_tried_threshold_by_threshold(rows, target) -> None:
    found = expected_threshold(*columns(rows), target=target)
    tried = [math.inf, *sorted({row[0] for row in rows if math.isfinite(row[0])}, reverse=True)]
    kept = [t for t in tried if (len(rows) * (1 - routed(rows, t)) + 1) / (len(rows) + 1) <= 1 - target + 1e-9]
    assert found.is_promised == bool(kept)
    assert found.threshold == (kept[-1] if kept else math.inf)


@settings(max_examples=100, deadline=None)
@given(ROWS, TARGETS)
def test_a_promised_threshold_has_kept_its_target_on_the_examples_it_stands_on(rows, target) -> None:
    found = certified_threshold(*columns(rows), target=target)
    if found.is_promised:
        assert routed(rows, found.threshold) >= target - 1e-9
    else:
        assert found.threshold == math.inf


@settings(max_examples=60, deadline=None)
@given(ROWS, st.floats(0.05, 0.5), st.floats(0.0, 0.45))
def test_more_confidence_sends_no_less_to_the_large_model(rows, target, more) -> None:
    binary = [(sure, float(small > 0.5), float(large > 0.5)) for sure, small, large in rows]
    loose = certified_threshold(*columns(binary), target=target, level=0.5)
    strict = certified_threshold(*columns(binary), target=target, level=0.5 + more)
    assert strict.threshold >= loose.threshold


@settings(max_examples=60, deadline=None)
@given(ROWS, TARGETS, st.randoms(use_true_random=False))
def test_the_order_of_right_or_wrong_examples_does_not_matter(rows, target, random) -> None:
    binary = [(sure, float(small > 0.5), float(large > 0.5)) for sure, small, large in rows]
    shuffled = random.sample(binary, len(binary))
    for calibrate in (certified_threshold, expected_threshold):
        assert calibrate(*columns(binary), target=target) == calibrate(*columns(shuffled), target=target)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=80), TARGETS)
def test_p_values_of_right_or_wrong_answers_are_those_of_the_binomial_test(right, target) -> None:
    [p_value] = mean_p_values(np.array([right], dtype=float), target)
    reference = stats.binomtest(sum(right), len(right), target, alternative="greater").pvalue
    assert p_value == pytest.approx(reference, abs=1e-12)
