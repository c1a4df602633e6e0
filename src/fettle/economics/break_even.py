"""When the tuned contender has paid for itself against another one: in closed form for the best guess, and over draws.

What is paid beforehand is the difference of both contenders' set-up; what comes back is the difference of their days. Days are
alike, so that the point is one division; a simulation day by day agrees (`tests/numbers/test_break_even_simulated.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fettle.economics import costs
from fettle.economics.costs import DAYS_PER_YEAR, Taken, gain_per_day, total
from fettle.economics.needed_traffic import HostedShare, smallest_traffic
from fettle.economics.quantities import Numbers, Quantities
from fettle.economics_records import BalancePoint, Band, BreakEven

_LOW, _HIGH = 0.05, 0.95
_NUM_POINTS = 24
_SAVED = {
    "answering": "cheaper answering",
    "checking": "less checking",
    "wrong answers": "fewer wrong answers",
    "training again": "less training",
    "right answers": "the value of more right answers",
}
_LOST = {
    "answering": "dearer answering",
    "checking": "more checking",
    "wrong answers": "more wrong answers",
    "training again": "training again",
    "right answers": "fewer right answers",
}
_LEAST_DAYS_SHOWN, _MOST_DAYS_SHOWN = 7.0, 3650.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One contender with its share of right answers, as best known and as drawn."""

    taken: Taken
    right_share: Numbers
    """[1]"""
    right_shares: Numbers
    """[D]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What everything uncertain was drawn from."""

    best: Quantities
    drawn: Quantities
    seed: int
    horizon_days: int


def break_even(challenger: Side, opponent: Side, drawing: Drawing) -> BreakEven:
    """When what tuning costs beforehand has come back.

    Args:
        challenger: The tuned contender.
        opponent: The other one.
        drawing: The best guess of everything, and draws.
    """
    best = drawing.best
    difference = float(_setup_difference(challenger.taken, opponent.taken, best)[0])
    gains = [gain_per_day(side.taken, side.right_share, best) for side in (challenger, opponent)]
    saving = float((gains[0] - gains[1])[0])
    days = days_to_pay(difference, saving)
    requests_per_day = float(best.requests_per_day[0])
    differences = _setup_difference(challenger.taken, opponent.taken, drawing.drawn)
    drawn_gains = [gain_per_day(side.taken, side.right_shares, drawing.drawn) for side in (challenger, opponent)]
    savings = drawn_gains[0] - drawn_gains[1]
    return BreakEven(
        challenger=challenger.taken.contender,
        opponent=opponent.taken.contender,
        setup_difference=difference,
        saving_per_day=saving,
        num_days=days,
        num_requests=None if days is None else days * requests_per_day,
        requests_per_day_to_pay=_traffic_to_pay(challenger, opponent, best, difference, drawing.horizon_days),
        cost_per_wrong_answer_to_pay=_cost_to_pay(challenger, opponent, best, difference, saving, drawing.horizon_days),
        reason=_reason(challenger, opponent, best, difference, saving),
        band=_band(differences, savings, drawing, num_days=days),
        balance=_balance(difference, saving, differences, savings, days=days, horizon_days=drawing.horizon_days),
    )


def days_to_pay(setup_difference: float, saving_per_day: float) -> float | None:
    """Days until what was paid beforehand has come back; None: never.

    >>> days_to_pay(120.0, 4.0), days_to_pay(120.0, -1.0), days_to_pay(-5.0, 1.0)
    (30.0, None, 0.0)
    """
    if saving_per_day > 0:
        return max(0.0, setup_difference) / saving_per_day
    return 0.0 if saving_per_day == 0 and setup_difference <= 0 else None


def _setup_difference(challenger: Taken, opponent: Taken, at: Quantities) -> Numbers:
    return total(costs.setup(challenger, at), at) - total(costs.setup(opponent, at), at)


def hosted_share(taken: Taken, at: Quantities, sign: float) -> tuple[HostedShare, ...]:
    """The machines of a contender in a balance, at the first draw; none where none are paid by the day."""
    if costs.hosting(taken, at) is None:
        return ()
    load = float(costs.peak_load(taken, at)[0])
    capacity = float(at.busy_at_most[0] * at.requests_per_day[0]) / load if load else np.inf
    cost = float((at.hosted_hours_per_day * at.price_per_serving_hour)[0])
    return (HostedShare(sign=sign, cost_per_machine_day=cost, requests_per_machine_day=capacity),)


def gain_by_request(side: Side, at: Quantities) -> float:
    """What one request gains at the best guess, without what is paid by the day."""
    worth = (1 - costs.wrong_share(side.right_share, at)) * at.value_per_right_answer
    lines = costs.errors(side.right_share, at)
    if costs.hosting(side.taken, at) is None:
        lines += costs.answering(side.taken, at)
    return float((worth - total(lines, at))[0])


def gain_by_day(side: Side, at: Quantities) -> float:
    """What a day gains whatever is asked, without machines: what training again costs, below zero."""
    return -float(total(costs.per_year(side.taken, at), at)[0]) / DAYS_PER_YEAR


def _traffic_to_pay(
    challenger: Side, opponent: Side, best: Quantities, difference: float, horizon_days: int
) -> float | None:
    return smallest_traffic(
        gain_per_request=gain_by_request(challenger, best) - gain_by_request(opponent, best),
        gain_per_day=gain_by_day(challenger, best) - gain_by_day(opponent, best),
        hosted=(*hosted_share(challenger.taken, best, -1.0), *hosted_share(opponent.taken, best, 1.0)),
        wanted_per_day=difference / horizon_days,
    )


def _cost_to_pay(
    challenger: Side, opponent: Side, best: Quantities, difference: float, saving: float, horizon_days: int
) -> float | None:
    """From horizon x (saving + requests x fewer errors x (cost - today's cost)) = difference."""
    fewer = (costs.wrong_share(opponent.right_share, best) - costs.wrong_share(challenger.right_share, best))[0]
    fewer_per_day = float(fewer * best.requests_per_day[0])
    if fewer_per_day <= 0:
        return None
    today = float(best.cost_per_wrong_answer[0])
    return max(0.0, today + (difference / horizon_days - saving) / fewer_per_day)


def _reason(challenger: Side, opponent: Side, best: Quantities, difference: float, saving: float) -> str:
    """What of a day's difference weighs most, in words."""
    parts = _day_parts(challenger, opponent, best)
    if saving > 0:
        return f"most of what a day saves is {_SAVED[max(parts, key=lambda name: parts[name])]}"
    if saving < 0:
        return f"a day costs more with it, most of all for {_LOST[min(parts, key=lambda name: parts[name])]}"
    return "a day costs the same with both" + (", so that nothing comes back" if difference > 0 else "")


def _day_parts(challenger: Side, opponent: Side, at: Quantities) -> dict[str, float]:
    """What is saved in a day, by what it is saved in."""

    def parts(side: Side) -> dict[str, float]:
        requests = at.requests_per_day
        checking, wrong = costs.errors(side.right_share, at)
        right = (1 - costs.wrong_share(side.right_share, at)) * at.value_per_right_answer
        return {
            "answering": float((requests * total(costs.answering(side.taken, at), at))[0]),
            "checking": float((requests * checking.cost)[0]),
            "wrong answers": float((requests * wrong.cost)[0]),
            "training again": float((total(costs.per_year(side.taken, at), at) / DAYS_PER_YEAR)[0]),
            "right answers": -float((requests * right)[0]),
        }

    ours, theirs = parts(challenger), parts(opponent)
    return {name: theirs[name] - ours[name] for name in ours}


def _band(differences: Numbers, savings: Numbers, drawing: Drawing, *, num_days: float | None) -> Band:
    """Around the best guess, which lies within whatever was drawn."""
    pays = (savings > 0) | ((savings == 0) & (differences <= 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        days = np.where(savings > 0, np.maximum(0.0, differences) / savings, 0.0)
    days = np.where(pays, days, np.inf)
    quantiles = np.quantile(days, [_LOW, 0.5, _HIGH], method="inverted_cdf")
    best = np.inf if num_days is None else num_days
    around = (min(quantiles[0], best), quantiles[1], max(quantiles[2], best))
    low, median, high = (float(value) if np.isfinite(value) else None for value in around)
    return Band(
        num_draws=len(days),
        seed=drawing.seed,
        share_within_horizon=float(np.mean(days <= drawing.horizon_days)),
        share_never=float(np.mean(~pays)),
        low_days=low,
        median_days=median,
        high_days=high,
    )


def _balance(
    difference: float, saving: float, differences: Numbers, savings: Numbers, *, days: float | None, horizon_days: int
) -> tuple[BalancePoint, ...]:
    """Twice as far as it takes to pay, or to the horizon where it never does."""
    last = float(horizon_days) if days is None else min(_MOST_DAYS_SHOWN, max(_LEAST_DAYS_SHOWN, 2 * days))
    points = []
    for day in np.linspace(0.0, last, _NUM_POINTS + 1):
        best = float(saving * day - difference)
        low, high = (float(end) for end in np.quantile(savings * day - differences, [_LOW, _HIGH]))
        points.append(BalancePoint(day=float(day), best=best, low=min(low, best), high=max(high, best)))
    return tuple(points)
