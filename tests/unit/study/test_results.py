from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from small_studies import LABEL_TASK, LABELS, Parrot, answer, example, split, telling

from fettle.contenders.readings import LabelReading, Reading
from fettle.records import Answer, FinishReason, Interval, Task, TaskKind
from fettle.report_records import LossPoint
from fettle.scoring.registry import grader_by_name
from fettle.study.ladder import Rung
from fettle.study.results import (
    TestedRung as AnsweredRung,  # pytest would take it for tests
)
from fettle.study.results import (
    answer_rows,
    beaten_by,
    by_name,
    comparisons,
    contender_result,
    part_scores,
    scored_arm,
    warnings_of,
    warnings_of_empty,
    warnings_of_others,
    warnings_of_parts,
    warnings_of_training,
)
from fettle.study.verdict import BetterContender

TEST = [example(number, LABELS[number % 2]) for number in range(8)]
SPLIT = split(train=[example(20)], valid=[example(21)], test=TEST)
GRADER = grader_by_name("exact_label", LABEL_TASK, SPLIT.train)


def rung_of(name: str, texts: Sequence[str | None], *, likelihoods: dict[str, float] | None = None) -> AnsweredRung:
    """A rung that gave these texts; None: the request failed."""
    answers: list[Answer] = []
    for one, text in zip(TEST, texts, strict=True):
        failed = text is None
        reason = FinishReason.ERROR if failed else FinishReason.STOP
        answers.append(answer(one.id, text or "", finish_reason=reason, likelihoods=None if failed else likelihoods))
    reading = LabelReading(kind=Reading.GREEDY, mean_log_likelihoods={})
    parrot = Parrot({}, name=name, title=name.title())
    rung = Rung(contender=parrot, reading=reading, validation_score=0.5)
    return AnsweredRung(rung=rung, answers=tuple(answers), latencies=(0.1, 0.3))


RIGHT = [one.answer for one in TEST]
HALF = ["billing"] * 8
FAILING = [None, None, *RIGHT[2:]]


def test_all_figures_of_a_contender() -> None:
    result = contender_result(rung_of("half", HALF), SPLIT, LABEL_TASK, [GRADER], seed=0)
    accuracy, macro = result.metrics
    assert accuracy.grader == "exact_label"
    assert accuracy.interval.estimate == 0.5
    assert (accuracy.num_scored, accuracy.num_unscored) == (8, 0)
    # billing: precision 4/8, recall 1, F1 2/3; delivery: never said, F1 0; their mean is 1/3.
    assert macro.grader == "macro_f1"
    assert macro.interval.estimate == pytest.approx(1 / 3)
    assert (result.num_failed, result.num_truncated) == (0, 0)
    assert result.resources.prompt_tokens_per_request == 10
    assert result.resources.latency_seconds_p50 == pytest.approx(0.2)
    assert result.resources.latency_seconds_p95 is None, "two requests have no 95th percentile"


def test_failures_are_counted_and_never_zeros() -> None:
    result = contender_result(rung_of("failing", FAILING), SPLIT, LABEL_TASK, [GRADER], seed=0)
    accuracy, macro = result.metrics
    assert accuracy.interval.estimate == macro.interval.estimate == 1.0
    assert (accuracy.num_scored, accuracy.num_unscored) == (6, 2)
    assert (macro.num_scored, macro.num_unscored) == (6, 2)
    assert result.num_failed == 2
    assert warnings_of([result], 8) == (
        "Failing: 2 of 8 requests failed and are unscored; the same command asks them again. "
        "2 requests failed: refused (2).",
    )
    assert result.resources.prompt_tokens_per_request == 10, "of the requests that were answered"


def test_answers_without_text_are_told_and_failures_are_none_of_them() -> None:
    assert warnings_of_empty([rung_of("whole", RIGHT), rung_of("failing", FAILING)], 8) == ()
    assert warnings_of_empty([rung_of("silent", ["", " ", *RIGHT[2:]])], 8) == (
        "Empty answers: 2 of 8 of Silent have no text, and are scored so.",
    )


def test_the_reasons_of_failures_are_told_the_frequent_ones_first() -> None:
    rung = rung_of("failing", [None] * 7 + RIGHT[7:])
    reasons = ["HTTP 500", "late", "HTTP 500", "a", "b", "c", "late", None]
    answers = tuple(replace(one, error=reason) for one, reason in zip(rung.answers, reasons, strict=True))
    rung = replace(rung, answers=answers, rung=replace(rung.rung, num_failed=1))
    result = contender_result(rung, SPLIT, LABEL_TASK, [GRADER], seed=0)
    told = "7 requests failed: HTTP 500 (2); late (2); a (1); and 2 other reasons. On validation 1 request failed."
    assert result.note == told
    rows = answer_rows([rung_of("tuned", RIGHT), rung], SPLIT, GRADER)
    assert [row.errors.get("failing") for row in rows] == reasons
    assert not any("tuned" in row.errors for row in rows)


def test_a_contender_whose_every_request_failed_has_no_figure() -> None:
    result = contender_result(rung_of("dead", [None] * 8), SPLIT, LABEL_TASK, [GRADER], seed=0)
    assert result.metrics == ()
    assert result.num_failed == 8
    assert result.resources.prompt_tokens_per_request is result.resources.seconds_per_request is None


def test_label_likelihood_is_reported_beside_the_reading_that_was_chosen() -> None:
    liking = {"billing": -2.0, "delivery": -1.0}
    result = contender_result(rung_of("lm", HALF, likelihoods=liking), SPLIT, LABEL_TASK, [GRADER], seed=0)
    assert [metric.grader for metric in result.metrics] == ["exact_label", "macro_f1", "label_likelihood"]
    assert result.metrics[2].interval.estimate == 0.5, "delivery every time"


def test_the_declared_comparison_comes_first_and_the_others_are_adjusted() -> None:
    rungs = [rung_of("tuned", RIGHT), rung_of("a", HALF), rung_of("b", ["delivery"] * 8), rung_of("dead", [None] * 8)]
    found = comparisons(rungs, SPLIT, GRADER, challenger="tuned", baseline="b", seed=0)
    assert [(one.challenger, one.baseline, one.is_primary) for one in found] == [
        ("tuned", "b", True),
        ("tuned", "a", False),
    ], "a contender without one scored answer is in no comparison"
    assert found[0].difference.estimate == 0.5
    assert (found[0].num_wins, found[0].num_ties, found[0].num_losses) == (4, 4, 0)
    assert found[0].p_value_adjusted == found[0].p_value


def test_pairs_with_an_unscored_side_are_left_out_and_counted() -> None:
    rungs = [rung_of("tuned", RIGHT), rung_of("failing", [None, "delivery", *HALF[2:]])]
    [only] = comparisons(rungs, SPLIT, GRADER, challenger="tuned", baseline="failing", seed=0)
    assert (only.num_pairs, only.num_pairs_unscored) == (7, 1)
    assert only.difference.estimate == pytest.approx(3 / 7)


def test_rows_stand_in_the_order_of_the_test_split_with_everyones_answer() -> None:
    rungs = [rung_of("tuned", RIGHT), rung_of("failing", FAILING)]
    rows = answer_rows(rungs, SPLIT, GRADER)
    assert [row.example_id for row in rows] == [one.id for one in TEST]
    assert [row.cluster for row in rows] == [SPLIT.cluster_by_id[one.id] for one in TEST]
    assert rows[0].source == "small.jsonl:0"
    assert rows[0].answers == {"tuned": "billing", "failing": ""}
    assert rows[0].scores == {"tuned": 1.0, "failing": None}
    assert rows[3].scores == {"tuned": 1.0, "failing": 1.0}
    assert scored_arm(rungs[1], TEST, GRADER).scores == tuple(row.scores["failing"] for row in rows)


def test_every_contender_is_scored_label_by_label() -> None:
    half, failing = part_scores([rung_of("half", HALF), rung_of("failing", FAILING)], TEST, LABEL_TASK)
    billing, delivery = half.parts
    assert (half.contender, failing.contender) == ("half", "failing")
    assert (billing.name, billing.num_wanted, billing.num_answered, billing.num_right) == ("billing", 4, 8, 4)
    assert (billing.precision, billing.recall, billing.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    assert (delivery.precision, delivery.recall, delivery.f1) == (None, 0.0, 0.0)
    assert [(one.num_wanted, one.f1) for one in failing.parts] == [(3, 1.0), (3, 1.0)], "failed requests are left out"


def test_json_answers_are_scored_field_by_field_and_free_text_not_at_all() -> None:
    test = [example(0, '{"city": "Bath", "n": 1}'), example(1, '{"city": "York"}')]
    told = rung_of("told", HALF)
    said = (answer("e0", '{"city": "bath", "n": 2}'), answer("e1", "no idea"))
    arm = AnsweredRung(rung=told.rung, answers=said, latencies=())
    [found] = part_scores([arm], test, Task(kind=TaskKind.JSON, reason="said so"))
    assert [(one.name, one.num_wanted, one.num_answered, one.num_right) for one in found.parts] == [
        ("city", 2, 1, 1),
        ("n", 1, 1, 0),
    ]
    assert part_scores([arm], test, Task(kind=TaskKind.TEXT, reason="said so")) == ()


def test_cut_answers_are_warned_of_from_two_in_a_hundred() -> None:
    result = contender_result(rung_of("half", HALF), SPLIT, LABEL_TASK, [GRADER], seed=0)
    assert warnings_of([replace(result, num_truncated=2)], 100) == ()
    [warning] = warnings_of([replace(result, num_truncated=3)], 100)
    assert warning.startswith("Half: 3 of 100 answers were cut at the token limit")


def test_prompts_that_had_to_be_shortened_are_counted() -> None:
    parrot = replace(telling(SPLIT.test, RIGHT), shortened=("e99", "e0", "e3"))
    arm = rung_of("few", RIGHT)
    arm = replace(arm, rung=replace(arm.rung, contender=parrot))
    result = contender_result(arm, SPLIT, LABEL_TASK, [GRADER], seed=0)
    assert result.num_shortened == 2
    [warning] = warnings_of([result], 8)
    assert (
        "2 of 8 prompts were too long for the model and were shown less than described: fewer examples or passages"
        in warning
    )


def test_a_contender_that_beat_the_baseline_and_the_tuned_model_is_warned_of() -> None:
    rungs = [rung_of("tuned", HALF), rung_of("base", HALF), rung_of("best", RIGHT), rung_of("equal", HALF)]
    rungs.append(rung_of("worse", ["neither"] * 8))
    compared = comparisons(rungs, SPLIT, GRADER, challenger="tuned", baseline="base", seed=0)
    results = [contender_result(rung, SPLIT, LABEL_TASK, [GRADER], seed=0) for rung in rungs]
    [best] = warnings_of_others(results, compared)
    assert best.startswith("Best was not the declared baseline, and scored higher than it on the test examples")
    assert "against the tuned model: +50.0\xa0points (95\xa0% interval " in best
    stay = comparisons(rungs, SPLIT, GRADER, challenger="tuned", baseline="best", seed=0)
    assert warnings_of_others(results, stay) == ()


def test_only_who_surely_beat_the_tuned_model_stands_in_the_headline() -> None:
    arms = [rung_of("tuned", HALF), rung_of("base", HALF), rung_of("best", RIGHT)]
    results = [contender_result(arm, SPLIT, LABEL_TASK, [GRADER], seed=0) for arm in arms]
    primary, other = comparisons(arms, SPLIT, GRADER, challenger="tuned", baseline="base", seed=0)
    surely = replace(
        other, difference=Interval(estimate=-0.5, low=-0.7, high=-0.3), p_value_adjusted=0.01, baseline="best"
    )
    assert beaten_by(results, [primary, surely]) == (
        BetterContender(title="Best", ahead_by=0.5, p_value_adjusted=0.01),
    )
    assert beaten_by(results, [primary, replace(surely, p_value_adjusted=0.2)]) == ()
    assert beaten_by(results, [primary, replace(surely, difference=Interval(estimate=-0.1, low=-0.3, high=0.1))]) == ()
    assert beaten_by(results, [replace(surely, is_primary=True)]) == ()


def test_training_that_did_not_help_is_warned_of() -> None:
    def points(before: float, *after: float) -> list[LossPoint]:
        return [LossPoint(step=step, epoch=0.0, valid_loss=loss) for step, loss in enumerate((before, *after))]

    assert warnings_of_training(points(2.0, 1.5, 1.9), 1) == ()
    [warning] = warnings_of_training(points(2.0, 2.5, 2.25), 2)
    assert warning.startswith("Training did not lower the validation loss: it was 2 before, and 2.25 at the best step")


def test_a_rung_is_found_by_its_name() -> None:
    rungs = [rung_of("tuned", RIGHT), rung_of("a", HALF)]
    assert by_name(rungs, "a") is rungs[1]


def test_what_the_tuned_model_never_finds_is_said() -> None:
    wanted = {one: [test.answer for test in TEST].count(one) for one in LABELS}
    assert min(wanted.values()) < 5
    many = [example(number, LABELS[number % 2]) for number in range(12)]
    texts = [LABELS[0]] * 12
    answers = tuple(answer(one.id, text) for one, text in zip(many, texts, strict=True))
    rung = AnsweredRung(rung=rung_of("tuned", RIGHT).rung, answers=answers, latencies=())
    scores = part_scores([rung], many, LABEL_TASK)
    [warning] = warnings_of_parts(scores, LABEL_TASK, challenger="tuned")
    assert f"{LABELS[1]} (wanted 6 times)" in warning
    assert LABELS[0] not in warning
    assert (
        warnings_of_parts(part_scores([rung_of("tuned", HALF)], TEST, LABEL_TASK), LABEL_TASK, challenger="tuned") == ()
    )
    assert warnings_of_parts(scores, LABEL_TASK, challenger="other") == ()
    assert warnings_of_parts((), Task(kind=TaskKind.TEXT, reason="text"), challenger="tuned") == ()
