"""Looking daily at an A/A comparison: how often something is found that is not there, and how soon something that is.

2,000 runs of 40 days with 25 outcomes a day, looked at each day. Usual intervals of 95 % exclude "no difference" at some look in
34 % of the runs; the betting ones in 1.4 to 2.3 %, whatever the outcomes look like.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_arms import two_errors

from fettle.statistics.anytime import Against, confidence_sequence, log_evidence_at_looks

NUM_RUNS, NUM_DAYS, A_DAY = 2000, 40, 25
LOOKS = range(A_DAY, NUM_DAYS * A_DAY + 1, A_DAY)
SHAPE = (NUM_RUNS, NUM_DAYS * A_DAY)
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


def rare(rng: np.random.Generator) -> NDArray[np.float64]:
    """Two answers of a hundred differ in whether they are right."""
    return rng.choice([-1.0, 0.0, 1.0], SHAPE, p=[0.01, 0.98, 0.01])


def usual(rng: np.random.Generator) -> NDArray[np.float64]:
    """One answer of four differs."""
    return rng.choice([-1.0, 0.0, 1.0], SHAPE, p=[0.125, 0.75, 0.125])


def skewed(rng: np.random.Generator) -> NDArray[np.float64]:
    """Many small gains are made up for by few great losses: the mean is 0."""
    return np.where(rng.random(SHAPE) < 1 / 41, -1.0, 0.025)


def scores(rng: np.random.Generator) -> NDArray[np.float64]:
    """Differences of scores in between."""
    return rng.beta(8, 2, SHAPE) - rng.beta(8, 2, SHAPE)


def false_alarms(draw: Draw, against: Against = Against.EQUAL) -> float:
    evidence = log_evidence_at_looks(draw(np.random.default_rng(5)), LOOKS, 0.0, against)
    return float((evidence.max(axis=-1) >= np.log(20)).mean())


@pytest.mark.parametrize("draw", [rare, usual, skewed, scores])
def test_daily_looks_at_equal_arms_alarm_in_at_most_five_percent_of_the_runs(draw: Draw) -> None:
    assert false_alarms(draw) <= 0.05


@pytest.mark.parametrize("against", [Against.AT_MOST, Against.AT_LEAST])
def test_so_do_looks_on_one_side(against: Against) -> None:
    assert false_alarms(skewed, against) <= 0.05


def test_usual_intervals_would_alarm_far_more_often() -> None:
    outcomes = usual(np.random.default_rng(5))
    sums, squares = (np.add.reduceat(of, np.r_[0, LOOKS[:-1]], axis=-1).cumsum(-1) for of in (outcomes, outcomes**2))
    deviations = np.sqrt(np.maximum(squares - sums**2 / LOOKS, 1e-9))
    assert (np.abs(sums / deviations) > 1.96).any(axis=-1).mean() > 0.25


def test_outcomes_that_follow_each_other_alarm_no_more_often_while_each_is_fair_given_those_before() -> None:
    """How far apart the arms are may depend on what has happened: only the direction may not."""
    rng = np.random.default_rng(5)
    signs = rng.choice([-1.0, 1.0], SHAPE)
    outcomes = np.empty(SHAPE)
    size = np.full(NUM_RUNS, 0.5)
    for number in range(SHAPE[1]):
        outcomes[:, number] = signs[:, number] * size
        size = np.where(signs[:, number] > 0, 1.0, 0.1)
    assert false_alarms(lambda _: outcomes) <= 0.05


def test_a_real_difference_is_found_while_it_is_looked_for() -> None:
    """Nine of a hundred answers become right and three wrong: half of the runs know by 300 outcomes, 99 % in time."""
    rng = np.random.default_rng(7)
    outcomes = rng.choice([-1.0, 0.0, 1.0], (400, SHAPE[1]), p=[0.03, 0.88, 0.09])
    found = log_evidence_at_looks(outcomes, LOOKS, 0.0, Against.EQUAL) >= np.log(20)
    is_right = found.any(axis=-1)
    first = found.argmax(axis=-1)[is_right] + 1
    assert is_right.mean() > 0.97
    assert 5 <= np.median(first) <= 16


def test_the_sequence_holds_the_mean_at_all_looks() -> None:
    rng = np.random.default_rng(9)
    num_runs = 100
    missed = 0
    for _ in range(num_runs):
        wins = rng.choice([0.0, 0.5, 1.0], 400, p=[0.1, 0.2, 0.7])
        sequence = [confidence_sequence(wins[:n], bounds=(0, 1), level=0.8) for n in range(40, 401, 40)]
        missed += any(not one.low <= 0.8 <= one.high for one in sequence)
    assert missed / num_runs <= 0.2 + two_errors(0.2, num_runs)
    assert missed > 0, "a level of 80 % that never errs would be far too wide"


def test_the_sequence_is_not_twice_as_wide_as_an_interval_for_one_look() -> None:
    outcomes = np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 5000, p=[0.02, 0.95, 0.03])
    interval = confidence_sequence(outcomes)
    plain = 2 * 1.96 * outcomes.std() / np.sqrt(outcomes.size)
    assert plain < interval.high - interval.low < 2 * plain
