"""Money in reports: from the rows and the measured seconds to sentence, page and JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from build_report import hostile_report, json_report, label_report, untrained_report
from fettle.economics.assumptions import with_settings
from fettle.economics.priced import Prices
from fettle.economics_records import Assumptions, ContenderCost, EconomicsReport
from fettle.errors import ConfigError, DataError
from fettle.report_records import StudyReport
from fettle.routing_records import RoutingCosts
from fettle.study.economics_report import (
    cost_bands,
    economics_report,
    on_machine,
    read_prices,
    require_priced,
    with_money,
)
from fettle.study.economics_views import cost_row
from fettle.study.economics_words import break_even_sentence
from fettle.study.page import render_page
from fettle.study.report import parse_report, print_report
from fettle.study.settings import RemoteModel
from report_routing import routing


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Prices:
    return read_prices(tmp_path_factory.mktemp("home"))


def told(report: StudyReport, prices: Prices, *settings: str) -> EconomicsReport:
    return economics_report(report, with_settings(Assumptions(), settings), prices)


def cost_of(found: EconomicsReport, name: str) -> ContenderCost:
    return next(one for one in found.contenders if one.contender == name)


def test_never_is_a_normal_answer(prices: Prices) -> None:
    found = told(label_report(num_rows=60), prices)
    assert "never pays for itself" in found.sentence
    assert "1,000 requests a day (assumed)" in found.sentence
    assert found.break_evens[0].num_days is None
    assert found.break_evens[0].band.share_within_horizon == 0
    assert any("labelling, checking and wrong answers" in note for note in found.notes)


def test_a_large_model_is_priced_by_its_name(prices: Prices) -> None:
    report = label_report(num_rows=60)
    origin = replace(report.provenance, settings={"remote": {"url": "https://models.example/v1", "model": "gpt-4o"}})
    report = replace(report, provenance=origin)
    found = told(report, prices, "traffic.requests_per_day=20000", "machine.name=own")
    price = prices.hosted.of("gpt-4o")
    assert price is not None
    remote = cost_of(found, "remote")
    taken = next(one.resources for one in report.contenders if one.name == "remote")
    wanted = (taken.prompt_tokens_per_request or 0) * price.input.value / 1e6
    wanted += (taken.completion_tokens_per_request or 0) * price.output.value / 1e6
    assert remote.cost_per_request == pytest.approx(wanted)
    assert [one.opponent for one in found.break_evens] == ["classifier", "remote"]
    assert found.break_evens[1].saving_per_day == pytest.approx(20_000 * wanted)
    dear = told(
        report, prices, "remote.price_per_million_input_tokens=1000", "remote.price_per_million_output_tokens=0"
    )
    assert cost_of(dear, "remote").cost_per_request == pytest.approx((taken.prompt_tokens_per_request or 0) / 1000)


def test_the_bands_of_a_contender_are_around_what_the_section_says(prices: Prices) -> None:
    report = label_report(num_rows=60)
    said = ("traffic.requests_per_day=[500, 1000, 4000]", "machine.price_per_serving_hour=2")
    section = cost_of(told(report, prices, *said), "tuned")
    bands = cost_bands(report, with_settings(Assumptions(), said), prices, "tuned")
    assert bands.cost_per_request.estimate == section.cost_per_request
    assert bands.cost_per_correct_answer is not None
    assert bands.cost_per_correct_answer.estimate == section.cost_per_correct_answer
    assert bands.terms == section.terms
    # One machine for 24 hours at 2 is 48 a day, shared among 500 to 4,000 requests.
    assert 48 / 4000 < bands.cost_per_request.low < 48 / 1000 < bands.cost_per_request.high < 48 / 500
    known = (*said, "traffic.requests_per_day=1000")
    narrow = cost_bands(report, with_settings(Assumptions(), known), prices, "tuned")
    assert narrow.cost_per_request.low == narrow.cost_per_request.high == 48 / 1000
    assert narrow.cost_per_correct_answer is not None
    share = cost_of(told(report, prices, *known), "tuned").right_share
    assert narrow.cost_per_correct_answer.low == pytest.approx(48 / 1000 / share.high, rel=0.03)
    assert not narrow.looked_up
    assumed = cost_bands(report, Assumptions(), prices, "tuned")
    assert [one.name for one in assumed.looked_up] == ["machine.price_per_serving_hour"]


def test_bands_of_a_contender_without_a_price_cannot_be_told(prices: Prices) -> None:
    with pytest.raises(DataError, match="is in no price table"):
        cost_bands(label_report(num_rows=60), Assumptions(), prices, "remote")


def test_an_unknown_large_model_is_left_out_and_told(prices: Prices) -> None:
    found = told(label_report(num_rows=60), prices)
    assert "remote" not in [one.contender for one in found.contenders]
    assert any("is in no price table" in note for note in found.notes)


def test_a_router_is_told_what_its_two_contenders_cost(prices: Prices) -> None:
    report = replace(label_report(num_rows=60), routing=routing())
    said = ("remote.price_per_million_input_tokens=3", "remote.price_per_million_output_tokens=15")
    found = with_money(report, with_settings(Assumptions(), said), prices)
    assert found.economics is not None
    assert found.routing is not None
    assert found.routing.costs == RoutingCosts(
        small_per_request=cost_of(found.economics, "tuned").cost_per_request,
        large_per_request=cost_of(found.economics, "remote").cost_per_request,
    )
    assert "A thousand requests cost" in render_page(found)
    unpriced = with_money(report, Assumptions(), prices)
    assert unpriced.routing == report.routing, "nobody knows what the large one costs"
    assert with_money(replace(report, routing=None), Assumptions(), prices).routing is None


def test_right_answers_cost_what_all_cost(prices: Prices) -> None:
    report = json_report()
    found = told(report, prices, "machine.price_per_serving_hour=1", "traffic.requests_per_day=2400")
    tuned = cost_of(found, "tuned")
    assert tuned.cost_per_request == pytest.approx(24 / 2400)
    assert tuned.cost_per_correct_answer == pytest.approx(0.01 / tuned.right_share.estimate)
    scores = [row.scores["tuned"] or 0 for row in report.rows]
    assert tuned.right_share.estimate == pytest.approx(sum(scores) / len(scores))
    for one in found.contenders:
        for term in (*one.terms, *one.terms_of_errors, *one.setup_terms, *one.terms_per_year):
            assert term.cost == term.quantity * term.price


def test_value_makes_a_margin_with_a_volume_from_which_on_it_holds(prices: Prices) -> None:
    settings = ("worth.value_per_right_answer=0.01", "machine.price_per_serving_hour=1")
    found = told(json_report(), prices, *settings)
    tuned = cost_of(found, "tuned")
    assert tuned.requests_per_day_for_margin == pytest.approx(24 / (0.01 * tuned.right_share.estimate))
    assert tuned.net_value_per_month == pytest.approx(30 * (1000 * 0.01 * tuned.right_share.estimate - 24))
    assert "Pays its way from" in render_page(replace(json_report(), economics=found))


def test_what_a_reader_is_told_would_pay_does(prices: Prices) -> None:
    report = json_report()
    report = replace(
        report,
        contenders=tuple(
            replace(one, resources=replace(one.resources, seconds_per_request=0.9 + 0.37 * place))
            for place, one in enumerate(report.contenders)
        ),
    )
    for settings in ((), ("machine.price_per_serving_hour=3",), ("people.wage_per_hour=31", "traffic.busy_share=0.9")):
        said = (*settings, "people.labelling_minutes_per_example=0.4")
        found = told(report, prices, *said)
        for name, pattern in (
            ("traffic.requests_per_day", r"with ([\d,]+)\Wrequests? a day or more"),
            ("worth.cost_per_wrong_answer", r"a wrong answer costs ([\d,.]+)\W"),
        ):
            for value in re.findall(pattern, break_even_sentence(found.break_evens[0], found.assumptions, {})):
                one = told(report, prices, *said, f"{name}={value.replace(',', '')}").break_evens[0]
                assert one.num_days is not None
                assert one.num_days <= 365


def test_what_a_dollar_is_and_that_waiting_is_free_are_told(prices: Prices) -> None:
    found = told(json_report(), prices, "currency=EUR", "usd=0.9", "machine.bills_idle=false")
    assert [(one.value.best, one.source) for one in found.stated if one.name == "usd"] == [(0.9, "said")]
    assert any("not while they wait" in note for note in found.notes)
    plain = told(json_report(), prices)
    assert "usd" not in [one.name for one in plain.stated]
    assert not any("while they wait" in note for note in plain.notes)


def test_answers_that_cost_more_than_they_are_worth_never_pay_their_way(prices: Prices) -> None:
    settings = (
        "worth.value_per_right_answer=0.01",
        "worth.cost_per_wrong_answer=10",
        "machine.bills_idle=false",
    )
    found = told(json_report(), prices, *settings)
    tuned = cost_of(found, "tuned")
    assert tuned.net_value_per_month is not None
    assert tuned.net_value_per_month < 0
    assert tuned.requests_per_day_for_margin is None
    assert cost_row(tuned, {}).margin_from == "never"


def test_it_comes_back_from_json_and_old_reports_have_none(prices: Prices) -> None:
    report = replace(json_report(num_rows=12), economics=told(json_report(num_rows=12), prices))
    assert parse_report(print_report(report), where="here") == report
    assert parse_report(print_report(json_report(num_rows=12)), where="here").economics is None
    assert 'id="economics"' not in render_page(json_report(num_rows=12))


def test_the_page_shows_what_it_rests_on(prices: Prices) -> None:
    report = label_report(num_rows=40)
    page = render_page(replace(report, economics=told(report, prices)))
    told_there = (
        "never pays for itself",
        "traffic.<wbr>requests_<wbr>per_<wbr>day",
        "assumed",
        "2026-11-27 (read)",
        "Saved so far",
    )
    for said in (*told_there, "https://huggingface.co/docs/inference-endpoints/support/pricing"):
        assert said in page, said


def test_texts_of_others_do_not_become_markup(prices: Prices) -> None:
    planted = "<script>alert(1)</script>"
    report = hostile_report(planted)
    page = render_page(replace(report, economics=told(report, prices)))
    assert planted not in page.split('<section id="economics"')[1].split("</section>")[0]


def test_a_study_without_a_tuned_model_has_costs_and_no_break_even(prices: Prices) -> None:
    found = told(untrained_report(), prices)
    assert found.contenders
    assert found.break_evens == ()
    assert "Nothing was compared" in found.sentence


def test_the_price_of_an_hour_that_the_study_was_told_is_used(prices: Prices) -> None:
    said = on_machine(Assumptions(), is_gpu=True, price_per_hour=2.4)
    found = economics_report(json_report(num_rows=12), said, prices)
    assert cost_of(found, "tuned").cost_per_request == pytest.approx(24 * 2.4 / 1000)
    named = on_machine(Assumptions(), is_gpu=True, price_per_hour=None)
    assert named.machine.name == "gpu"
    require_priced(named, prices)
    with pytest.raises(ConfigError, match="what one dollar is"):
        require_priced(with_settings(named, ['currency="EUR"']), prices)
    require_priced(with_settings(named, ['currency="EUR"', "usd=0.9"]), prices)
    own = with_settings(
        named, ["currency=EUR", "machine.price_per_training_hour=1", "machine.price_per_serving_hour=1"]
    )
    require_priced(own, prices)
    require_priced(own, prices, RemoteModel(url="https://models.example/v1", model="nobody-knows-it"))
    with pytest.raises(ConfigError, match="gpt-4o is in USD"):
        require_priced(own, prices, RemoteModel(url="https://models.example/v1", model="gpt-4o"))


def test_two_runs_say_the_same(prices: Prices, tmp_path: Path) -> None:
    report = json_report(num_rows=12)
    assert told(report, prices) == told(report, read_prices(tmp_path))
