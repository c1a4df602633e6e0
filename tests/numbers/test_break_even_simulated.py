"""Break-even beside a simulation that pays every machine hour and every request of every day one by one."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from fettle.economics.break_even import Drawing, Side, break_even
from fettle.economics.costs import Taken
from fettle.economics.quantities import Situation, best_guess, drawn
from fettle.economics.right_answers import RightAnswers, drawn_right_shares
from fettle.economics_records import exactly
from fettle.statistics.intervals import mean_interval

_MOST_DAYS = 2000


def random_situation(rng: random.Random) -> dict[str, float]:
    return {
        "requests_per_day": rng.choice([50, 900, 7000, 60_000]),
        "busy_hours_per_day": rng.choice([4, 8, 12]),
        "busy_share": rng.choice([0.5, 0.8, 1.0]),
        "cached_share": rng.choice([0.0, 0.5]),
        "price_per_training_hour": rng.uniform(0.5, 5),
        "price_per_serving_hour": rng.uniform(0.05, 1),
        "hosted_hours_per_day": rng.choice([12, 24]),
        "busy_at_most": rng.choice([0.5, 0.8]),
        "wage_per_hour": rng.uniform(10, 60),
        "share_checked": rng.choice([0.0, 0.1]),
        "minutes_per_check": 1.0,
        "share_caught": 0.9,
        "labelling_minutes_per_example": rng.choice([0.0, 1.0]),
        "cost_per_wrong_answer": rng.choice([0.0, 0.01, 0.2]),
        "value_per_right_answer": rng.choice([0.0, 0.02]),
        "retrainings_per_year": rng.choice([0, 4]),
        "new_examples_per_retraining": rng.choice([0, 50]),
        "price_per_million_input_tokens": rng.uniform(0.1, 3),
        "price_per_million_cached_input_tokens": rng.uniform(0.01, 0.1),
        "price_per_million_output_tokens": rng.uniform(0.5, 15),
    }


def simulated_days(
    tuned: Taken, tuned_right: float, large: Taken, large_right: float, said: dict[str, float]
) -> int | None:
    """The first day at whose end what was paid for tuning has come back; plain arithmetic of its own."""
    through = 1 - said["share_checked"] * said["share_caught"]

    def one_day(taken: Taken, right: float) -> float:
        requests = said["requests_per_day"]
        paid = 0.0
        if taken.is_elsewhere:
            cached = taken.prompt_tokens_per_request * said["cached_share"]
            paid += requests * (taken.prompt_tokens_per_request - cached) * said["price_per_million_input_tokens"] / 1e6
            paid += requests * cached * said["price_per_million_cached_input_tokens"] / 1e6
            paid += requests * taken.completion_tokens_per_request * said["price_per_million_output_tokens"] / 1e6
        else:
            in_busy_hour = requests * said["busy_share"] / said["busy_hours_per_day"]
            in_any_hour = requests / said["hosted_hours_per_day"]
            machines = 1
            while max(in_busy_hour, in_any_hour) * taken.seconds_per_request > machines * said["busy_at_most"] * 3600:
                machines += 1
            for _machine in range(machines):
                paid += said["hosted_hours_per_day"] * said["price_per_serving_hour"]
        paid += requests * said["share_checked"] * said["minutes_per_check"] / 60 * said["wage_per_hour"]
        wrong = requests * (1 - right) * through
        return paid + wrong * said["cost_per_wrong_answer"] - (requests - wrong) * said["value_per_right_answer"]

    def once(taken: Taken, num_examples: float) -> float:
        paid = (taken.training_seconds or 0) / 3600 * said["price_per_training_hour"]
        return paid + num_examples * said["labelling_minutes_per_example"] / 60 * said["wage_per_hour"]

    balance = -once(tuned, tuned.num_labelled_examples)
    again = said["retrainings_per_year"] * once(tuned, said["new_examples_per_retraining"]) / 365
    for day in range(1, _MOST_DAYS + 1):
        balance += one_day(large, large_right) - one_day(tuned, tuned_right) - again
        if balance >= 0:
            return day
    return None


@pytest.mark.parametrize("seed", range(60))
def test_the_closed_form_agrees_with_a_simulation_day_by_day(seed: int) -> None:
    rng = random.Random(seed)
    said = random_situation(rng)
    situation = Situation(bills_idle=True, **{name: exactly(value) for name, value in said.items()})
    tuned = Taken(
        contender="tuned",
        seconds_per_request=rng.choice([0.05, 0.6, 3.0]),
        training_seconds=rng.uniform(200, 20_000),
        num_labelled_examples=rng.choice([0, 500]),
    )
    large = Taken(
        contender="remote", is_elsewhere=True, prompt_tokens_per_request=rng.uniform(100, 3000),
        completion_tokens_per_request=rng.uniform(5, 400),
    )  # fmt: skip
    rights = rng.uniform(0.6, 1), rng.uniform(0.6, 1)
    sides = [
        Side(taken=taken, right_share=np.array([right]), right_shares=np.array([right]))
        for taken, right in zip((tuned, large), rights, strict=True)
    ]
    at = best_guess(situation)
    draws = Drawing(best=at, drawn=drawn(situation, 1, np.random.default_rng(0)), seed=0, horizon_days=365)
    found = break_even(sides[0], sides[1], draws)
    days = simulated_days(tuned, rights[0], large, rights[1], said)
    if found.num_days is None or found.num_days > _MOST_DAYS:
        assert days is None
    else:
        assert days == max(1, math.ceil(found.num_days - 1e-6))
    assert found.band.share_within_horizon == (found.num_days is not None and found.num_days <= 365)
    if found.requests_per_day_to_pay and found.requests_per_day_to_pay < 200_000:
        for more in (0.0, 0.1, 0.5, 1.0, 3.0):
            traffic = {**said, "requests_per_day": (1 + more) * found.requests_per_day_to_pay + 1e-3}
            days = simulated_days(tuned, rights[0], large, rights[1], traffic)
            assert days is not None
            assert days <= 366
        traffic = {**said, "requests_per_day": 0.999 * found.requests_per_day_to_pay}
        days = simulated_days(tuned, rights[0], large, rights[1], traffic)
        assert days is None or days > 365


@pytest.mark.parametrize(("num_right", "num_asked", "size"), [(60, 100, 1), (240, 300, 3), (97, 100, 1), (50, 50, 1)])
def test_drawn_shares_spread_as_wide_as_the_interval(num_right: int, num_asked: int, size: int) -> None:
    values = [float(i < num_right) for i in range(num_asked)]
    clusters = [i // size for i in range(num_asked)]
    one = RightAnswers(contender="a", values=tuple(values), clusters=tuple(clusters))
    shares = drawn_right_shares([one], 10_000, np.random.default_rng(3))["a"]
    interval = mean_interval(values, clusters)
    low, high = np.quantile(shares, [0.025, 0.975])
    width = interval.high - interval.low
    assert low == pytest.approx(interval.low, abs=0.35 * width)
    assert high == pytest.approx(interval.high, abs=0.35 * width)
    assert float(np.mean(shares)) == pytest.approx((num_right + 0.5) / (num_asked + 1), abs=0.003)


def test_what_contenders_find_hard_together_stays_together() -> None:
    values = [float(i % 3 != 0) for i in range(90)]
    pair = [RightAnswers(contender=name, values=tuple(values), clusters=tuple(range(90))) for name in "ab"]
    shares = drawn_right_shares(pair, 300, np.random.default_rng(5))
    assert np.array_equal(shares["a"], shares["b"])
