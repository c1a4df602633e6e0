"""The router of a study, from both contenders' answers to the page."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from small_studies import LABEL_TASK, Parrot, answer, example, split

from build_report import label_report
from fettle.contenders.readings import LabelReading, Reading
from fettle.errors import ConfigError
from fettle.records import Answer, Example, FinishReason, Split, Task
from fettle.report_records import StudyReport
from fettle.routing.confidence import Measure, label_margin
from fettle.routing_records import RoutingCosts
from fettle.scoring.grader import Grader
from fettle.scoring.graders.label import ExactLabel
from fettle.scoring.label_reader import LabelReader
from fettle.study.ladder import Rung
from fettle.study.looks import Looks
from fettle.study.page import render_page
from fettle.study.results import TestedRung as AnsweredRung
from fettle.study.routing_report import answered_twice, routing_report, warnings_of_routing
from fettle.study.routing_views import routing_sentence, view_routing
from fettle.study.settings import RemoteModel, RoutingSettings, StudySettings
from report_routing import routing

TITLES = {"tuned": "Tuned", "remote": "Large"}
SETTINGS = StudySettings(examples="a.jsonl", remote=RemoteModel(url="http://here/v1", model="m"))  # pyright: ignore[reportArgumentType]
FIRST = Looks(1, 1)


class Initials:
    """Vectors that hold the parity of the number in a text, and nothing else."""

    name = "initials"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[float(int(text.split()[-1]) % 2), 1.0] for text in texts], dtype=np.float32)


@dataclass(frozen=True)
class Data:
    task: Task = LABEL_TASK


@dataclass(frozen=True)
class Plan:
    """As much of a study's plan as a router looks at."""

    split: Split
    settings: StudySettings = SETTINGS
    data: Data = field(default_factory=Data)
    graders: tuple[Grader, ...] = (ExactLabel(reader=LabelReader(LABEL_TASK.labels)),)


def told(examples: Sequence[Example], *, seed: int, knows: bool, likelihoods: bool = True) -> list[Answer]:
    """Answers of which about 70 % are right; one that knows gives its wrong ones a small lead."""
    rng, given = random.Random(seed), []
    for one in examples:
        is_right = rng.random() < 0.7
        other = next(label for label in LABEL_TASK.labels if label != one.answer)
        text = one.answer if is_right else other
        lead = rng.random() + (1.0 if is_right and knows else 0.0)
        left = next(label for label in LABEL_TASK.labels if label != text)
        given.append(answer(one.id, text, likelihoods={text: 0.0, left: -lead} if likelihoods else None))
    return given


def oracle(examples: Sequence[Example]) -> list[Answer]:
    return [answer(one.id, one.answer) for one in examples]


def arm(name: str, valid: Sequence[Answer], test: Sequence[Answer]) -> AnsweredRung:
    reading = LabelReading(kind=Reading.CALIBRATED, mean_log_likelihoods={"billing": -0.5, "delivery": 0.0})
    parrot = Parrot({}, name=name)
    rung = Rung(contender=parrot, reading=reading, validation_score=0.5, validation_answers=tuple(valid))
    return AnsweredRung(rung=rung, answers=tuple(test), latencies=())


@pytest.fixture(scope="module")
def plan() -> Plan:
    made = [example(i, LABEL_TASK.labels[i % 2]) for i in range(700)]
    return Plan(split(train=made[:100], valid=made[100:300], test=made[300:]))


def test_what_it_knows_is_answered_small_and_the_target_is_kept(plan: Plan) -> None:
    valid, test = plan.split.valid, plan.split.test
    small = arm("tuned", told(valid, seed=1, knows=True), told(test, seed=2, knows=True))
    settings = replace(SETTINGS, routing=RoutingSettings(target=0.9))
    found = routing_report(
        replace(plan, settings=settings), small, arm("remote", oracle(valid), oracle(test)), FIRST, embedder=Initials()
    )
    assert found is not None
    assert found.is_promised
    assert found.rule.measure == "label_margin"
    assert found.rule.threshold is not None
    assert 0.0 < found.share_to_large.estimate < 0.45
    assert found.quality.estimate > 0.9
    assert (found.num_calibrated, found.num_validation, found.num_unscored) == (400, 200, 0)
    assert {one.measure for one in found.measures} == {"label_margin", "label_probability", "foreseen"}
    assert not found.is_target_derived
    assert (found.rule.labels, found.rule.reading) == (LABEL_TASK.labels, "calibrated label likelihood")
    assert found.rule.label_offsets == {"billing": -0.5, "delivery": 0.0}
    assert found.trusted is not None
    assert len(found.trusted) == round(400 * (1 - found.share_to_large.estimate))
    confident = [one.example_id for one in small.answers if (label_margin(one) or 0.0) >= found.rule.threshold]
    assert list(found.trusted) == confident


def test_a_target_that_nobody_named_is_a_share_of_what_the_large_model_reached_on_validation(plan: Plan) -> None:
    valid, test = plan.split.valid, plan.split.test
    small = arm("tuned", told(valid, seed=1, knows=True), told(test, seed=2, knows=True))
    found = routing_report(plan, small, arm("remote", oracle(valid), oracle(test)), FIRST, embedder=Initials())
    assert found is not None
    assert (found.target, found.is_target_derived, found.level) == (0.95, True, 0.95)
    again = routing_report(plan, small, arm("remote", oracle(valid), oracle(test)), Looks(4, 4), embedder=Initials())
    assert again is not None
    assert again.level == pytest.approx(0.9875), "a test split that was looked at before allows less error"


def test_confidence_is_foreseen_from_the_input_where_that_is_surely_better(plan: Plan) -> None:
    def by_parity(examples: Sequence[Example]) -> list[Answer]:
        # Right about odd messages alone, and sure of everything.
        given = [example_answer(one, is_right=int(one.id[1:]) % 2 == 1) for one in examples]
        return [replace(one, choice_log_likelihoods=None) for one in given]

    valid, test = plan.split.valid, plan.split.test
    found = routing_report(
        plan,
        arm("tuned", by_parity(valid), by_parity(test)),
        arm("remote", oracle(valid), oracle(test)),
        FIRST,
        embedder=Initials(),
    )
    assert found is not None
    assert found.rule.measure == Measure.FORESEEN
    assert len(found.rule.coefficients) == 2
    assert found.rule.coefficients[0] > 0
    assert found.share_to_large.estimate == pytest.approx(0.5, abs=0.03)
    assert found.quality.estimate == 1.0


def example_answer(one: Example, *, is_right: bool) -> Answer:
    other = next(label for label in LABEL_TASK.labels if label != one.answer)
    return answer(one.id, one.answer if is_right else other)


def test_a_failed_small_request_goes_to_the_large_model_and_a_failed_large_one_is_left_out(plan: Plan) -> None:
    few = plan.split.valid[:3]
    small = [*oracle(few[:1]), answer(few[1].id, "", finish_reason=FinishReason.ERROR), *oracle(few[2:])]
    large = [*oracle(few[:2]), answer(few[2].id, "", finish_reason=FinishReason.ERROR)]
    found = answered_twice(few, small, large, plan.graders[0], plan.split.cluster_by_id)
    assert found is not None
    assert [one.id for one in found.examples] == [few[0].id, few[1].id]
    assert found.failed.tolist() == [False, True]
    assert found.pairs.small.tolist() == [1.0, 0.0]
    assert found.num_unscored == 1
    assert answered_twice(few, small, large[:2], plan.graders[0], plan.split.cluster_by_id) is None
    assert answered_twice(few[2:], small[2:], large[2:], plan.graders[0], plan.split.cluster_by_id) is None


def test_answers_without_probabilities_on_a_small_split_make_no_router_and_who_asked_is_told(plan: Plan) -> None:
    few = replace(plan, split=split(train=(), valid=plan.split.valid[:20], test=plan.split.test))
    small = arm("tuned", oracle(few.split.valid), oracle(few.split.test))
    assert routing_report(few, small, replace(small), FIRST, embedder=Initials()) is None
    assert warnings_of_routing(few, None) == ()
    asked = replace(few, settings=replace(SETTINGS, routing=RoutingSettings(target=0.9)))
    [warning] = warnings_of_routing(asked, None)
    assert "No router could be made" in warning


def test_a_target_needs_a_large_model_and_lies_between_nothing_and_everything() -> None:
    with pytest.raises(ConfigError, match="--route-to-target"):
        replace(SETTINGS, remote=None, routing=RoutingSettings(target=0.9))
    for wrong in ({"target": 1.0}, {"target": 0.0}, {"level": 1.0}):
        with pytest.raises(ConfigError):
            RoutingSettings(**wrong)


def test_another_target_is_read_from_the_same_answers() -> None:
    other = replace(SETTINGS, routing=RoutingSettings(target=0.8, level=0.9))
    assert other.key_parts() == SETTINGS.key_parts()
    assert "RoutingSettings(target=0.8, level=0.9)" in other.describe()


# ---------------------------------------------------------------------------------------------------- the page


def test_the_sentence_tells_share_promise_and_saving() -> None:
    found = routing(costs=RoutingCosts(small_per_request=0.0005, large_per_request=0.01))
    share = found.share_to_large.estimate
    told = routing_sentence(found, TITLES)
    assert f"{100 * share:.1f}\u00a0% of the requests" in told
    assert "at least 90.0\u00a0% is promised with 95\u00a0% confidence, from 500\u00a0test examples" in told
    assert f"{100 * (1 - share - 0.05):.1f}\u00a0% less than Large alone" in told
    assert "depends on what both cost" in routing_sentence(replace(found, costs=None), TITLES)
    dear = replace(found, costs=RoutingCosts(small_per_request=0.02, large_per_request=0.01))
    assert "% more than Large alone" in routing_sentence(dear, TITLES)


def test_what_cannot_be_promised_is_told_with_what_it_would_take() -> None:
    found = replace(routing(target=0.99), num_calibrated=200)
    assert not found.is_promised
    told = routing_sentence(found, TITLES)
    assert "cannot be promised with 95\u00a0% confidence: everything would go to Large" in told
    assert "at least 299 of them, all answered right" in told
    many = routing_sentence(replace(found, num_calibrated=1000), TITLES)
    assert "all answered right" not in many


def test_everything_to_the_large_model_can_be_a_promise_too() -> None:
    found = routing(target=0.9)
    told = routing_sentence(replace(found, rule=replace(found.rule, threshold=None)), TITLES)
    assert told.startswith("Everything has to go to Large: only so a mean score of at least 90.0\u00a0%")


def test_the_page_shows_the_curve_with_the_chosen_threshold_and_the_target() -> None:
    report: StudyReport = label_report(num_rows=60)
    page = render_page(report)
    assert '<section id="routing"' in page
    assert report.routing is not None
    view = view_routing(report.routing, TITLES)
    assert view.chart in page
    assert view.chart.count('class="ring"') == 1
    assert view.chart.count('class="limit"') == 1
    assert [row.is_used for row in view.measures].count(True) == 1
    assert "nan" not in view.chart
    assert all(math.isfinite(point.quality.low) for point in report.routing.curve)
    assert '<section id="routing"' not in render_page(replace(report, routing=None))
