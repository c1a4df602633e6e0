"""Money in sentences: when tuning has paid for itself, what was assumed, amounts with their currency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal

from fettle.economics.costs import DAYS_PER_YEAR
from fettle.economics_records import Assumptions, BreakEven, EconomicsReport, Origin, Range, Stated
from fettle.study import figures
from fettle.study.figures import NO_BREAK

_LEAST_TOLD = 0.00001
_NO_COMPARISON = "Nothing was compared whose costs are known, so that nothing can be said of when tuning pays."


def money(value: float, currency: str) -> str:
    """An amount with its currency.

    >>> money(1234.5, "USD"), money(-0.0021, "EUR")
    ('1,234.50\\xa0USD', '−0.0021\\xa0EUR')
    """
    return f"{plain_money(value)}{NO_BREAK}{currency}"


def plain_money(value: float) -> str:
    """An amount without its currency: cents, and of less than ten cents two digits."""
    return figures.fixed(value, 2) if abs(value) >= 0.1 or value == 0 else figures.significant(value, 2)


def days(number: float) -> str:
    """A time that is counted in days.

    >>> days(0.2), days(1.04), days(45.2), days(1000)
    ('less than a day', '1\\xa0day', '45\\xa0days', '2.7\\xa0years')
    """
    if number < 0.95:
        return "less than a day"
    if number >= 2 * DAYS_PER_YEAR:
        return f"{figures.significant(number / DAYS_PER_YEAR, 2)}{NO_BREAK}years"
    return figures.counted(round(number), "day")


def requests_a_day(traffic: Range) -> str:
    """How much is asked, and whether somebody has said so."""
    said = "" if traffic.origin is Origin.SAID else " (assumed)"
    return f"{figures.count(traffic.best)} requests a day{said}"


def economics_sentence(break_evens: Sequence[BreakEven], said: Assumptions, titles: Mapping[str, str]) -> str:
    """When tuning has paid for itself, or that it never does, against each opponent."""
    if not break_evens:
        return _NO_COMPARISON
    start = f"At {requests_a_day(said.traffic.requests_per_day)} and these prices: "
    return start + " ".join(break_even_sentence(one, said, titles) for one in break_evens)


def break_even_sentence(one: BreakEven, said: Assumptions, titles: Mapping[str, str]) -> str:
    """When tuning has paid for itself against one opponent, and how sure that is."""
    challenger, opponent = (titles.get(name, name) for name in (one.challenger, one.opponent))
    more = money(one.setup_difference, said.currency)
    if one.num_days is None and one.setup_difference > 0:
        told = f"{challenger} takes {more} more beforehand than {opponent} and never pays for itself: {one.reason}."
    elif one.num_days is None:
        told = f"{challenger} never pays against {opponent}, though it takes no more beforehand: {one.reason}."
    elif one.num_days == 0:
        told = f"{challenger} takes no more beforehand than {opponent}, and pays from the first day: {one.reason}."
    else:
        told = (
            f"{challenger} takes {more} more beforehand than {opponent} and has paid for itself after {days(one.num_days)} "
            f"({_requests(one.num_requests)}): {one.reason}."
        )
    return f"{told}{_what_would_help(one, said) if one.num_days is None else ''} {_sure(one, said)}"


def _what_would_help(one: BreakEven, said: Assumptions) -> str:
    ways = []
    if one.requests_per_day_to_pay is not None:
        ways.append(
            f"with {figures.counted(math.ceil(at_least(one.requests_per_day_to_pay)), 'request')} a day or more"
        )
    if one.cost_per_wrong_answer_to_pay is not None:
        least = one.cost_per_wrong_answer_to_pay
        told = f"{money(at_least(least), said.currency)} or more" if least >= _LEAST_TOLD else "anything at all"
        ways.append(f"where a wrong answer costs {told}")
    return f" It would pay within {_horizon(said)} {', or '.join(ways)}." if ways else ""


def _sure(one: BreakEven, said: Assumptions) -> str:
    band = one.band
    draws = f"of {figures.count(band.num_draws)} draws of what is uncertain"
    share = "none" if band.share_within_horizon == 0 else figures.percent(band.share_within_horizon)
    told = f"It pays within {_horizon(said)} in {share} {draws}"
    if band.low_days is not None and band.high_days is not None:
        told += f", in nine of ten after {_from_to(band.low_days, band.high_days)}"
    return f"{told}."


def _horizon(said: Assumptions) -> str:
    return figures.counted(said.tuning.horizon_days, "day")


def _from_to(low: float, high: float) -> str:
    first, last = days(low), days(high)
    if first == last:
        return first
    number, _, unit = first.partition(NO_BREAK)
    return f"{number} to {last}" if unit and unit in last else f"{first} to {last}"


def _requests(number: float | None) -> str:
    assert number is not None, "what pays some day does so after some requests"
    return "one request" if number <= 1 else f"{_rounded(number)} requests"


def at_least(value: float) -> float:
    """Two digits, rounded up: with less than what is needed it would still not pay.

    >>> at_least(74_117.6), at_least(0.0000123), at_least(3.0)
    (75000.0, 1.3e-05, 3.0)
    """
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(Decimal(repr(value))))


def _rounded(number: float) -> str:
    """A count to as many digits as a forecast can have.

    >>> _rounded(51948.3), _rounded(7.2)
    ('52,000', '8')
    """
    return figures.count(float(f"{number:.2g}") if number >= 100 else math.ceil(number))


def money_lines(economics: EconomicsReport) -> tuple[tuple[str, str], ...]:
    """What the terminal says of money, as (title, text): the sentence, prices with their days, what else to know."""
    looked_up = dict.fromkeys(price_text(one) for one in economics.stated if one.is_looked_up)
    prices = (("Prices", f"{'; '.join(looked_up)}."),) if looked_up else ()
    return (("Money", economics.sentence), *prices, *(("Note", note) for note in economics.notes))


def price_text(price: Stated) -> str:
    """A price of a table with where it comes from, and for which day."""
    return f"{range_text(price.value)} for {price.source}, {price.date or 'no day told'}"


def notes_of_assumptions(said: Assumptions) -> tuple[str, ...]:
    """What is not counted, because nobody has said what it costs."""
    people = said.people
    missing = []
    if people.labelling_minutes_per_example.high == 0 or people.wage_per_hour.high == 0:
        missing.append("labelling")
    if people.share_checked.high == 0 or people.minutes_per_check.high == 0 or people.wage_per_hour.high == 0:
        missing.append("checking")
    if said.worth.cost_per_wrong_answer.high == 0:
        missing.append("wrong answers")
    if not missing:
        return ()
    listed = f"{', '.join(missing[:-1])} and {missing[-1]}" if len(missing) > 1 else missing[0]
    return (f"Not counted, because nobody has said what they cost: {listed}.",)


def range_text(value: Range) -> str:
    """A number, with its range where it has one.

    >>> range_text(Range(low=200, best=1000, high=5000)), range_text(Range(low=0.5, best=0.5, high=0.5))
    ('1,000 (200 to 5,000)', '0.5')
    """
    best, low, high = (f"{number:,.10g}" for number in (value.best, value.low, value.high))
    return best if value.is_known else f"{best} ({low} to {high})"
