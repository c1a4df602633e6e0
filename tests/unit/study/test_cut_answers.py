"""Answers that the token limit cut: told by name, and nothing is decided by them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from small_studies import answer, example

from fettle.records import Decision, FinishReason
from fettle.statistics.compare import ScoredArm, compare
from fettle.study.cut_answers import AnsweredArm, CutAnswers, cut_answers, is_cut_short, warnings_of_cut
from fettle.study.verdict import VerdictContext, decide

WANTED = "twenty characters it"
TEST = [example(number, WANTED) for number in range(60)]
CLUSTERS = list(range(60))
NAME = "answers cut at the token limit"


def arm(name: str, scores: Sequence[float], *, num_cut: int = 0, length: int = 20) -> AnsweredArm:
    """A contender of which the limit cut the first answers at some length, characters."""
    texts = ["x" * length] * num_cut + [WANTED] * (len(TEST) - num_cut)
    reasons = [FinishReason.LENGTH] * num_cut + [FinishReason.STOP] * (len(TEST) - num_cut)
    answers = tuple(
        answer(one.id, text, finish_reason=reason) for one, text, reason in zip(TEST, texts, reasons, strict=True)
    )
    return AnsweredArm(title=name, answers=answers, scored=ScoredArm(name=name, scores=tuple(scores), is_binary=False))


def cut_of(ours: AnsweredArm, theirs: AnsweredArm) -> CutAnswers | None:
    return cut_answers(ours, theirs, TEST, CLUSTERS, limit=64)


def verdict(ours: AnsweredArm, theirs: AnsweredArm, *, constant: AnsweredArm | None = None):
    context = VerdictContext(
        challenger_title=ours.title,
        baseline_title=theirs.title,
        baseline_is_classifier=False,
        num_clusters=60,
        cut=cut_of(ours, theirs),
        to_constant=None
        if constant is None
        else compare(ours.scored, constant.scored, CLUSTERS, is_primary=False, seed=0),
        cut_to_constant=None if constant is None else cut_of(ours, constant),
    )
    return decide(compare(ours.scored, theirs.scored, CLUSTERS, is_primary=True, seed=0), context)


@pytest.mark.parametrize(
    ("text", "reason", "is_short"),
    [
        ("twenty", FinishReason.LENGTH, True),
        ("x" * 39, FinishReason.LENGTH, True),
        ("x" * 40, FinishReason.LENGTH, False),  # twice the wanted one: it runs on
        ("", FinishReason.LENGTH, True),  # thoughts, perhaps, that left no room for an answer
        ("twenty", FinishReason.STOP, False),
        ("", FinishReason.ERROR, False),
    ],
)
def test_which_answers_the_limit_may_have_spoilt(text: str, reason: FinishReason, is_short: bool) -> None:
    assert is_cut_short(answer("e1", text, finish_reason=reason), WANTED) is is_short


def test_a_win_over_answers_that_were_cut_is_none() -> None:
    better = arm("tuned", [0.8] * 60)
    cut = arm("few_shot", [0.2] * 24 + [0.8] * 36, num_cut=24)
    whole = arm("few_shot", [0.2] * 24 + [0.8] * 36)
    assert verdict(better, whole).decision is Decision.SHIP
    found = verdict(better, cut)
    assert found.decision is Decision.CANNOT_TELL
    assert found.headline.startswith(f"Cannot tell yet: {NAME}: 24 of 60 examples have one (tuned: 0, few_shot: 24)")
    assert "--max-new-tokens 128" in found.reasons[0]


def test_answers_that_run_on_are_scored_as_they_stand() -> None:
    better = arm("tuned", [0.8] * 60)
    assert verdict(better, arm("few_shot", [0.2] * 60, num_cut=60, length=40)).decision is Decision.SHIP


def test_a_win_that_stands_whatever_was_cut_off_stays_one() -> None:
    better = arm("tuned", [0.9] * 60)
    assert verdict(better, arm("few_shot", [0.1] * 60, num_cut=6)).decision is Decision.SHIP
    few = arm("few_shot", [0.7] * 60, num_cut=3)
    assert verdict(better, few).decision is Decision.SHIP, "5 % are let pass"


def test_a_loss_by_answers_that_were_cut_is_none() -> None:
    cut, good = arm("tuned", [0.2] * 30 + [0.8] * 30, num_cut=30), arm("few_shot", [0.8] * 60)
    assert verdict(cut, good).decision is Decision.CANNOT_TELL
    assert NAME in verdict(cut, good).headline
    assert verdict(arm("tuned", [0.2] * 30 + [0.8] * 30), good).decision is Decision.STAY


def test_nor_does_the_constant_answer_win_by_them() -> None:
    cut, bad, constant = (
        arm("tuned", [0.4] * 60, num_cut=30),
        arm("few_shot", [0.3] * 60),
        arm("constant", [0.5] * 60),
    )
    found = verdict(cut, bad, constant=constant)
    assert found.decision is Decision.CANNOT_TELL
    assert "(tuned: 30, constant: 0)" in found.headline
    assert verdict(arm("tuned", [0.4] * 60), bad, constant=constant).decision is Decision.STAY


def test_a_reader_is_told_where_it_is_more_than_a_few() -> None:
    ours = arm("tuned", [0.8] * 60)
    assert cut_of(ours, arm("few_shot", [0.8] * 60)) is None
    assert warnings_of_cut(None) == ()
    assert warnings_of_cut(cut_of(ours, arm("few_shot", [0.8] * 60, num_cut=1))) == ()
    [told] = warnings_of_cut(cut_of(ours, arm("few_shot", [0.8] * 60, num_cut=2)))
    assert told == (
        "Answers cut at the token limit: 2 of 60 examples have one (tuned: 0, few_shot: 2). What would have followed might score "
        "otherwise; try --max-new-tokens 128."
    )
