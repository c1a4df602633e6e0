"""Assumptions with their prices found: the numbers that costs are worked out from, and where each of them comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from fettle.economics.hosted_prices import HostedPrices
from fettle.economics.price_table import PriceTable, in_currency
from fettle.economics.quantities import Situation
from fettle.economics_records import Assumptions, Origin, Price, Range, Stated, TokenPrices, exactly

_TOKEN_PRICES = (
    "price_per_million_input_tokens",
    "price_per_million_cached_input_tokens",
    "price_per_million_output_tokens",
)
DEFAULT_MACHINE, DEFAULT_GPU = "cpu", "gpu"
"""Entries of the price table."""
_NOTHING = exactly(0.0, Origin.ASSUMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a remote contender asked."""

    model: str
    url: str | None
    prompt_tokens_per_request: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """Assumptions with their prices."""

    situation: Situation
    stated: tuple[Stated, ...]
    is_remote_priced: bool
    """Whether it is known what the endpoint bills; False where there is none."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Where prices are looked up."""

    table: PriceTable
    hosted: HostedPrices


def priced(said: Assumptions, prices: Prices, endpoint: Endpoint | None) -> Priced:
    """Find what is not said.

    Args:
        said: What the user says, and what is assumed.
        prices: Where the rest is looked up.
        endpoint: Of the remote contender; None: there is none.

    Raises:
        ConfigError: A price is missing, or in another currency.
    """
    stated = list(_stated(said))
    if said.usd is not None:
        stated.append(Stated(name="usd", value=exactly(said.usd), source=Origin.SAID.value))
    machine = _machine(said, prices.table, stated)
    tokens = None if endpoint is None else _tokens(said, prices, endpoint, stated)
    found = tokens or (_NOTHING, _NOTHING, _NOTHING)
    notes = []
    if endpoint is not None and tokens is None:
        notes.append(
            f"What {endpoint.model} costs is not known: its name is in no price table. Give "
            "remote.price_per_million_input_tokens and remote.price_per_million_output_tokens."
        )
    if not said.machine.bills_idle:
        notes.append(
            "Machines are billed by the seconds of each request, and not while they wait (machine.bills_idle)."
        )
    value = said.worth.value_per_right_answer
    situation = Situation(
        requests_per_day=said.traffic.requests_per_day,
        busy_hours_per_day=said.traffic.busy_hours_per_day,
        busy_share=said.traffic.busy_share,
        cached_share=said.traffic.cached_share,
        price_per_training_hour=machine[0],
        price_per_serving_hour=machine[1],
        hosted_hours_per_day=said.machine.hosted_hours_per_day,
        busy_at_most=said.machine.busy_at_most,
        bills_idle=said.machine.bills_idle,
        wage_per_hour=said.people.wage_per_hour,
        share_checked=said.people.share_checked,
        minutes_per_check=said.people.minutes_per_check,
        share_caught=said.people.share_caught,
        labelling_minutes_per_example=said.people.labelling_minutes_per_example,
        cost_per_wrong_answer=said.worth.cost_per_wrong_answer,
        value_per_right_answer=_NOTHING if value is None else value,
        retrainings_per_year=said.tuning.retrainings_per_year,
        new_examples_per_retraining=said.tuning.new_examples_per_retraining,
        price_per_million_input_tokens=found[0],
        price_per_million_cached_input_tokens=found[1],
        price_per_million_output_tokens=found[2],
    )
    notes += _notes_of_prices(stated)
    return Priced(situation=situation, stated=tuple(stated), is_remote_priced=tokens is not None, notes=tuple(notes))


def _stated(said: object, place: str = "") -> Iterator[Stated]:
    """Every range that has a value."""
    assert dataclasses.is_dataclass(said), "tables of assumptions all the way down"
    for field in dataclasses.fields(said):
        value = getattr(said, field.name)
        if isinstance(value, Range):
            yield Stated(name=f"{place}{field.name}", value=value, source=value.origin.value)
        elif dataclasses.is_dataclass(value):
            yield from _stated(value, f"{field.name}.")


def _machine(said: Assumptions, table: PriceTable, stated: list[Stated]) -> tuple[Range, Range]:
    """Of an hour of training, and of serving."""
    found = []
    for name in ("price_per_training_hour", "price_per_serving_hour"):
        value = getattr(said.machine, name)
        if value is None:
            price = in_currency(table.machine(said.machine.name or DEFAULT_MACHINE), said.currency, said.usd)
            value = exactly(price.value, Origin.ASSUMED)
            stated.append(_looked_up(f"machine.{name}", price))
        found.append(value)
    return found[0], found[1]


def _tokens(
    said: Assumptions, prices: Prices, endpoint: Endpoint, stated: list[Stated]
) -> tuple[Range, Range, Range] | None:
    """Of prompts, cached prompts and answers; None: one of them is neither said nor known."""
    own = tuple(getattr(said.remote, name) for name in _TOKEN_PRICES)
    known = None if own[0] is not None and own[2] is not None else _known(said, prices, endpoint)
    given, cached, written = own
    if known is not None:
        given = given or _taken_over(_TOKEN_PRICES[0], known.input, said, stated)
        written = written or _taken_over(_TOKEN_PRICES[2], known.output, said, stated)
        if cached is None and own[0] is None and known.cached_input is not None:
            cached = _taken_over(_TOKEN_PRICES[1], known.cached_input, said, stated)
    if given is None or written is None:
        return None
    return given, cached or given, written


def _known(said: Assumptions, prices: Prices, endpoint: Endpoint) -> TokenPrices | None:
    """By the model's name and the endpoint's address, else by the name alone: an address may be that of a gateway."""
    model = said.remote.model or endpoint.model
    if (own := prices.table.models.get(model.lower())) is not None:
        return own
    found = (
        prices.hosted.of(model, url=url, prompt_tokens=endpoint.prompt_tokens_per_request)
        for url in dict.fromkeys((endpoint.url, None))
    )
    return next((one for one in found if one is not None), None)


def _taken_over(name: str, price: Price, said: Assumptions, stated: list[Stated]) -> Range:
    price = in_currency(price, said.currency, said.usd)
    stated.append(_looked_up(f"remote.{name}", price))
    return exactly(price.value, Origin.ASSUMED)


def _looked_up(name: str, price: Price) -> Stated:
    return Stated(
        name=name,
        value=exactly(price.value, Origin.ASSUMED),
        source=f"{price.name} ({price.unit.value}; {price.source})",
        date=price.date,
        is_looked_up=True,
    )


def _notes_of_prices(stated: list[Stated]) -> list[str]:
    """What a reader must know of prices that nobody has said."""
    if any(one.is_looked_up for one in stated):
        return ["Prices out of a table may not be yours: give those that you pay (docs/economics.md)."]
    return []
