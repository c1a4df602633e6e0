import itertools

import numpy as np
import pytest

from fettle.statistics.anytime import Against, confidence_sequence, log_evidence, log_evidence_at_looks

OUTCOMES = (0.0, 0.25, 1.0)
PROBABILITIES = (0.5, 0.2, 0.3)
MEAN = 0.35


@pytest.mark.parametrize("against", Against)
def test_what_is_won_on_a_true_claim_is_nothing_on_average(against: Against) -> None:
    """Over all 81 series of four outcomes, each with its probability: a capital of 1 stays 1."""
    expected = sum(
        np.prod([PROBABILITIES[one] for one in series])
        * np.exp(log_evidence([OUTCOMES[one] for one in series], MEAN, against, bounds=(0, 1)))
        for series in itertools.product(range(3), repeat=4)
    )
    assert expected == pytest.approx(1)


def test_the_order_of_outcomes_changes_nothing() -> None:
    outcomes = np.random.default_rng(0).uniform(-1, 1, 50)
    assert log_evidence(outcomes, 0.1, Against.EQUAL) == pytest.approx(log_evidence(outcomes[::-1], 0.1, Against.EQUAL))


@pytest.mark.parametrize("against", Against)
def test_evidence_at_looks_is_that_of_what_was_there(against: Against) -> None:
    outcomes, looks = np.random.default_rng(1).uniform(-1, 1, 40), [1, 7, 30, 40]
    path = log_evidence_at_looks(outcomes, looks, 0.1, against)
    assert path == pytest.approx([log_evidence(outcomes[:n], 0.1, against) for n in looks])


def test_no_outcomes_say_nothing() -> None:
    assert log_evidence([], 0.0, Against.EQUAL) == pytest.approx(0)
    nothing = confidence_sequence([])
    assert (nothing.estimate, nothing.low, nothing.high) == (0, -1, 1)


def test_limits_are_where_the_evidence_reaches_its_bar() -> None:
    outcomes = np.random.default_rng(2).choice([-1.0, 0.0, 1.0], 200, p=[0.1, 0.6, 0.3])
    interval = confidence_sequence(outcomes)
    for limit in (interval.low, interval.high):
        assert log_evidence(outcomes, limit, Against.EQUAL) == pytest.approx(np.log(20), abs=1e-4)
    assert interval.estimate == pytest.approx(outcomes.mean())
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, None, 1.0), (-1.0, -1.0, None)])
def test_outcomes_at_a_bound_have_an_interval_that_ends_there(
    value: float, low: float | None, high: float | None
) -> None:
    interval = confidence_sequence([value] * 30)
    assert interval.high == high if low is None else interval.low == low
    assert interval.high - interval.low < 0.5


def test_swapped_arms_mirror() -> None:
    outcomes = np.random.default_rng(4).uniform(-1, 1, 60)
    one, other = confidence_sequence(outcomes), confidence_sequence(-outcomes)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_what_is_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence_sequence([0.5, 1.5], bounds=(0, 1))
    with pytest.raises(ValueError, match="mean"):
        log_evidence([0.5], 1.0, Against.AT_MOST)
    with pytest.raises(ValueError, match="level"):
        confidence_sequence([0.5], level=1.0)
    with pytest.raises(ValueError, match="grow"):
        log_evidence_at_looks(np.zeros(3), [2, 2], 0.0, Against.EQUAL)
