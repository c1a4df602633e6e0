"""What was forgotten changes a decision to ship and no other, and is drawn where a reader looks for it."""

from dataclasses import replace

import pytest

from build_report import json_report, label_report, text_report
from fettle.forgetting.budget import ForgettingBudget
from fettle.records import Decision, Verdict
from fettle.report_records import BudgetDecision
from fettle.study.forgetting import changes_of, forgetting_chart, with_forgetting
from fettle.study.page import render_page
from fettle.study.report import parse_report, print_report
from report_forgetting import forgetting, skill

SHIP = Verdict(decision=Decision.SHIP, headline="Ship it: it is better.", reasons=("It is better.",))
BROKEN, WITHIN, UNSURE = forgetting(lost=0.14), forgetting(lost=0.01), forgetting(lost=0.04)


def test_the_three_stand_for_the_three_decisions() -> None:
    decisions = [one.decision for one in (BROKEN, WITHIN, UNSURE)]
    assert decisions == [BudgetDecision.BROKEN, BudgetDecision.WITHIN, BudgetDecision.CANNOT_TELL]


def test_a_model_that_has_forgotten_too_much_is_not_shipped() -> None:
    verdict = with_forgetting(SHIP, BROKEN, challenger_title="Fine-tuned (LoRA)")
    assert verdict.decision is Decision.STAY
    assert verdict.headline.replace("\u00a0", " ") == (
        "Do not ship Fine-tuned (LoRA) as it is: it does the task better, but has forgotten more than the 5 points that may be "
        "lost (all of the general suite: −14.0 points (95 % interval −17.2 to −10.8))."
    )
    assert "replay" in " ".join(verdict.reasons)
    assert "On the task alone the verdict would be: Ship it: it is better." in verdict.reasons
    assert "It is better." in verdict.reasons


@pytest.mark.parametrize("found", [WITHIN, UNSURE])
def test_otherwise_the_decision_stands_and_the_reason_is_told(found) -> None:
    verdict = with_forgetting(SHIP, found, challenger_title="Fine-tuned")
    assert (verdict.decision, verdict.headline) == (SHIP.decision, SHIP.headline)
    assert verdict.reasons[0] == "It is better."
    (reason,) = verdict.reasons[1:]
    assert ("the interval holds both" in reason) == (found is UNSURE)
    assert ", within the 5 points that may be lost." in reason or found is UNSURE


@pytest.mark.parametrize("decision", [Decision.STAY, Decision.CANNOT_TELL])
def test_a_model_that_is_not_shipped_anyway_is_told_what_it_forgot_as_well(decision: Decision) -> None:
    before = Verdict(decision=decision, headline="No.", reasons=("Why.",), num_more_test_examples=70)
    verdict = with_forgetting(before, BROKEN, challenger_title="Fine-tuned")
    assert verdict == replace(before, reasons=verdict.reasons)
    assert "more than the 5 points that may be lost." in verdict.reasons[-1]


def test_tasks_of_the_harness_are_shown_and_break_no_budget() -> None:
    lost = skill("arc_easy", "arc_easy (acc; lm-evaluation-harness)", num_items=400, lost=0.3)
    found = replace(WITHIN, harness=(lost,))
    verdict = with_forgetting(SHIP, found, challenger_title="Fine-tuned")
    assert verdict.decision is Decision.SHIP
    told = verdict.reasons[-1].replace("\u00a0", " ")
    assert told.startswith(
        "What it still can (arc_easy (acc; lm-evaluation-harness), 400 questions): 60.0 % before tuning and 30.0 %"
    )
    assert told.endswith("shown, and held against no budget.")
    assert changes_of(found)[-1] == lost
    report = replace(label_report(), forgetting=found)
    assert "arc_easy (acc; lm-evaluation-harness)" in render_page(report)
    assert parse_report(print_report(report), where="here") == report


def test_the_users_own_examples_break_a_budget_by_themselves() -> None:
    verdict = with_forgetting(SHIP, forgetting(lost=0.0, own_lost=0.2), challenger_title="Fine-tuned")
    assert verdict.decision is Decision.STAY
    assert "what must still work (Exact label): −20.0" in verdict.headline
    assert "general suite" not in verdict.headline
    assert sum(reason.startswith("What it still can") for reason in verdict.reasons) == 2


def test_the_chart_shows_the_budget_and_what_is_held_against_it() -> None:
    found = forgetting(lost=0.02, own_lost=0.01, budget=ForgettingBudget(points=40))
    chart = forgetting_chart(found)
    assert chart.count('class="limit"') == chart.count('class="track"') == len(changes_of(found)) == 9
    assert chart.count("dot solid") == 2
    assert [one.name for one in changes_of(found)[:3]] == ["general", "own", "facts"]
    assert 'class="limit" x1="0.0%"' in chart  # −40 is the left end: every interval lies right of it


def test_the_page_has_a_section_where_it_was_measured_and_none_elsewhere() -> None:
    page = render_page(json_report())
    assert 'href="#forgetting"' in page
    assert "The tuned model keeps within its budget." in page
    assert "What must still work (Exact label)" in page
    assert "0.870 nats a token" in page.replace("\u00a0", " ")
    assert "has forgotten more than its budget allows" in render_page(text_report())
    assert "forgetting-title" not in render_page(label_report())


def test_it_survives_the_file() -> None:
    report = json_report()
    assert report.forgetting is not None
    read = parse_report(print_report(report), where="memory")
    assert read == report
    assert read.forgetting is not None
    assert read.forgetting.decision is BudgetDecision.WITHIN
