import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.statistics.anytime import Against, confidence_sequence, log_evidence

outcomes = st.lists(st.floats(-1, 1) | st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40)
levels = st.sampled_from([0.5, 0.8, 0.95, 0.999])


@settings(deadline=None, max_examples=30)
@given(outcomes, levels)
def test_intervals_hold_their_mean_lie_within_the_bounds_and_mirror(values: list[float], level: float) -> None:
    one = confidence_sequence(values, level=level)
    assert -1 <= one.low <= one.estimate <= one.high <= 1
    other = confidence_sequence([-value for value in values], level=level)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(outcomes)
def test_greater_levels_have_wider_intervals(values: list[float]) -> None:
    narrow, wide = confidence_sequence(values, level=0.8), confidence_sequence(values, level=0.99)
    assert wide.low <= narrow.low + 1e-8
    assert narrow.high <= wide.high + 1e-8


@settings(deadline=None, max_examples=30)
@given(outcomes, st.floats(-0.99, 0.99), levels)
def test_an_interval_holds_what_the_evidence_does_not_exclude(values: list[float], mean: float, level: float) -> None:
    interval = confidence_sequence(values, level=level)
    excess = log_evidence(values, mean, Against.EQUAL) + math.log1p(-level)
    if abs(excess) > 1e-6:
        assert (interval.low <= mean <= interval.high) == (excess < 0)


@settings(deadline=None, max_examples=30)
@given(outcomes, st.floats(-0.99, 0.99), st.floats(-0.99, 0.99))
def test_evidence_against_at_most_falls_with_the_mean(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    at_low, at_high = (log_evidence(values, mean, Against.AT_MOST) for mean in (low, high))
    assert at_high <= at_low + 1e-9
