"""Money holds for any prices: traced sums, no order of magnitude, and break-even that moves the right way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fettle.economics import costs
from fettle.economics.break_even import Drawing, Side, break_even
from fettle.economics.costs import Taken
from fettle.economics.needed_traffic import HostedShare, smallest_traffic
from fettle.economics.quantities import Situation, best_guess, drawn
from fettle.economics_records import Range, exactly

PRICES = st.floats(0.001, 100)
SHARES = st.floats(0, 1)
NAMES = [name for name in Situation.__dataclass_fields__ if name != "bills_idle"]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    values = dict.fromkeys(NAMES, 0.0)
    values |= {"requests_per_day": draw(st.integers(1, 200_000)), "busy_hours_per_day": draw(st.integers(1, 24))}
    values |= {"hosted_hours_per_day": 24, "busy_at_most": draw(st.floats(0.1, 1)), "share_caught": draw(SHARES)}
    values |= {name: draw(SHARES) for name in ("busy_share", "cached_share", "share_checked")}
    values |= {"minutes_per_check": draw(PRICES), "labelling_minutes_per_example": draw(PRICES)}
    money = ("wage_per_hour", "price_per_training_hour", "price_per_serving_hour", "cost_per_wrong_answer")
    money += tuple(name for name in NAMES if name.startswith("price_per_million"))
    values |= {name: draw(PRICES) for name in money}
    return Situation(bills_idle=draw(st.booleans()), **{name: exactly(value) for name, value in values.items()})


TAKEN = st.builds(
    Taken,
    contender=st.just("a"),
    is_elsewhere=st.booleans(),
    seconds_per_request=st.floats(0.001, 20),
    prompt_tokens_per_request=st.floats(1, 10_000),
    completion_tokens_per_request=st.floats(1, 1000),
    training_seconds=st.none() | st.floats(1, 1e5),
    num_labelled_examples=st.integers(0, 1000),
)


def found(first: Taken, second: Taken, shares: tuple[float, float], situation: Situation):
    sides = [
        Side(taken=one, right_share=np.array([share]), right_shares=np.array([share]))
        for one, share in zip((first, second), shares, strict=True)
    ]
    draws = drawn(situation, 1, np.random.default_rng(0))
    return break_even(*sides, Drawing(best=best_guess(situation), drawn=draws, seed=0, horizon_days=365))


@settings(max_examples=60, deadline=None)
@given(TAKEN, TAKEN, st.tuples(SHARES, SHARES), situations())
def test_what_one_gains_the_other_loses(
    first: Taken, second: Taken, shares: tuple[float, float], said: Situation
) -> None:
    there, back = found(first, second, shares, said), found(second, first, shares[::-1], said)
    assert there.saving_per_day == -back.saving_per_day
    assert there.setup_difference == -back.setup_difference
    assert there.band.share_within_horizon == (there.num_days is not None and there.num_days <= 365)
    if there.num_days is not None and there.num_days > 0:
        left = there.saving_per_day * there.num_days - there.setup_difference
        assert left == pytest.approx(0, abs=1e-6 * abs(there.setup_difference))


@settings(max_examples=60, deadline=None)
@given(TAKEN, SHARES, situations())
def test_a_day_costs_the_sum_of_its_lines(taken: Taken, share: float, said: Situation) -> None:
    at = best_guess(said)
    right = np.array([share])
    lines = [line.term() for line in (*costs.answering(taken, at), *costs.errors(right, at))]
    a_day = float(at.requests_per_day[0]) * sum(term.cost for term in lines)
    a_day += sum(line.term().cost for line in costs.per_year(taken, at)) / 365
    assert -float(costs.gain_per_day(taken, right, at)[0]) == pytest.approx(a_day)
    machines = costs.hosting(taken, at)
    if machines is not None:
        assert machines.peak_load <= machines.num_machines * float(at.busy_at_most[0]) + 1e-6
        assert machines.utilisation <= 1


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-1, 1),
    st.floats(-10, 10),
    st.lists(st.tuples(st.sampled_from([-1.0, 1.0]), st.floats(0, 50), st.floats(5, 500)), max_size=2),
    st.floats(0, 20),
)
def test_from_the_traffic_on_that_is_told_every_traffic_reaches_the_goal_and_from_none_below(
    gain: float, daily: float, machines: list[tuple[float, float, float]], wanted: float
) -> None:
    hosted = tuple(
        HostedShare(sign=sign, cost_per_machine_day=cost, requests_per_machine_day=capacity)
        for sign, cost, capacity in machines
    )

    def above(tried: NDArray[np.float64]) -> NDArray[np.float64]:
        gained = gain * tried + daily - wanted
        for one in hosted:
            gained += one.sign * one.cost_per_machine_day * np.maximum(1, np.ceil(tried / one.requests_per_machine_day))
        return gained

    least = smallest_traffic(gain_per_request=gain, gain_per_day=daily, hosted=hosted, wanted_per_day=wanted)
    far = np.linspace(100_000.0, 500_000.0, 500)
    if least is None:
        assert (above(far) < 1e-3).any()
    else:
        tried = least + np.concatenate([np.arange(0.001, 2000.0), far])
        assert (above(tried) >= -1e-6).all()
        if least > 0.01:
            assert above(np.array([least - 0.005]))[0] < 0.01


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_draws_stay_within_their_range(first: float, second: float, third: float) -> None:
    low, best, high = sorted((first, second, third))
    situation = Situation(bills_idle=True, **dict.fromkeys(NAMES, Range(low=low, best=best, high=high)))
    values = drawn(situation, 50, np.random.default_rng(1)).wage_per_hour
    assert ((values >= low) & (values <= high)).all()
