from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from build_report import hostile_report, json_report, label_report, text_report, untrained_report
from fettle.advice.after import advise_next
from fettle.advice.again import study_again
from fettle.advice.page import render_advice
from fettle.advice.words import command_line
from fettle.advice_records import Measurement, NextAdvice, NextStep
from fettle.economics_records import Assumptions
from fettle.records import Decision, Interval
from fettle.report_records import BudgetDecision, StudyReport
from fettle.retrieval_records import LostScore, RetrievalReport, Seen, SeenScores
from fettle.settings import get_settings
from fettle.study.economics_report import economics_report, read_prices
from fettle.study.report import print_report
from fettle.tuning_records import CurveOutcome

FOLDER = Path("reports/here")


def advise(report: StudyReport) -> NextAdvice:
    return advise_next(report, FOLDER)


def titles(report: StudyReport) -> list[str]:
    return [step.title for step in advise(report).steps]


def step_of(report: StudyReport, start: str) -> NextStep:
    [found] = [step for step in advise(report).steps if step.title.startswith(start)]
    return found


def with_decision(report: StudyReport, decision: Decision, more: int | None = None) -> StudyReport:
    return replace(report, verdict=replace(report.verdict, decision=decision, num_more_test_examples=more))


def with_losses(report: StudyReport, *, num_searched: int) -> StudyReport:
    """A report of a study with documents, whose best contender loses most where no document answers."""
    lost = (SeenScores(seen=Seen.ABSENT, num_questions=7, score=None, lost=0.5),)
    losses = (LostScore(contender=report.contenders[0].name, groups=lost),)
    retrieval = RetrievalReport(
        place="manual",
        index_sha256="",
        num_documents=1,
        num_passages=1,
        description="",
        num_shown=1,
        num_searched=num_searched,
        num_absent=7,
        losses=losses,
    )
    return replace(report, retrieval=retrieval)


def test_where_no_question_names_its_documents_neither_search_nor_answering_is_blamed() -> None:
    report = text_report()
    blamed = "Improve the answering: the search is not what fails"
    assert blamed in titles(with_losses(report, num_searched=20))
    assert blamed not in titles(with_losses(report, num_searched=0))


def with_money(report: StudyReport, tmp_path: Path) -> StudyReport:
    return replace(report, economics=economics_report(report, Assumptions(), read_prices(tmp_path)))


REPORTS = (label_report, json_report, text_report, untrained_report)


@pytest.mark.parametrize("make", REPORTS)
def test_every_figure_stands_in_the_report_where_it_is_said_to(make: Any, tmp_path: Path) -> None:
    get_settings.cache_clear()
    report = with_money(make(), tmp_path)
    document = json.loads(print_report(report))
    for step in advise(report).steps:
        for reason in step.reasons:
            for one in reason.rests_on:
                assert isinstance(one, Measurement)
                assert one.place is not None
                if "code=" in one.place:
                    continue
                found: Any = document
                for part in re.findall(r"\w+", one.place):
                    found = found[int(part)] if part.isdigit() else found[part]
                if one.interval is not None:
                    found = found.get("interval", found)
                    assert found["low"] == one.interval.low
                    assert found["estimate"] == one.value
                elif isinstance(found, float) and not isinstance(one.value, str):
                    assert found == pytest.approx(one.value, abs=0.5 if one.unit == "count" else 1e-12)


def test_a_model_that_ships_is_released_and_watched() -> None:
    report = json_report()
    found = advise(report).steps
    assert found[0].title == "Make a release of the tuned model"
    assert [command_line(one) for one in found[0].commands] == [f"fettle release create parcel-triage --study {FOLDER}"]
    assert "Watch whether traffic stays what was tested" in titles(report)
    stays = titles(with_decision(report, Decision.STAY))
    assert "Watch whether traffic stays what was tested" not in stays
    assert not any("release" in title for title in stays)


def test_whoever_stays_uses_the_baseline_unless_it_is_no_better_than_one_answer() -> None:
    assert titles(label_report())[0] == "Use the baseline, Classifier, and ship no tuned model"
    report = label_report()
    low = next(one for one in report.contenders if one.name == "prompt")
    constant = replace(low, name="constant", title="Constant answer", metrics=_scored(low.metrics, 0.99))
    assert titles(replace(report, contenders=(*report.contenders, constant)))[0] == "Ship none of them yet"


def _scored(metrics: Any, value: float) -> Any:
    interval = Interval(estimate=value, low=value - 0.01, high=value + 0.01)
    return (replace(metrics[0], interval=interval),)


def test_an_undecided_study_says_how_many_more_test_examples() -> None:
    found = step_of(with_decision(text_report(), Decision.CANNOT_TELL, 240), "Collect more test examples")
    [needed] = [one for one in found.reasons[0].rests_on if one.name == "verdict.num_more_test_examples"]
    assert isinstance(needed, Measurement)
    assert needed.value == 240
    assert "Do not collect more" in titles(with_decision(text_report(), Decision.CANNOT_TELL))[0]


def test_what_was_forgotten_is_brought_back() -> None:
    report = text_report()
    assert report.forgetting is not None
    broken = replace(
        report, forgetting=replace(report.forgetting, general_decision=BudgetDecision.BROKEN, own_decision=None)
    )
    found = step_of(broken, "Lose less of what the base model could do")
    assert command_line(found.commands[0]).endswith("--replay 10")
    within = replace(
        report, forgetting=replace(report.forgetting, general_decision=BudgetDecision.WITHIN, own_decision=None)
    )
    assert not any("must still work" in title or "Lose less" in title for title in titles(within))


def test_the_gate_on_wins_is_foreseen() -> None:
    report = with_decision(json_report(), Decision.SHIP)
    primary = next(one for one in report.comparisons if one.is_primary)
    against = next(
        one for one in report.comparisons if {one.challenger, one.baseline} == {primary.challenger, "prompt"}
    )
    wide = replace(against, win_rate=Interval(estimate=0.55, low=0.45, high=0.65))
    report = replace(report, comparisons=tuple(wide if one is against else one for one in report.comparisons))
    found = step_of(report, "Expect the release to be refused")
    assert "wins against the prompt" in found.reasons[0].text


def test_the_labels_and_fields_that_are_missed_most_are_named() -> None:
    found = step_of(json_report(), "Add examples of what it misses most")
    assert "tracking_number" in found.title or "queue" in found.title or "address" in found.title
    assert step_of(label_report(), "Look whether").reasons[0].rests_on[0].name.startswith("confusions[0]")


def test_a_learning_curve_is_believed_and_asked_for_where_there_is_none() -> None:
    report = label_report()
    curve = report.learning_curve
    assert curve is not None
    gain = Interval(estimate=0.05, low=0.02, high=0.08)
    more = replace(report, learning_curve=replace(curve, outcome=CurveOutcome.MORE_HELPS, gain=gain))
    assert "Collect more training examples" in titles(more)
    little = replace(report, learning_curve=replace(curve, outcome=CurveOutcome.MORE_BRINGS_LITTLE, gain=gain))
    assert "Do not collect more training examples" in titles(little)
    found = step_of(replace(json_report(), learning_curve=None), "Ask what more training examples would bring")
    assert command_line(found.commands[0]).endswith("--learning-curve")


def test_money_that_never_comes_back_says_what_would_have_to_change(tmp_path: Path) -> None:
    report = with_money(json_report(), tmp_path)
    assert report.economics is not None
    [one, *_] = report.economics.break_evens
    never = replace(
        one, num_days=None, num_requests=None, requests_per_day_to_pay=51_234.0, cost_per_wrong_answer_to_pay=0.25
    )
    report = replace(report, economics=replace(report.economics, break_evens=(never,)))
    found = step_of(report, "Say what traffic and errors really are")
    assert command_line(found.commands[0]) == f"fettle cost {FOLDER} --set traffic.requests_per_day=52000"
    hopeless = replace(never, requests_per_day_to_pay=None, cost_per_wrong_answer_to_pay=None)
    report = replace(report, economics=replace(report.economics, break_evens=(hopeless,)))
    assert "Do not tune to save money" in titles(report)


def test_a_router_is_advised_where_it_keeps_its_target() -> None:
    report = label_report()
    assert report.routing is not None
    assert report.routing.is_promised
    assert any("hard requests" in title or "large model alone" in title for title in titles(report))
    none = replace(report.routing, is_promised=False)
    assert any(title.startswith("Calibrate a router") for title in titles(replace(report, routing=none)))


def test_a_second_look_asks_for_fresh_examples() -> None:
    report = text_report()
    again = replace(report, provenance=replace(report.provenance, num_test_looks=3))
    assert "Take fresh test examples for the next study" in titles(again)
    once = replace(report, provenance=replace(report.provenance, num_test_looks=1))
    assert "Take fresh test examples for the next study" not in titles(once)


def test_a_study_again_keeps_its_options_and_not_its_folder() -> None:
    report = text_report()
    command = "/usr/bin/fettle study a.csv --input 'the mail' --epochs 3 --out reports/a --fresh"
    report = replace(report, provenance=replace(report.provenance, command=command))
    found = study_again(report, "longer", "--epochs", "6")
    assert found.words == ("fettle", "study", "a.csv", "--input", "the mail", "--epochs", "6")
    unknown = replace(report, name="mails", provenance=replace(report.provenance, command="run_study(...)"))
    assert study_again(unknown, "longer", "--epochs", "6").words == ("fettle", "study", "EXAMPLES", "--epochs", "6")


def test_the_page_shows_texts_of_a_report_as_texts() -> None:
    page = render_advice(advise(hostile_report("<script>alert(1)</script>")))
    assert "<script" not in page
    assert 'Content-Security-Policy" content="default-src &#39;none&#39;' in page
