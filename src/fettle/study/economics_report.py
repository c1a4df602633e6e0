"""What a finished study says of money: costs of its contenders, and when tuning has paid for itself.

Worked out from the report alone, so that it can be done again with other assumptions (`fettle cost`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fettle.answering.address import public_address
from fettle.contenders.constant import CONSTANT
from fettle.economics import costs
from fettle.economics.break_even import Drawing, Side, break_even, gain_by_day, gain_by_request, hosted_share
from fettle.economics.costs import DAYS_PER_MONTH, Amounts, Taken
from fettle.economics.hosted_prices import hosted_prices
from fettle.economics.needed_traffic import smallest_traffic
from fettle.economics.price_table import price_table
from fettle.economics.priced import DEFAULT_GPU, DEFAULT_MACHINE, Endpoint, Priced, Prices, priced
from fettle.economics.quantities import Numbers, Quantities, best_guess, drawn
from fettle.economics.right_answers import RightAnswers, drawn_right_shares, right_answers, right_meaning
from fettle.economics_records import (
    Assumptions,
    BreakEven,
    ContenderCost,
    CostBands,
    CostTerm,
    EconomicsReport,
    Stated,
    exactly,
)
from fettle.errors import DataError
from fettle.records import ContenderResult, Interval
from fettle.report_records import StudyReport
from fettle.routing_records import RoutingCosts, RoutingReport
from fettle.study.economics_words import economics_sentence, notes_of_assumptions
from fettle.study.figures import spoken
from fettle.study.settings import RemoteModel

REMOTE = "remote"
_TO_LARGE = "to large"
NUM_DRAWS = 10_000
SEED = 0
_BAND = 0.9
"""Share of the draws that lie within, half of the others below."""


def read_prices(home: Path) -> Prices:
    """Where prices are looked up: the package, what was fetched, and the user's own.

    Raises:
        ConfigError: The user's table, or what was fetched, cannot be read.
    """
    return Prices(table=price_table(home), hosted=hosted_prices(home))


def on_machine(said: Assumptions, *, is_gpu: bool, price_per_hour: float | None) -> Assumptions:
    """With the machine that the study ran on, where none was said.

    Args:
        said: What is said of money.
        is_gpu: Whether the machine has a GPU that was used.
        price_per_hour: What the study was told that it costs; None: nothing.
    """
    machine = said.machine
    cost = None if price_per_hour is None else exactly(price_per_hour)
    machine = replace(
        machine,
        name=machine.name or (DEFAULT_GPU if is_gpu else DEFAULT_MACHINE),
        price_per_training_hour=machine.price_per_training_hour or cost,
        price_per_serving_hour=machine.price_per_serving_hour or cost,
    )
    return replace(said, machine=machine)


def require_priced(said: Assumptions, prices: Prices, remote: RemoteModel | None = None) -> None:
    """Show that the machine has a price, and none is in another currency, before a study has taken its minutes.

    Args:
        said: What is said, and assumed.
        prices: Where the rest is looked up.
        remote: The model that is asked beside; None: there is none. That nobody knows what it bills is no fault.

    Raises:
        ConfigError: The machine has no price, or a price is in another currency.
    """
    endpoint = remote and Endpoint(model=remote.model, url=public_address(remote.url), prompt_tokens_per_request=0.0)
    priced(said, prices, endpoint)


def with_money(report: StudyReport, said: Assumptions, prices: Prices) -> StudyReport:
    """The report with costs and break-even, and with what a request costs in its router, where both contenders' costs are known.

    Raises:
        ConfigError: A price is missing, or in another currency.
    """
    money = economics_report(report, said, prices)
    routing = None if report.routing is None else replace(report.routing, costs=routing_costs(report, said, prices))
    return replace(report, economics=money, routing=routing)


def routing_costs(report: StudyReport, said: Assumptions, prices: Prices) -> RoutingCosts | None:
    """What a request costs in the report's router; None: it has none, or what one of its contenders costs is not known.

    Raises:
        ConfigError: A price is missing, or in another currency.
    """
    routing, found = report.routing, priced(said, prices, _endpoint(report))
    taken = {one.result.name: one.taken for one in _known(report, said, found)[0]}
    if routing is None or not {routing.small, routing.large} <= taken.keys():
        return None
    small, at = _with_samples(taken[routing.small], routing), best_guess(found.situation)
    each = [float(costs.total(costs.answering(one, at), at)[0]) for one in (small, taken[routing.large])]
    return RoutingCosts(small_per_request=each[0], large_per_request=each[1])


def economics_report(report: StudyReport, said: Assumptions, prices: Prices) -> EconomicsReport:
    """Costs and break-even of a study.

    Args:
        report: The study's; what it says of money is not looked at.
        said: What is said, and assumed.
        prices: Where the rest is looked up.

    Raises:
        ConfigError: A price is missing, or in another currency.
    """
    found = priced(said, prices, _endpoint(report))
    sides, notes = _known(report, said, found)
    at = best_guess(found.situation)
    rng = np.random.default_rng(SEED)
    drawing = Drawing(
        best=at, drawn=drawn(found.situation, NUM_DRAWS, rng), seed=SEED, horizon_days=said.tuning.horizon_days
    )
    shares = drawn_right_shares([one.right for one in sides], NUM_DRAWS, rng) if sides else {}
    break_evens = _break_evens(report, sides, shares, drawing)
    titles = {contender.name: contender.title for contender in report.contenders}
    return EconomicsReport(
        assumptions=said,
        stated=found.stated,
        right_meaning=right_meaning(report.rows, spoken(report.primary_metric), said.worth.right_from_score),
        contenders=tuple(_cost(one, at, values_right=said.worth.value_per_right_answer is not None) for one in sides),
        break_evens=break_evens,
        sentence=economics_sentence(break_evens, said, titles),
        notes=(*notes, *notes_of_assumptions(said), *found.notes),
    )


def cost_bands(report: StudyReport, said: Assumptions, prices: Prices, contender: str) -> CostBands:
    """What one contender's requests and right answers cost: the lines of `economics_report`, worked out for every draw as well.

    Args:
        report: The study's.
        said: What is said, and assumed.
        prices: Where the rest is looked up.
        contender: Its key in the report; or that of the rows' routed answers, where the report's router is meant.

    Raises:
        ConfigError: A price is missing, or in another currency.
        DataError: What the contender costs cannot be told.
    """
    found = priced(said, prices, _endpoint(report))
    sides, notes = _known(report, said, found)
    one = _answered(report, said, sides, contender)
    if one is None:
        raise DataError(
            f"what {contender} costs cannot be told: {' '.join((*notes, *found.notes)) or 'the study has no such contender'}",
            where="economics",
            remedy="`fettle cost` shows the contenders whose costs are known, and what is missing for others",
        )
    rng = np.random.default_rng(SEED)
    at, draws = best_guess(found.situation), drawn(found.situation, NUM_DRAWS, rng)
    shares = drawn_right_shares([one.right, *one.to_large], NUM_DRAWS, rng)
    lines = one.lines(at, one.share_to_large)
    best = costs.total(lines, at)
    many = costs.total(one.lines(draws, shares.get(_TO_LARGE, one.share_to_large)), draws)
    share = one.right.interval().estimate
    return CostBands(
        contender=contender,
        currency=said.currency,
        cost_per_request=_band(float(best[0]), many),
        cost_per_correct_answer=_band(float(best[0]) / share, many / shares[contender]) if share > 0 else None,
        terms=_terms(lines),
        requests_per_day=said.traffic.requests_per_day,
        looked_up=tuple(stated for taken in one.takes for stated in _that_it_rests_on(found.stated, taken)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """What gives an answer: a contender, or a router, which asks the large one for some."""

    right: RightAnswers
    takes: tuple[Taken, ...]
    """Of the contender; of a router's small and large one."""
    to_large: tuple[RightAnswers, ...] = ()
    """Of a router: 1 for each request that goes to the large one."""

    @property
    def share_to_large(self) -> Numbers:
        """The best guess, one value."""
        return np.array([one.interval().estimate for one in self.to_large] or [0.0], dtype=np.float64)

    def lines(self, at: Quantities, share_to_large: Numbers) -> list[Amounts]:
        """Of one request."""
        first, *large = self.takes
        found = costs.answering(first, at)
        for one in large:
            found += [
                replace(line, name=f"{line.name} of the large one", quantity=share_to_large * line.quantity)
                for line in costs.answering(one, at)
            ]
        return found


def _answered(report: StudyReport, said: Assumptions, sides: Sequence[_Known], contender: str) -> _Answered | None:
    """None: it is not known what it takes, or what it got right."""
    known = {side.result.name: side for side in sides}
    if contender in known:
        return _Answered(right=known[contender].right, takes=(known[contender].taken,))
    routing, right = report.routing, right_answers(report.rows, contender, said.worth.right_from_score)
    if (
        routing is None
        or routing.trusted is None
        or right is None
        or not {routing.small, routing.large} <= known.keys()
    ):
        return None
    trusted, routed = set(routing.trusted), [row for row in report.rows if contender in row.scores]
    to_large = right_answers(
        [replace(row, scores={_TO_LARGE: float(row.example_id not in trusted)}, errors={}) for row in routed],
        _TO_LARGE,
        None,
    )
    takes = (_with_samples(known[routing.small].taken, routing), known[routing.large].taken)
    return None if to_large is None else _Answered(right=right, takes=takes, to_large=(to_large,))


def _with_samples(taken: Taken, routing: RoutingReport) -> Taken:
    """What a router's small contender takes, its samples included: each takes what an answer takes."""
    return replace(taken, seconds_per_request=(1 + routing.rule.num_samples) * taken.seconds_per_request)


def _band(best: float, draws: Numbers) -> Interval:
    """Around the best guess, which lies within whatever was drawn."""
    low, high = (float(end) for end in np.quantile(draws, [(1 - _BAND) / 2, (1 + _BAND) / 2]))
    return Interval(estimate=best, low=min(low, best), high=max(high, best), level=_BAND, method="draws of all ranges")


def _that_it_rests_on(stated: Sequence[Stated], taken: Taken) -> tuple[Stated, ...]:
    """The prices of answering that nobody has said."""
    place = "remote." if taken.is_elsewhere else "machine.price_per_serving_hour"
    return tuple(one for one in stated if one.is_looked_up and taken.needs_machine and one.name.startswith(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A contender of which it is known what it takes."""

    result: ContenderResult
    taken: Taken
    right: RightAnswers

    @property
    def right_share(self) -> np.ndarray:
        """The best guess, one value."""
        return np.array([self.right.interval().estimate], dtype=np.float64)

    def side(self, shares: Mapping[str, np.ndarray]) -> Side:
        """With its draws out of those of all."""
        return Side(taken=self.taken, right_share=self.right_share, right_shares=shares[self.result.name])


def _endpoint(report: StudyReport) -> Endpoint | None:
    """What the remote contender asked; None: there is none."""
    result = next((one for one in report.contenders if one.name == REMOTE), None)
    if result is None:
        return None
    told = report.provenance.settings.get("remote") or {}
    return Endpoint(
        model=str(told.get("model") or result.title),
        url=told.get("url"),
        prompt_tokens_per_request=result.resources.prompt_tokens_per_request or 0.0,
    )


def _known(report: StudyReport, said: Assumptions, found: Priced) -> tuple[list[_Known], list[str]]:
    """The contenders whose costs can be told, and why those of others cannot."""
    known, notes = [], []
    for result in report.contenders:
        right = right_answers(report.rows, result.name, said.worth.right_from_score)
        if result.resources.seconds_per_request is None:
            notes.append(f"{result.title}: no request was answered, so that nothing is known of its costs.")
        elif right is None:
            notes.append(f"{result.title}: no answer could be scored, so that nothing is known of its costs.")
        elif result.name != REMOTE or found.is_remote_priced:
            known.append(_Known(result=result, taken=_taken(report, result), right=right))
    untold = [one.result.title for one in known if one.result.is_fine_tuned and one.taken.training_seconds is None]
    notes += [f"{title}: what its training took is not known, and is not counted." for title in untold]
    return known, notes


def _taken(report: StudyReport, result: ContenderResult) -> Taken:
    trained = {one.contender: one.training for one in report.tuned_beside}
    training = trained.get(result.name, report.training) if result.is_fine_tuned else None
    num_labelled = 0 if training is None else training.num_train_examples
    if result.name == "classifier":
        num_labelled = report.num_examples.get("train", 0)
    resources = result.resources
    return Taken(
        contender=result.name,
        is_elsewhere=result.name == REMOTE,
        needs_machine=result.name != CONSTANT,
        seconds_per_request=resources.seconds_per_request or 0.0,
        prompt_tokens_per_request=resources.prompt_tokens_per_request or 0.0,
        completion_tokens_per_request=resources.completion_tokens_per_request or 0.0,
        training_seconds=None if training is None else training.seconds,
        num_labelled_examples=num_labelled,
        num_test_requests=len(report.rows),
    )


def _cost(one: _Known, at: Quantities, *, values_right: bool) -> ContenderCost:
    interval = one.right.interval()
    answering = costs.answering(one.taken, at)
    per_request = float(costs.total(answering, at)[0])
    side = one.side({one.result.name: one.right_share})
    resources = one.result.resources
    return ContenderCost(
        contender=one.result.name,
        right_share=interval,
        terms=_terms(answering),
        terms_of_errors=_terms(costs.errors(one.right_share, at)),
        setup_terms=_terms(costs.setup(one.taken, at)),
        terms_per_year=_terms(costs.per_year(one.taken, at)),
        hosting=costs.hosting(one.taken, at),
        wrong_share=float(costs.wrong_share(one.right_share, at)[0]),
        cost_per_correct_answer=per_request / interval.estimate if interval.estimate > 0 else None,
        net_value_per_month=_month(side, at) if values_right else None,
        requests_per_day_for_margin=_margin_from(side, at) if values_right else None,
        latency_seconds_p50=resources.latency_seconds_p50,
        latency_seconds_p95=resources.latency_seconds_p95,
        latency_seconds_p99=resources.latency_seconds_p99,
    )


def _month(side: Side, at: Quantities) -> float:
    return DAYS_PER_MONTH * float(costs.gain_per_day(side.taken, side.right_share, at)[0])


def _margin_from(side: Side, at: Quantities) -> float | None:
    return smallest_traffic(
        gain_per_request=gain_by_request(side, at),
        gain_per_day=gain_by_day(side, at),
        hosted=hosted_share(side.taken, at, -1.0),
        wanted_per_day=0.0,
    )


def _terms(lines: Sequence[Amounts]) -> tuple[CostTerm, ...]:
    """Lines that cost something; of the others nobody has said what they cost, or nothing is used."""
    return tuple(term for term in (line.term() for line in lines) if term.cost)


def _break_evens(
    report: StudyReport, sides: Sequence[_Known], shares: Mapping[str, np.ndarray], drawing: Drawing
) -> tuple[BreakEven, ...]:
    """Of the declared challenger, against the declared baseline and against the large model."""
    by_name = {one.result.name: one.side(shares) for one in sides}
    primary = next((one for one in report.comparisons if one.is_primary), None)
    if primary is None or primary.challenger not in by_name:
        return ()
    opponents = dict.fromkeys((primary.baseline, REMOTE))
    return tuple(
        break_even(by_name[primary.challenger], by_name[name], drawing) for name in opponents if name in by_name
    )
