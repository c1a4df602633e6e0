"""From which traffic on tuning could pay at all: the costs of a study, worked out before it is run.

Nothing is known yet of how good a tuned model will be. What can be said is from how many requests a day a machine of one's own is
cheaper than a large model that is paid by the token, if both are as good; and how many fewer wrong answers tuning has to bring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fettle.advice.timing import Timing
from fettle.advice_records import Measurement, Unit
from fettle.economics import costs
from fettle.economics.break_even import Drawing, Side, break_even
from fettle.economics.costs import DAYS_PER_YEAR, Taken
from fettle.economics.priced import Endpoint, Prices, priced
from fettle.economics.quantities import Quantities, best_guess
from fettle.economics_records import Assumptions, Origin
from fettle.study.economics_words import price_text, requests_a_day
from fettle.study.planning import StudyPlan

_AS_GOOD = np.array([0.5])
"""Share of right answers, the same of both sides: whatever it is, it cancels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyLook:
    """What money says beforehand; None: it cannot be told."""

    traffic_for_hosting: Measurement | None = None
    traffic_for_hosting_is_reached: bool = False
    points_to_pay: Measurement | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a request to a large model takes."""

    model: str
    prompt_tokens: float
    answer_tokens: float


def look_at_money(
    plan: StudyPlan, timing: Timing | None, said: Assumptions, prices: Prices, large: Request | None
) -> MoneyLook:
    """Costs and traffic, as far as they can be told.

    Args:
        plan: Of the study.
        timing: What it takes here; None: it was not measured, and nothing is told.
        said: What is said of money, the machine included.
        prices: Where the rest is looked up.
        large: The large model; None: none is named.

    Raises:
        ConfigError: A price is missing, or in another currency.
    """
    if timing is None:
        return MoneyLook(
            notes=("What tuning must bring to pay was not worked out, because nothing was timed (--no-timing).",)
        )
    endpoint = (
        None if large is None else Endpoint(model=large.model, url=None, prompt_tokens_per_request=large.prompt_tokens)
    )
    found = priced(said, prices, endpoint)
    at = best_guess(found.situation)
    tuned = tuned_taken(plan, timing)
    horizon = said.tuning.horizon_days
    looked_up = list(dict.fromkeys((one.name, price_text(one)) for one in found.stated if one.is_looked_up))
    of_machine = "; ".join(dict.fromkeys(text for name, text in looked_up if name.startswith("machine.")))
    traffic, reached = None, False
    if large is not None and found.is_remote_priced:
        other = Taken(
            contender="remote",
            is_elsewhere=True,
            prompt_tokens_per_request=large.prompt_tokens,
            completion_tokens_per_request=large.answer_tokens,
            num_test_requests=len(plan.split.test),
        )
        needed = requests_to_pay(tuned, other, at, horizon)
        traffic = _traffic(needed, large.model, horizon, "; ".join(dict.fromkeys(text for _, text in looked_up)))
        reached = needed is not None and said.traffic.requests_per_day.best >= needed
    points = None
    if said.worth.cost_per_wrong_answer.origin is Origin.SAID:
        prompted = Taken(
            contender="prompt",
            seconds_per_request=tuned.seconds_per_request,
            num_test_requests=tuned.num_test_requests,
        )
        points = _points(points_to_pay(tuned, prompted, at, horizon), said, of_machine)
    return MoneyLook(
        traffic_for_hosting=traffic, traffic_for_hosting_is_reached=reached, points_to_pay=points, notes=found.notes
    )


def _points(needed: float, said: Assumptions, looked_up: str) -> Measurement | None:
    """None: a wrong answer costs nothing that would be saved."""
    if not math.isfinite(needed):
        return None
    traffic, horizon = requests_a_day(said.traffic.requests_per_day), said.tuning.horizon_days
    how = f"within {horizon} days, at {traffic}, against a prompt to the same model"
    return Measurement(
        name="points_to_pay",
        title="fewer wrong answers with which tuning has paid for itself",
        value=needed,
        unit=Unit.DIFFERENCE,
        how=f"{how}; {looked_up}" if looked_up else how,
    )


def tuned_taken(plan: StudyPlan, timing: Timing) -> Taken:
    """What the tuned contender will take."""
    return Taken(
        contender="tuned",
        seconds_per_request=timing.batched_answer_seconds,
        training_seconds=timing.training.number,
        num_labelled_examples=len(plan.split.train),
        num_test_requests=len(plan.split.test),
    )


def requests_to_pay(tuned: Taken, other: Taken, at: Quantities, horizon_days: int) -> float | None:
    """Requests a day from which the tuned model has paid within the horizon, if it is as good as the other one; None: none."""
    drawing = Drawing(best=at, drawn=at, seed=0, horizon_days=horizon_days)
    sides = [Side(taken=taken, right_share=_AS_GOOD, right_shares=_AS_GOOD) for taken in (tuned, other)]
    return break_even(sides[0], sides[1], drawing).requests_per_day_to_pay


def points_to_pay(tuned: Taken, prompted: Taken, at: Quantities, horizon_days: int) -> float:
    """By how much the share of right answers must rise until all that tuning costs within the horizon has come back, in [0, inf).

    It is (what it takes more beforehand + what it costs more a day x days) / (requests a day x days x what an error costs that
    nobody notices).
    """
    more = float((costs.total(costs.setup(tuned, at), at) - costs.total(costs.setup(prompted, at), at))[0])
    per_day = _cost_per_day(tuned, at) - _cost_per_day(prompted, at)
    unnoticed = 1 - float((at.share_checked * at.share_caught)[0])
    of_a_point = float((at.requests_per_day * at.cost_per_wrong_answer)[0]) * unnoticed * horizon_days
    return max(0.0, more + per_day * horizon_days) / of_a_point if of_a_point else math.inf


def _cost_per_day(taken: Taken, at: Quantities) -> float:
    answering = at.requests_per_day * costs.total(costs.answering(taken, at), at)
    return float((answering + costs.total(costs.per_year(taken, at), at) / DAYS_PER_YEAR)[0])


def _traffic(needed: float | None, model: str, horizon: int, looked_up: str) -> Measurement:
    how = f"a tuned model on this machine against {model}, if both are as good, within {horizon} days"
    how += f"; {looked_up}" if looked_up else ""
    title = "traffic from which a machine of your own is cheaper than the large model"
    if needed is None:
        return Measurement(name="traffic_for_hosting", title=title, value="none", unit=Unit.WORDS, how=how)
    return Measurement(name="traffic_for_hosting", title=title, value=needed, unit=Unit.REQUESTS_PER_DAY, how=how)
