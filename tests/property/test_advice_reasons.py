"""Advice holds for any measurements: every reason cites something measured or said, and answers move it the right way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from advised import advised, count, measured, points, rate
from fettle.advice.mend import before_anything
from fettle.advice.questions import Answers, Said
from fettle.advice.words import basis
from fettle.advice_records import Advised, Given, Measurement, Rung, Unit
from fettle.records import TaskKind

EAGERNESS = {Advised.SKIP: 0, Advised.NOT_YET: 1, Advised.TRY: 2, Advised.TRY_FIRST: 3}
SHARES, COUNTS = st.floats(0, 1), st.integers(0, 3000)
RATES = ("constant", "nearest", "consistency", "probable_wrong_labels", "conflicts", "values_in_input")


@st.composite
def situations(draw: st.DrawFn):
    task = draw(st.sampled_from(TaskKind))
    labels = task is TaskKind.LABELS
    changes: dict[str, Any] = {name: draw(st.none() | st.builds(rate, st.just(name), SHARES)) for name in RATES}
    changes |= {
        name: draw(st.builds(count, st.just(name), COUNTS)) for name in ("num_train", "num_test", "too_long", "context")
    }
    changes |= {
        "detectable": points("detectable", draw(st.floats(0.001, 1))),
        "personal_data": rate("personal_data", draw(SHARES)),
    }
    changes |= {"points_to_pay": draw(st.none() | st.builds(points, st.just("points_to_pay"), st.floats(0, 5)))}
    changes |= {"classifier": rate("classifier", draw(SHARES)) if labels else None}
    changes |= {"examples_per_label": count("examples_per_label", draw(COUNTS)) if labels else None}
    if draw(st.booleans()):
        names = ("answers_in_documents", "documents_found", "absent_in_documents")
        changes |= {name: draw(st.none() | st.builds(rate, st.just(name), SHARES)) for name in names}
        changes["has_documents"] = True
    if draw(st.booleans()):
        needed = Measurement(
            name="traffic", title="t", value=draw(st.floats(1, 1e6)), unit=Unit.REQUESTS_PER_DAY, how=""
        )
        changes |= {"traffic_for_hosting": needed, "traffic_for_hosting_is_reached": draw(st.booleans())}
    return measured(task=task, **changes)


ANSWERS = st.builds(
    Answers,
    knowledge_changes=st.sampled_from(Said),
    format_is_the_problem=st.sampled_from(Said),
    large_model=st.sampled_from(Said),
    requests_per_day=st.none() | st.floats(1, 1e6),
    latency_seconds=st.none() | st.floats(0.01, 10),
    cost_per_wrong_answer=st.none() | st.floats(0.001, 100),
)


@given(situations(), ANSWERS)
def test_every_reason_cites_something_measured_or_said(found, answers: Answers) -> None:
    rungs = advised(found, answers)
    known = {one.name for one in found.all()}
    reasons = [reason for one in rungs.values() for reason in (*one.reasons, *one.against)] + list(
        before_anything(found)
    )
    for reason in reasons:
        assert reason.rests_on
        for one in reason.rests_on:
            assert isinstance(one, Given) or one.name in known
            assert basis(one)
    assert sum(one.advised is Advised.TRY_FIRST for one in rungs.values()) <= 1
    assert (Rung.CLASSIFIER in rungs) == (found.task is TaskKind.LABELS)


def _eagerness(found, answers: Answers, rung: Rung) -> int:
    return min(2, EAGERNESS[advised(found, answers)[rung].advised])  # who is first depends on the others too


@given(situations(), ANSWERS)
def test_a_yes_never_moves_advice_the_wrong_way(found, answers: Answers) -> None:
    def both(name: str, rung: Rung) -> tuple[int, int]:
        first, second = (replace(answers, **{name: said}) for said in (Said.NO, Said.YES))
        return _eagerness(found, first, rung), _eagerness(found, second, rung)

    for name, rung in (
        ("format_is_the_problem", Rung.TUNED),
        ("format_is_the_problem", Rung.TUNED_RETRIEVAL),
        ("knowledge_changes", Rung.RETRIEVAL),
        ("large_model", Rung.LARGE),
    ):
        without, with_it = both(name, rung)
        assert without <= with_it
    without, with_it = both("knowledge_changes", Rung.TUNED)
    assert with_it <= without


@given(situations(), ANSWERS, st.floats(0.01, 1), st.floats(1, 10))
def test_more_patience_never_takes_a_rung_away(found, answers: Answers, short: float, longer: float) -> None:
    for rung in (Rung.PROMPT, Rung.TUNED, Rung.FEW_SHOT):
        hasty = _eagerness(found, replace(answers, latency_seconds=short), rung)
        patient = _eagerness(found, replace(answers, latency_seconds=short * longer), rung)
        assert hasty <= patient or hasty == EAGERNESS[Advised.NOT_YET]
