"""What each contender's answers were kept inside, for the report: who serves a contender later is to do the same."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.answering.engine import JsonForm
from fettle.contenders.readings import Reading
from fettle.form_records import AnswerForm
from fettle.study.planning import StudyPlan
from fettle.study.results import TestedRung


def answer_forms(plan: StudyPlan, tested: Sequence[TestedRung]) -> dict[str, AnswerForm]:
    """By contender; those without a form, and those that are not prompted, are not in it."""
    first = plan.split.test[0]
    found = {rung.name: _form(plan, rung) for rung in tested if rung.rung.contender.told(first)}
    return {name: form for name, form in found.items() if form is not None}


def _form(plan: StudyPlan, rung: TestedRung) -> AnswerForm | None:
    if (reading := rung.rung.reading) is not None:
        is_calibrated = reading.kind is Reading.CALIBRATED
        return AnswerForm(
            labels=plan.data.task.labels,
            reading=None if reading.kind is Reading.GREEDY else reading.kind.value,
            label_offsets=dict(reading.mean_log_likelihoods) if is_calibrated else {},
        )
    form = plan.options.form
    if not isinstance(form, JsonForm):
        return None
    return AnswerForm(
        json_schema=form.schema,
        bounded_schema=form.bounded_schema,
        item_separator=form.item_separator,
        key_separator=form.key_separator,
    )
