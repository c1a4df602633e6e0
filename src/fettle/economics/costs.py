"""What a contender costs, line by line: answering, checking, errors, setting up, training again.

Every line is a quantity times a price. All arrays are [D], draws; see `quantities`. What a right answer costs is the cost of a
request divided by the share of right answers (Erol et al. 2025, "Cost-of-Pass").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fettle.economics.quantities import Numbers, Quantities
from fettle.economics_records import CostTerm, Hosting

SECONDS_PER_HOUR = 3600.0
DAYS_PER_YEAR = 365.0
DAYS_PER_MONTH = 30.0
_MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one contender takes, measured."""

    contender: str
    is_elsewhere: bool = False
    """An endpoint answers, and bills tokens."""
    needs_machine: bool = True
    """Whether something must be computed here for an answer."""
    seconds_per_request: float = 0.0
    """Of a machine here that is kept busy."""
    prompt_tokens_per_request: float = 0.0
    completion_tokens_per_request: float = 0.0
    training_seconds: float | None = None
    """None: nothing was trained."""
    num_labelled_examples: int = 0
    """Examples that it learns from."""
    num_test_requests: int = 0
    """Answered to tell how good it is."""

    @property
    def learns(self) -> bool:
        """Whether it is made from labelled examples, and can be made again from new ones."""
        return self.training_seconds is not None or self.num_labelled_examples > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """One line of a calculation for every draw."""

    name: str
    quantity: Numbers
    unit: str
    price: Numbers

    @property
    def cost(self) -> Numbers:
        """Of this line."""
        return self.quantity * self.price

    def term(self) -> CostTerm:
        """The line of the first draw."""
        quantity, price = float(self.quantity[0]), float(self.price[0])
        return CostTerm(name=self.name, quantity=quantity, unit=self.unit, price=price, cost=quantity * price)


def peak_load(taken: Taken, at: Quantities) -> Numbers:
    """Machines' worth of work in the busy hours."""
    per_busy_hour = at.requests_per_day * at.busy_share / at.busy_hours_per_day
    even = (
        at.requests_per_day / at.hosted_hours_per_day
    )  # hours outside may be the busier ones, where the share is small
    return np.maximum(per_busy_hour, even) * taken.seconds_per_request / SECONDS_PER_HOUR


def num_machines(taken: Taken, at: Quantities) -> Numbers:
    """Machines that must be there, at least one."""
    return np.maximum(1.0, np.ceil(peak_load(taken, at) / at.busy_at_most - 1e-9))


def hosting(taken: Taken, at: Quantities) -> Hosting | None:
    """The machines at the first draw; None: there are none, or they are billed by the second."""
    if not _is_hosted(taken, at):
        return None
    machines = num_machines(taken, at)
    billed_hours = machines * at.hosted_hours_per_day
    used_hours = at.requests_per_day * taken.seconds_per_request / SECONDS_PER_HOUR
    return Hosting(
        num_machines=int(machines[0]),
        peak_load=float(peak_load(taken, at)[0]),
        utilisation=float((used_hours / billed_hours)[0]),
    )


def answering(taken: Taken, at: Quantities) -> list[Amounts]:
    """Of one request; machines that wait are shared among the day's requests."""
    if taken.is_elsewhere:
        return _tokens(taken, at)
    if not taken.needs_machine:
        return []
    if _is_hosted(taken, at):
        hours = num_machines(taken, at) * at.hosted_hours_per_day / at.requests_per_day
        return [_machine_time("machine time, waiting included", hours, at.price_per_serving_hour)]
    hours = np.full_like(at.requests_per_day, taken.seconds_per_request / SECONDS_PER_HOUR)
    return [_machine_time("machine time", hours, at.price_per_serving_hour)]


def wrong_share(right_share: Numbers, at: Quantities) -> Numbers:
    """Share of all requests whose wrong answer nobody notices."""
    return (1 - right_share) * (1 - at.share_checked * at.share_caught)


def errors(right_share: Numbers, at: Quantities) -> list[Amounts]:
    """What comes after the answer of one request."""
    checking = at.share_checked * at.minutes_per_check / 60
    wrong = wrong_share(right_share, at)
    return [
        Amounts(name="checking", quantity=checking, unit="hours of work", price=at.wage_per_hour),
        Amounts(name="wrong answers", quantity=wrong, unit="wrong answers", price=at.cost_per_wrong_answer),
    ]


def setup(taken: Taken, at: Quantities) -> list[Amounts]:
    """Paid once."""
    labelling = np.full_like(at.wage_per_hour, taken.num_labelled_examples)
    return [*_training(taken, at, 1.0), *_labelling(labelling, at)]


def per_year(taken: Taken, at: Quantities) -> list[Amounts]:
    """Of training again with new examples."""
    if not taken.learns:
        return []
    new = at.retrainings_per_year * at.new_examples_per_retraining
    return [*_training(taken, at, at.retrainings_per_year), *_labelling(new, at)]


def gain_per_day(taken: Taken, right_share: Numbers, at: Quantities) -> Numbers:
    """What all right answers of a day are worth, less all that they cost; without a value, the cost alone below zero."""
    worth = (1 - wrong_share(right_share, at)) * at.value_per_right_answer
    cost = total([*answering(taken, at), *errors(right_share, at)], at)
    return at.requests_per_day * (worth - cost) - total(per_year(taken, at), at) / DAYS_PER_YEAR


def total(lines: list[Amounts], at: Quantities) -> Numbers:
    """The sum of some lines."""
    return sum((line.cost for line in lines), np.zeros_like(at.requests_per_day))


def _is_hosted(taken: Taken, at: Quantities) -> bool:
    return taken.needs_machine and not taken.is_elsewhere and at.bills_idle


def _training(taken: Taken, at: Quantities, times: float | Numbers) -> list[Amounts]:
    """So many trainings with the test that each is followed by."""
    ones = np.ones_like(at.requests_per_day)
    lines = []
    if taken.training_seconds is not None:
        hours = times * ones * taken.training_seconds / SECONDS_PER_HOUR
        lines.append(_machine_time("training", hours, at.price_per_training_hour))
    num_requests = times * ones * taken.num_test_requests
    if taken.is_elsewhere:
        lines += [
            Amounts(name=f"test: {one.name}", quantity=one.quantity * num_requests, unit=one.unit, price=one.price)
            for one in _tokens(taken, at)
        ]
    elif taken.needs_machine:
        hours = num_requests * taken.seconds_per_request / SECONDS_PER_HOUR
        lines.append(_machine_time("test", hours, at.price_per_training_hour))
    return lines


def _labelling(num_examples: Numbers, at: Quantities) -> list[Amounts]:
    hours = num_examples * at.labelling_minutes_per_example / 60
    return [Amounts(name="labelling", quantity=hours, unit="hours of work", price=at.wage_per_hour)]


def _machine_time(name: str, hours: Numbers, price: Numbers) -> Amounts:
    return Amounts(name=name, quantity=hours, unit="machine hours", price=price)


def _tokens(taken: Taken, at: Quantities) -> list[Amounts]:
    prompt = taken.prompt_tokens_per_request / _MILLION
    written = np.full_like(at.cached_share, taken.completion_tokens_per_request / _MILLION)
    unit = "million tokens"
    return [
        Amounts(name="prompt", quantity=prompt * (1 - at.cached_share), unit=unit, price=at.price_per_million_input_tokens),
        Amounts(name="cached prompt", quantity=prompt * at.cached_share, unit=unit,
                price=at.price_per_million_cached_input_tokens),
        Amounts(name="answer", quantity=written, unit=unit, price=at.price_per_million_output_tokens),
    ]  # fmt: skip
