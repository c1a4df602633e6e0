"""When tuning has paid for itself, worked out by hand; "never" is a normal answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from money import LARGE, PROMPT, SITUATION, TUNED, drawing, said, side

from fettle.economics.break_even import break_even
from fettle.economics.needed_traffic import MOST_REQUESTS_PER_DAY, HostedShare, smallest_traffic
from fettle.economics_records import Range


def test_against_a_large_model_by_hand() -> None:
    found = break_even(side(TUNED), side(LARGE), drawing(SITUATION))
    # 2 h of training at 3; a request of the large model is 0.0018, a day 18; a machine is 12 a day
    assert found.setup_difference == pytest.approx(6.0)
    assert found.saving_per_day == pytest.approx(6.0)
    assert found.num_days == pytest.approx(1.0)
    assert found.num_requests == pytest.approx(10_000)
    assert found.reason == "most of what a day saves is cheaper answering"
    # 0.0018 q - 12 = 6 / 365
    assert found.requests_per_day_to_pay == pytest.approx((12 + 6 / 365) / 0.0018)


def test_labelling_delays_it() -> None:
    found = break_even(side(TUNED), side(LARGE), drawing(said(labelling_minutes_per_example=1, wage_per_hour=60)))
    assert found.num_days == pytest.approx((6 + 600) / 6)


def test_never_where_a_machine_costs_more_than_the_large_model() -> None:
    found = break_even(side(TUNED), side(LARGE), drawing(said(requests_per_day=1000)))
    assert found.saving_per_day == pytest.approx(1.8 - 12)
    assert found.num_days is None
    assert found.num_requests is None
    assert found.reason == "a day costs more with it, most of all for dearer answering"
    assert found.band.share_never == 1.0
    assert found.band.median_days is None
    assert found.requests_per_day_to_pay == pytest.approx((12 + 6 / 365) / 0.0018)


def test_never_where_nothing_tells_them_apart_but_what_errors_would_have_to_cost() -> None:
    found = break_even(side(TUNED, 0.9), side(PROMPT, 0.7), drawing(SITUATION))
    assert found.saving_per_day == 0
    assert found.num_days is None
    assert found.requests_per_day_to_pay is None
    assert found.reason == "a day costs the same with both, so that nothing comes back"
    # 2,000 fewer errors a day have to bring 6 in 365 days
    assert found.cost_per_wrong_answer_to_pay == pytest.approx(6 / 365 / 2000)
    priced = drawing(said(cost_per_wrong_answer=found.cost_per_wrong_answer_to_pay or 0.0))
    assert break_even(side(TUNED, 0.9), side(PROMPT, 0.7), priced).num_days == pytest.approx(365)


def test_no_price_of_errors_helps_a_model_that_makes_more_of_them() -> None:
    found = break_even(side(TUNED, 0.7), side(PROMPT, 0.9), drawing(said(cost_per_wrong_answer=0.1)))
    assert found.cost_per_wrong_answer_to_pay is None
    assert found.num_days is None
    assert found.reason == "a day costs more with it, most of all for more wrong answers"


def test_training_again_is_paid_every_year() -> None:
    found = break_even(side(TUNED), side(LARGE), drawing(said(retrainings_per_year=365)))
    assert found.saving_per_day == pytest.approx(18 - 12 - 6)
    assert found.num_days is None


def test_the_value_of_right_answers_counts() -> None:
    found = break_even(
        side(TUNED, 0.9), side(LARGE, 0.8), drawing(said(requests_per_day=1000, value_per_right_answer=1))
    )
    assert found.saving_per_day == pytest.approx(1.8 - 12 + 100)


def test_the_band_holds_the_draws() -> None:
    situation = said(requests_per_day=Range(low=6000, best=10_000, high=20_000))
    found = break_even(side(TUNED, 0.8, 4000), side(LARGE, 0.8, 4000), drawing(situation, num_draws=4000))
    band = found.band
    # it saves from 6,667 a day on
    assert band.share_never == pytest.approx((6666.7 - 6000) ** 2 / (14_000 * 4000), abs=0.005)
    assert band.low_days is not None
    assert band.median_days is not None
    assert band.low_days < band.median_days
    assert 0.9 < band.share_within_horizon <= 1 - band.share_never
    assert found.balance[0].best == pytest.approx(-6)
    assert all(point.low <= point.high for point in found.balance)


def test_the_best_guess_lies_within_the_band_wherever_it_lies_in_its_range() -> None:
    for best in (8000, 40_000):
        situation = said(requests_per_day=Range(low=8000, best=best, high=40_000))
        found = break_even(side(TUNED, 0.8, 500), side(LARGE, 0.8, 500), drawing(situation, num_draws=500))
        assert all(point.low <= point.best <= point.high for point in found.balance)
        assert found.num_days is not None
        assert found.band.low_days is not None
        assert found.band.high_days is not None
        assert found.band.low_days <= found.num_days <= found.band.high_days


def test_the_same_seed_draws_the_same() -> None:
    situation = said(requests_per_day=Range(low=6000, best=10_000, high=20_000))
    bands = [
        break_even(side(TUNED, 0.8, 50), side(LARGE, 0.8, 50), drawing(situation, num_draws=50, seed=s)).band
        for s in (1, 1, 2)
    ]
    assert bands[0] == bands[1] != bands[2]


def test_another_machine_can_take_the_saving_back() -> None:
    # a machine of 10 a day takes 100 requests of 0.15: 5 are gained at 100, 5 lost at 101, and nothing at 200 and 201
    one = HostedShare(sign=-1, cost_per_machine_day=10.0, requests_per_machine_day=100.0)
    traffic = {
        wanted: smallest_traffic(gain_per_request=0.15, gain_per_day=0.0, hosted=(one,), wanted_per_day=wanted)
        for wanted in (0.0, 5.0, 5.1)
    }
    assert traffic[0.0] == pytest.approx(20 / 0.15)
    assert traffic[5.0] == pytest.approx(35 / 0.15)
    assert traffic[5.1] == pytest.approx(45.1 / 0.15)
    nothing = smallest_traffic(gain_per_request=0.09, gain_per_day=0.0, hosted=(one,), wanted_per_day=0.0)
    assert nothing is None
    free = replace(one, cost_per_machine_day=0.0)
    assert smallest_traffic(gain_per_request=0.1, gain_per_day=0.0, hosted=(free,), wanted_per_day=0.0) == 0.0
    assert MOST_REQUESTS_PER_DAY > 1e6


def test_no_traffic_pays_where_every_request_costs_more() -> None:
    assert smallest_traffic(gain_per_request=-0.001, gain_per_day=0.0, hosted=(), wanted_per_day=0.0) is None
    assert smallest_traffic(gain_per_request=-0.001, gain_per_day=0.0, hosted=(), wanted_per_day=-3.0) is None
    assert smallest_traffic(gain_per_request=0.0, gain_per_day=0.0, hosted=(), wanted_per_day=0.0) == 0.0
    # its test costs less than that of the large model (100 x 0.0018), and its errors far more
    cheap = replace(TUNED, training_seconds=0.0, num_labelled_examples=0)
    large = replace(LARGE, num_test_requests=100)
    worse = break_even(side(cheap, 0.5), side(large, 0.9), drawing(said(cost_per_wrong_answer=1)))
    assert worse.setup_difference == pytest.approx(-0.18)
    assert worse.num_days is None
    assert worse.requests_per_day_to_pay is None
