"""Looking at one test split again and again: what it does to claims that the tuned model is better, and what wider intervals do.

Five studies on the same 300 examples with the same baseline; no tuned model is truly better. Everybody stops at the first study
whose interval lies above 0. Where the five tuned models have nothing in common 8.3 % of the series end so with intervals of 95 %,
and 4.7 % with wider ones; where they are right or wrong together on 70 % of the examples, as models of one base are, 5.4 and 3.1 %.
"""

import numpy as np
import pytest
from simulated_arms import two_errors

from fettle.statistics.intervals import difference_interval
from fettle.statistics.multiplicity import level_at_look

NUM_SERIES = 1500
NUM_LOOKS = 5
NUM_EXAMPLES = 300
HARMONIC = sum(1 / number for number in range(1, NUM_LOOKS + 1))


def shares_of_any(agreement: float) -> tuple[float, float]:
    """The share of series in which some study would ship: with intervals that never widen, and with ours.

    Args:
        agreement: Share of examples on which all tuned models are right or wrong together.
    """
    rng = np.random.default_rng(11)
    shape = (NUM_SERIES, NUM_EXAMPLES)
    baseline = rng.random(shape) < 0.7
    together = rng.random(shape) < agreement
    common = rng.random(shape) < 0.7
    ever, ever_wider = np.zeros(NUM_SERIES, bool), np.zeros(NUM_SERIES, bool)
    for number in range(1, NUM_LOOKS + 1):
        tuned = np.where(together, common, rng.random(shape) < 0.7)
        differences = tuned.astype(float) - baseline
        for series, of_series in enumerate(differences):
            ever[series] |= difference_interval(of_series, range(NUM_EXAMPLES)).low > 0
            wider = difference_interval(of_series, range(NUM_EXAMPLES), level=level_at_look(number))
            ever_wider[series] |= wider.low > 0
    return float(ever.mean()), float(ever_wider.mean())


@pytest.mark.parametrize(("agreement", "at_most"), [(0.0, 0.025 * HARMONIC), (0.7, 0.04)])
def test_looking_again_errs_much_less_often_with_wider_intervals(agreement: float, at_most: float) -> None:
    plain, wider = shares_of_any(agreement)
    assert wider <= at_most + two_errors(at_most, NUM_SERIES), (plain, wider)
    assert plain > wider + two_errors(wider, NUM_SERIES), (plain, wider)


def test_the_first_look_keeps_its_level() -> None:
    assert level_at_look(1) == 0.95
    with pytest.raises(ValueError, match="from 1"):
        level_at_look(0)
