"""Costs, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from money import LARGE, PROMPT, SITUATION, TUNED, said

from fettle.economics import costs
from fettle.economics.costs import total
from fettle.economics.quantities import best_guess


def cost(lines, at) -> float:
    return float(total(lines, at)[0])


def test_tokens_are_billed_by_their_kind() -> None:
    at = best_guess(said(cached_share=0.4))
    # 300 at 2, 200 cached at 0.5, 100 written at 8, by the million
    assert cost(costs.answering(LARGE, at), at) == pytest.approx((300 * 2 + 200 * 0.5 + 100 * 8) / 1e6)
    names = [(line.name, float(line.quantity[0])) for line in costs.answering(LARGE, at)]
    assert names == [
        ("prompt", pytest.approx(3e-4)),
        ("cached prompt", pytest.approx(2e-4)),
        ("answer", pytest.approx(1e-4)),
    ]


def test_a_machine_that_waits_is_shared_among_the_days_requests() -> None:
    at = best_guess(SITUATION)
    # 900 requests in a busy hour of a second each: a quarter of a machine, and one has to be there
    found = costs.hosting(TUNED, at)
    assert found is not None
    assert (found.num_machines, found.peak_load) == (1, pytest.approx(0.25))
    assert found.utilisation == pytest.approx(10_000 / (24 * 3600))
    assert cost(costs.answering(TUNED, at), at) == pytest.approx(24 * 0.5 / 10_000)


def test_machines_suffice_for_the_busiest_hour() -> None:
    at = best_guess(said(requests_per_day=100_000))
    # 9,000 s of work in an hour are 2.5 machines; half busy at most they are five
    found = costs.hosting(TUNED, at)
    assert found is not None
    assert (found.num_machines, found.peak_load) == (5, pytest.approx(2.5))
    assert cost(costs.answering(TUNED, at), at) == pytest.approx(5 * 24 * 0.5 / 100_000)


def test_a_machine_billed_by_the_second_costs_the_seconds() -> None:
    at = best_guess(replace(SITUATION, bills_idle=False))
    assert costs.hosting(TUNED, at) is None
    assert cost(costs.answering(TUNED, at), at) == pytest.approx(0.5 / 3600)


def test_what_needs_no_machine_costs_nothing() -> None:
    at = best_guess(SITUATION)
    constant = replace(PROMPT, needs_machine=False)
    assert costs.answering(constant, at) == []
    assert costs.hosting(constant, at) is None


def test_checks_catch_errors_and_cost_time() -> None:
    at = best_guess(
        said(share_checked=0.5, share_caught=0.8, minutes_per_check=3, wage_per_hour=40, cost_per_wrong_answer=5)
    )
    right = np.array([0.9])
    # half of all are checked for 3 minutes; of the tenth that is wrong 0.6 get through
    assert float(costs.wrong_share(right, at)[0]) == pytest.approx(0.1 * 0.6)
    assert cost(costs.errors(right, at), at) == pytest.approx(0.5 * 3 / 60 * 40 + 0.06 * 5)


def test_setting_up_is_training_testing_and_labelling() -> None:
    at = best_guess(said(labelling_minutes_per_example=2, wage_per_hour=30))
    tuned = replace(TUNED, num_test_requests=1800)
    # 2 h and half an hour of a machine at 3, 600 examples of 2 minutes at 30 an hour
    assert cost(costs.setup(tuned, at), at) == pytest.approx(2 * 3 + 0.5 * 3 + 600 * 2 / 60 * 30)
    asked = replace(LARGE, num_test_requests=1000)
    assert cost(costs.setup(asked, at), at) == pytest.approx(1000 * (500 * 2 + 100 * 8) / 1e6)


def test_training_again_takes_new_examples() -> None:
    at = best_guess(
        said(retrainings_per_year=4, new_examples_per_retraining=100, labelling_minutes_per_example=3, wage_per_hour=20)
    )
    assert cost(costs.per_year(TUNED, at), at) == pytest.approx(4 * 2 * 3 + 4 * 100 * 3 / 60 * 20)
    assert costs.per_year(LARGE, at) == []


def test_a_term_is_its_quantity_times_its_price() -> None:
    at = best_guess(SITUATION)
    for line in (*costs.answering(LARGE, at), *costs.answering(TUNED, at), *costs.setup(TUNED, at)):
        term = line.term()
        assert term.cost == term.quantity * term.price == pytest.approx(float(line.cost[0]))


def test_a_day_gains_what_its_right_answers_are_worth() -> None:
    at = best_guess(said(value_per_right_answer=0.01, cost_per_wrong_answer=0.02))
    gain = float(costs.gain_per_day(TUNED, np.array([0.8]), at)[0])
    assert gain == pytest.approx(10_000 * (0.8 * 0.01 - 0.2 * 0.02) - 12)
