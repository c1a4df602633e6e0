"""What a study says of money: dated prices, what was assumed, costs, when tuning has paid for itself. Frozen, plain data.

All money is in one currency, the user's (`Assumptions.currency`), and never rounded here. Shares are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fettle.records import Interval

# ---------------------------------------------------------------------------------------------------- prices


class PriceUnit(StrEnum):
    """What a price is for."""

    MILLION_INPUT_TOKENS = "million input tokens"
    MILLION_CACHED_INPUT_TOKENS = "million cached input tokens"
    MILLION_OUTPUT_TOKENS = "million output tokens"
    MILLION_TRAINING_TOKENS = "million training tokens"
    MACHINE_HOUR = "machine hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one unit of something costs, who says so, and when it was so."""

    name: str
    """Of what is bought: a model, a machine."""
    value: float
    unit: PriceUnit
    source: str
    date: str | None
    """The day for which the source tells it, as YYYY-MM-DD; "YYYY-MM-DD (read)": it tells none, and was read on that one; None:
    neither is known."""
    currency: str = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrices:
    """What a hosted model bills."""

    input: Price
    output: Price
    cached_input: Price | None
    """None: cached tokens are billed as others."""


# ---------------------------------------------------------------------------------------------------- assumptions


class Origin(StrEnum):
    """Where an assumption comes from."""

    SAID = "said"
    """By the user."""
    ASSUMED = "assumed"
    """By Fettle, because nobody has said anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number that is known more or less well. All three are the same where it is known."""

    low: float
    best: float
    high: float
    origin: Origin = Origin.SAID

    @property
    def is_known(self) -> bool:
        """Whether it has one value."""
        return self.low == self.high


def exactly(value: float, origin: Origin = Origin.SAID) -> Range:
    """A number that is known.

    >>> exactly(8.0).is_known
    True
    """
    return Range(low=value, best=value, high=value, origin=origin)


def _assumed(low: float, best: float, high: float) -> Range:
    return Range(low=low, best=best, high=high, origin=Origin.ASSUMED)


def _assume(value: float) -> Range:
    return exactly(value, Origin.ASSUMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is asked of whatever answers."""

    requests_per_day: Range = field(default_factory=lambda: _assumed(200, 1000, 5000))
    busy_hours_per_day: Range = field(default_factory=lambda: _assume(8))
    """Hours in which `busy_share` of a day's requests come, evenly: machines must suffice for them."""
    busy_share: Range = field(default_factory=lambda: _assume(0.8))
    cached_share: Range = field(default_factory=lambda: _assume(0))
    """Share of the prompt tokens that an endpoint bills as cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What trains and answers here."""

    name: str | None = None
    """Its entry in the price table, for what is not said below; None: `gpu` where the study ran on one, else `cpu`."""
    price_per_training_hour: Range | None = None
    """None: that of the table."""
    price_per_serving_hour: Range | None = None
    """None: that of the table."""
    hosted_hours_per_day: Range = field(default_factory=lambda: _assume(24))
    """Hours a day for which a machine is rented."""
    bills_idle: bool = True
    """Whether hours in which nothing is asked are billed; if not, the seconds of each request are."""
    busy_at_most: Range = field(default_factory=lambda: _assume(0.7))
    """Share of a machine's time that may be in use before another one is needed, in the busy hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """What people's time costs."""

    wage_per_hour: Range = field(default_factory=lambda: _assume(0))
    share_checked: Range = field(default_factory=lambda: _assume(0))
    """Share of the answers that somebody looks at."""
    minutes_per_check: Range = field(default_factory=lambda: _assume(0))
    share_caught: Range = field(default_factory=lambda: _assume(1))
    """Share of the wrong ones among the checked that are noticed, and put right."""
    labelling_minutes_per_example: Range = field(default_factory=lambda: _assume(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What right and wrong answers are worth."""

    cost_per_wrong_answer: Range = field(default_factory=lambda: _assume(0))
    value_per_right_answer: Range | None = None
    """None: no net value is told."""
    right_from_score: float | None = None
    """An answer with at least this score is right; None: its score is the share of it that is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How often tuning is repeated, and how long it may take to pay."""

    retrainings_per_year: Range = field(default_factory=lambda: _assume(0))
    new_examples_per_retraining: Range = field(default_factory=lambda: _assume(0))
    """Examples that are labelled for each."""
    horizon_days: int = 365
    """Days within which it should have paid for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """What the endpoint of the remote contender bills."""

    model: str | None = None
    """The name that the price table knows it by; None: its own."""
    price_per_million_input_tokens: Range | None = None
    """None: that of the table, as the next two."""
    price_per_million_cached_input_tokens: Range | None = None
    price_per_million_output_tokens: Range | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """Everything about money that a user may say. What is not said is assumed, and every report says so."""

    currency: str = "USD"
    usd: float | None = None
    """What one US dollar is in `currency`, for prices of the table; None: the currency is the dollar."""
    traffic: Traffic = field(default_factory=Traffic)
    machine: Machine = field(default_factory=Machine)
    people: People = field(default_factory=People)
    worth: Worth = field(default_factory=Worth)
    tuning: Tuning = field(default_factory=Tuning)
    remote: Remote = field(default_factory=Remote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One assumption, as a report prints it."""

    name: str
    """Its place in the file of assumptions, such as `traffic.requests_per_day`."""
    value: Range
    source: str
    """`said`, `assumed`, or where a price comes from."""
    date: str | None = None
    """Of a price that was looked up, as of `Price`."""
    is_looked_up: bool = False
    """Whether it is a price from a table."""


# ---------------------------------------------------------------------------------------------------- costs


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTerm:
    """One line of a calculation: `quantity` times `price` is `cost`."""

    name: str
    quantity: float
    unit: str
    price: float
    """Of one unit."""
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """The machines that a contender needs at the busiest time."""

    num_machines: int
    peak_load: float
    """Machines' worth of work in the busy hours."""
    utilisation: float
    """Share of the billed machine time in which something is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderCost:
    """What one contender costs at the assumed traffic. Sums are of the terms' costs."""

    contender: str
    right_share: Interval
    """Share of all requests that it answers rightly; requests that failed are not answered rightly."""
    terms: tuple[CostTerm, ...]
    """Of answering one request."""
    terms_of_errors: tuple[CostTerm, ...]
    """Of what comes after an answer, for one request: checking, and what wrong answers cost."""
    setup_terms: tuple[CostTerm, ...]
    """Paid once, before the first request."""
    terms_per_year: tuple[CostTerm, ...]
    """Of training again."""
    hosting: Hosting | None
    """None: it needs no machine here, or one that is billed by the second."""
    wrong_share: float
    """Share of all requests whose wrong answer nobody notices."""
    cost_per_correct_answer: float | None
    """None: it gives none."""
    net_value_per_month: float | None
    """Of 30 days; None: the value of a right answer was not said."""
    requests_per_day_for_margin: float | None
    """From so many requests a day on answers are worth what they cost, however many more come; None: from none, or no value
    was said."""
    latency_seconds_p50: float | None
    latency_seconds_p95: float | None
    latency_seconds_p99: float | None

    @property
    def cost_per_request(self) -> float:
        """Of answering."""
        return sum(term.cost for term in self.terms)

    @property
    def full_cost_per_request(self) -> float:
        """Of answering, checking and wrong answers."""
        return self.cost_per_request + sum(term.cost for term in self.terms_of_errors)

    @property
    def setup_cost(self) -> float:
        """Of what is paid once."""
        return sum(term.cost for term in self.setup_terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostBands:
    """What one contender costs, with the band in which nine of ten draws of everything uncertain lie."""

    contender: str
    currency: str
    cost_per_request: Interval
    """Of answering, as in `ContenderCost`."""
    cost_per_correct_answer: Interval | None
    """None: it gives none."""
    terms: tuple[CostTerm, ...]
    """Of answering one request, at the best guess."""
    requests_per_day: Range
    looked_up: tuple[Stated, ...]
    """Prices that nobody has said."""


# ---------------------------------------------------------------------------------------------------- break-even


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancePoint:
    """What has been saved by some day, setup included; below zero it has not paid yet."""

    day: float
    best: float
    low: float
    """5 % of the draws are below, or fewer, as the best guess is not."""
    high: float
    """5 % of the draws are above, or fewer, as the best guess is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What came of drawing everything that is uncertain."""

    num_draws: int
    seed: int
    share_within_horizon: float
    """Draws in which it has paid within the horizon."""
    share_never: float
    """Draws in which it never pays, however long one waits."""
    low_days: float | None
    """5 % of the draws pay earlier, or fewer, as the best guess does not; None: these never pay."""
    median_days: float | None
    high_days: float | None
    """95 % of the draws pay no later, or more, as the best guess does not; None: not so many ever pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """When the tuned contender has paid for itself against another one. Savings are of the other's cost minus its own."""

    challenger: str
    opponent: str
    setup_difference: float
    """What it takes beforehand, more than the other one."""
    saving_per_day: float
    """Of answering, checking, wrong answers and retraining; below zero it costs more."""
    num_days: float | None
    """At the assumed traffic; None: never."""
    num_requests: float | None
    """None: never."""
    requests_per_day_to_pay: float | None
    """From so many on it pays within the horizon, however many more come; None: from none."""
    cost_per_wrong_answer_to_pay: float | None
    """From this cost of a wrong answer on it pays within the horizon; None: it makes no fewer errors."""
    reason: str
    """Why it pays, or why it never does."""
    band: Band
    balance: tuple[BalancePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomicsReport:
    """What a study says of money."""

    assumptions: Assumptions
    stated: tuple[Stated, ...]
    """Everything that the figures rest on, prices included."""
    right_meaning: str
    """What counts as a right answer."""
    contenders: tuple[ContenderCost, ...]
    """Those whose costs can be told, in the report's order."""
    break_evens: tuple[BreakEven, ...]
    """Against the baseline first."""
    sentence: str
    notes: tuple[str, ...] = ()
    """What a reader must know: prices nobody has looked up, contenders without a price."""
