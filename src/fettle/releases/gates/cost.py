"""What a request and a right answer cost: the lines of `fettle cost`, with the band of everything that is uncertain."""

from __future__ import annotations

from fettle.economics_records import CostBands, CostTerm, Stated
from fettle.records import Interval
from fettle.releases.gates.gate import Found, GateInputs, does_not_apply, failed, held_against, not_measured
from fettle.study.economics_words import range_text


def cost_per_request(inputs: GateInputs) -> Found:
    """Of answering one request, machines that wait included."""
    bound = inputs.settings.cost_per_request.most
    if bound is None:
        return does_not_apply("no bound is set (cost_per_request.most)")
    if inputs.money is None:
        return not_measured(inputs.no_money or "costs were not worked out")
    return _held(inputs.money, inputs.money.cost_per_request, bound, "a request")


def cost_per_correct_answer(inputs: GateInputs) -> Found:
    """Of one right answer: the cost of a request over the share of right answers."""
    bound = inputs.settings.cost_per_correct_answer.most
    if bound is None:
        return does_not_apply("no bound is set (cost_per_correct_answer.most)")
    if inputs.money is None:
        return not_measured(inputs.no_money or "costs were not worked out")
    band = inputs.money.cost_per_correct_answer
    if band is None:
        return failed("not one answer to the test split is right")
    return _held(inputs.money, band, bound, "a right answer")


def _held(money: CostBands, band: Interval, bound: float, what: str) -> Found:
    traffic = range_text(money.requests_per_day)
    lines = " + ".join(map(_line, money.terms)) or "nothing is paid for"
    sentence = (
        f"{what} costs {band.estimate:.3g} {money.currency} ({band.low:.3g} to {band.high:.3g} in {band.level:.0%} of the draws); "
        f"all of the band must be below {bound:g}. A request, with {traffic} of them a day: {lines}{_sources(money.looked_up)}"
    )
    return held_against(band, bound, is_right=band.high < bound, sentence=sentence)


def _line(term: CostTerm) -> str:
    return f"{term.quantity:.3g} {term.unit} at {term.price:g} ({term.name})"


def _sources(looked_up: tuple[Stated, ...]) -> str:
    told = (f"{one.name} from {one.source}, {one.date or 'its day is not told'}" for one in looked_up)
    return "".join(f"; {one}" for one in told)
