"""Traffic and points at which tuning pays, beside days that are added up one after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fettle.advice.money import points_to_pay, requests_to_pay
from fettle.economics import costs
from fettle.economics.costs import Taken
from fettle.economics.quantities import Quantities, Situation, best_guess
from fettle.economics_records import exactly

TUNED = Taken(
    contender="tuned",
    seconds_per_request=0.5,
    training_seconds=7200,
    num_labelled_examples=400,
    num_test_requests=100,
)
PROMPTED = Taken(contender="prompt", seconds_per_request=0.5, num_test_requests=100)
LARGE = Taken(contender="remote", is_elsewhere=True, prompt_tokens_per_request=1000, completion_tokens_per_request=200)
HORIZON = 365


def at(**said: float) -> Quantities:
    """Everything known; nothing costs anything unless it is said."""
    names = [name for name in Situation.__dataclass_fields__ if name != "bills_idle"]
    usual = dict.fromkeys(names, 0.0) | {
        "requests_per_day": 1000, "busy_hours_per_day": 8, "busy_share": 0.8, "hosted_hours_per_day": 24, "busy_at_most": 0.7,
        "share_caught": 1, "price_per_training_hour": 3, "price_per_serving_hour": 0.1, "wage_per_hour": 30,
        "labelling_minutes_per_example": 1, "cost_per_wrong_answer": 0.05, "price_per_million_input_tokens": 2,
        "price_per_million_output_tokens": 8,
    }  # fmt: skip
    return best_guess(Situation(bills_idle=True, **{name: exactly(value) for name, value in (usual | said).items()}))


def balance(taken: Taken, right: float, where: Quantities, days: int) -> float:
    """What is left after so many days, added up day by day."""
    left = -float(costs.total(costs.setup(taken, where), where)[0])
    for _ in range(days):
        left += float(costs.gain_per_day(taken, np.array([right]), where)[0])
    return left


def test_points_by_hand() -> None:
    # Beforehand: 2 h x 3 of training, 400 min x 30 / 60 of labelling; tests and machines are the same for both.
    # A point fewer wrong answers: 1,000 x 365 x 0.05 = 18,250 over the year for all answers.
    assert points_to_pay(TUNED, PROMPTED, at(), HORIZON) == pytest.approx((6 + 200) / 18_250)


@pytest.mark.parametrize(
    "said",
    [{}, {"requests_per_day": 20}, {"cost_per_wrong_answer": 3}, {"share_checked": 0.5}, {"retrainings_per_year": 4}],
)
def test_with_so_many_points_the_balances_are_equal(said: dict[str, float]) -> None:
    where = at(**said)
    points = points_to_pay(TUNED, PROMPTED, where, HORIZON)
    base = 0.2 if points < 0.8 else 0.0
    ours, theirs = balance(TUNED, base + points, where, HORIZON), balance(PROMPTED, base, where, HORIZON)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_more_traffic_and_dearer_errors_need_fewer_points() -> None:
    points = [points_to_pay(TUNED, PROMPTED, at(requests_per_day=number), HORIZON) for number in (10, 100, 1000)]
    assert points == sorted(points, reverse=True)
    assert points_to_pay(TUNED, PROMPTED, at(cost_per_wrong_answer=1), HORIZON) < points[-1]


def test_errors_that_are_all_caught_never_pay() -> None:
    assert points_to_pay(TUNED, PROMPTED, at(share_checked=1), HORIZON) == np.inf


@pytest.mark.parametrize("price", [0.02, 0.1, 1.0])
def test_from_that_traffic_on_a_machine_has_paid(price: float) -> None:
    needed = requests_to_pay(TUNED, LARGE, at(price_per_serving_hour=price), HORIZON)
    assert needed is not None
    for factor, pays in ((0.98, False), (1.02, True)):
        where = replace(at(price_per_serving_hour=price), requests_per_day=np.array([needed * factor]))
        ours, theirs = (balance(taken, 0.5, where, HORIZON) for taken in (TUNED, LARGE))
        assert (ours > theirs) is pays


def test_tokens_that_cost_next_to_nothing_are_never_dearer_than_a_machine() -> None:
    dear = at(price_per_million_input_tokens=0.001, price_per_million_output_tokens=0.001, price_per_serving_hour=5)
    assert requests_to_pay(TUNED, LARGE, dear, HORIZON) is None
