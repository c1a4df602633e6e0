"""Measurements made by hand, for the rules of advice."""

from __future__ import annotations

from typing import Any

from fettle.advice.deciding import advise_rungs
from fettle.advice.measured import Measured, counted, seconds, share
from fettle.advice.opinion import Case
from fettle.advice.questions import Answers, given_answers, with_money
from fettle.advice_records import Measurement, Rung, RungAdvice, Unit
from fettle.economics_records import Assumptions
from fettle.records import Interval, TaskKind

MADE_UP = "made up for a test"


def rate(name: str, value: float, half_width: float = 0.03) -> Measurement:
    """A share with an interval around it."""
    low, high = max(0.0, value - half_width), min(1.0, value + half_width)
    return share(name, name.replace("_", " "), Interval(estimate=value, low=low, high=high), MADE_UP)


def count(name: str, value: float) -> Measurement:
    """A count."""
    return counted(name, name.replace("_", " "), value, "example", MADE_UP)


def points(name: str, value: float) -> Measurement:
    """A difference of shares."""
    return Measurement(name=name, title=name.replace("_", " "), value=value, unit=Unit.DIFFERENCE, how=MADE_UP)


def measured(**changes: Any) -> Measured:
    """Those of a middling data set of labels; `changes` replace some of them."""
    usual: dict[str, Any] = {
        "task": TaskKind.LABELS,
        "has_documents": False,
        "num_train": count("num_train", 400),
        "num_test": count("num_test", 160),
        "detectable": points("detectable", 0.11),
        "rows_for_five_points": count("rows_for_five_points", 783),
        "num_labels": count("num_labels", 10),
        "examples_per_label": count("examples_per_label", 36),
        "near_duplicates": rate("near_duplicates", 0.0, 0.0),
        "personal_data": rate("personal_data", 0.0, 0.0),
        "constant": rate("constant", 0.25),
        "nearest": rate("nearest", 0.5),
        "classifier": rate("classifier", 0.7),
        "prompt_tokens": count("prompt_tokens", 250),
        "answer_tokens": count("answer_tokens", 3),
        "shot_tokens": count("shot_tokens", 60),
        "context": count("context", 8192),
        "too_long": count("too_long", 0),
        "answer_seconds": seconds("answer_seconds", "one answer", 0.4, MADE_UP),
    }
    return Measured(**(usual | changes))


def texts(**changes: Any) -> Measured:
    """The same of free text, which no classifier answers."""
    none = dict.fromkeys(("num_labels", "examples_per_label", "classifier"))
    return measured(**({"task": TaskKind.TEXT} | none | changes))


def advised(found: Measured, answers: Answers | None = None) -> dict[Rung, RungAdvice]:
    """What the rules say, by rung."""
    answers = answers or Answers()
    given = given_answers(answers, with_money(answers, Assumptions()))
    return {one.rung: one for one in advise_rungs(Case(measured=found, answers=answers, given=given))}
