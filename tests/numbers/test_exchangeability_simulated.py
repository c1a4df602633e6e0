"""Watching traffic that does not change: how often it alarms; and traffic that does: how soon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.statistics.exchangeability import NUM_BETS, begin_watch, log_bets

NUM_RUNS, NUM_KNOWN, NUM_DAYS, A_DAY = 400, 60, 15, 12


def first_alarm(
    known: NDArray[np.float64], days: list[NDArray[np.float64]], *, odds: float, seed: int = 0
) -> int | None:
    """The day of the first alarm, from 1."""
    watch = begin_watch([f"feature {n}" for n in range(known.shape[1])], known, seed=seed)
    for number, day in enumerate(days, start=1):
        watch.take(day)
        if watch.log_evidence >= math.log(odds):
            return number
    return None


def test_every_bet_is_fair() -> None:
    ranks = (np.arange(200_000) + 0.5) / 200_000
    assert np.exp(log_bets(ranks)).mean(axis=0) == pytest.approx(np.ones(NUM_BETS), abs=2e-3)


@pytest.mark.parametrize("kind", ["smooth", "heavy", "few values", "two that go together"])
def test_what_does_not_change_alarms_in_at_most_a_fifth_of_the_runs_where_a_fifth_is_promised(kind: str) -> None:
    rng = np.random.default_rng(3)

    def draw(num: int) -> NDArray[np.float64]:
        match kind:
            case "smooth":
                return rng.normal(size=(num, 1))
            case "heavy":
                return rng.standard_cauchy((num, 1))
            case "few values":
                return rng.choice([0.0, 1.0, 2.0], (num, 1), p=[0.9, 0.05, 0.05])
            case _:
                one = rng.normal(size=(num, 1))
                return np.hstack([one, one**2])

    alarms = [
        first_alarm(draw(NUM_KNOWN), [draw(A_DAY) for _ in range(NUM_DAYS)], odds=5, seed=run) is not None
        for run in range(NUM_RUNS)
    ]
    assert 0.01 < np.mean(alarms) <= 0.2


@pytest.mark.parametrize(("shift", "spread", "days"), [(1.0, 1.0, 6), (-1.0, 1.0, 6), (0.0, 3.0, 6), (0.0, 0.2, 8)])
def test_a_change_after_five_quiet_days_is_found_within_days(shift: float, spread: float, days: int) -> None:
    rng = np.random.default_rng(4)
    found = []
    for run in range(40):
        known = rng.normal(size=(200, 3))
        quiet = [rng.normal(size=(A_DAY, 3)) for _ in range(5)]
        changed = []
        for _ in range(days):
            day = rng.normal(size=(A_DAY, 3))
            day[:, 0] = shift + spread * rng.normal(size=A_DAY)
            changed.append(day)
        alarm = first_alarm(known, [*quiet, *changed], odds=100, seed=run)
        found.append(alarm is not None and alarm > 5)
    assert np.mean(found) >= 0.85


def test_a_few_requests_unlike_anything_known_are_enough() -> None:
    rng = np.random.default_rng(5)
    assert first_alarm(rng.normal(size=(300, 10)), [np.full((8, 10), 9.0)], odds=100) == 1


def test_the_feature_that_changed_is_the_one_that_stands_out() -> None:
    rng = np.random.default_rng(6)
    watch = begin_watch(["same", "changed"], rng.normal(size=(200, 2)))
    watch.take(np.column_stack([rng.normal(size=40), 1.5 + rng.normal(size=40)]))
    evidence = watch.log_evidence_by_name
    assert evidence["changed"] > math.log(100) > math.log(10) > evidence["same"]
