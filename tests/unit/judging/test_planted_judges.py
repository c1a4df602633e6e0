"""Judges with a planted fault are caught by its name, and a fair one is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from judged_studies import (
    Shown,
    StandIn,
    always_first,
    always_ties,
    fair,
    longer,
    quality,
    rambling,
    random_study,
    study,
    verdict,
)

from fettle.errors import RemoteError
from fettle.judging.compare import Judge, judge_study
from fettle.judging.records import FaultKind, JudgedComparison, LengthBasis
from fettle.judging.rubric import Rubric
from fettle.judging.settings import JudgeSettings
from fettle.report_records import StudyReport
from fettle.statistics.agreement import JudgeAgreement

RUBRIC = Rubric(text="The better one is better.", origin="the test")


def judged(says, report: StudyReport, folder: Path, *, people=None, **settings) -> JudgedComparison:
    judge = Judge(engine=StandIn(says), rubric=RUBRIC)
    return judge_study(report, judge, JudgeSettings(**settings), folder=folder, people=people)


def kinds(result: JudgedComparison) -> list[FaultKind]:
    return [fault.kind for fault in result.faults]


def test_a_fair_judge_with_noise_finds_the_better_contender_and_has_no_fault(tmp_path: Path) -> None:
    result = judged(fair(0.7), random_study(160, seed=1, gain=1), tmp_path, repeats=2)
    assert result.faults == ()
    assert result.is_usable
    assert result.win_rate.low > 0.5
    assert result.length_controlled is not None
    assert result.length_controlled.estimate == pytest.approx(result.win_rate.estimate, abs=0.06)
    assert result.position is not None
    assert result.position.first.low < 0.5 < result.position.first.high
    assert 0.02 < result.position.inconsistent.estimate < 0.5
    assert result.flips is not None
    assert 0.02 < result.flips.rate.estimate < 0.5
    assert result.flips.num_questions == 320
    assert result.num_wins + result.num_ties + result.num_losses == 160


def test_a_judge_that_always_says_first_is_named_and_unusable(tmp_path: Path) -> None:
    result = judged(always_first, random_study(60, seed=2, gain=2), tmp_path)
    assert kinds(result) == [FaultKind.PREFERS_FIRST]
    assert FaultKind.PREFERS_FIRST.value == "prefers whichever answer comes first"
    assert not result.is_usable
    assert result.position is not None
    assert result.position.first.estimate == result.position.inconsistent.estimate == 1.0
    assert result.position.same_answer is not None
    assert result.position.same_answer.estimate == 0.0
    assert result.win_rate.estimate == 0.5, "verdicts that the order decides are ties"


def test_a_judge_that_always_says_second_is_named_as_well(tmp_path: Path) -> None:
    result = judged(lambda _pair, _rng: verdict("second"), random_study(40, seed=2), tmp_path)
    assert kinds(result) == [FaultKind.PREFERS_SECOND]
    assert not result.is_usable


def test_a_judge_that_leans_to_the_first_answer_is_told_of_and_can_be_used(tmp_path: Path) -> None:
    def leaning(pair: Shown, rng: random.Random) -> str:
        return always_first(pair, rng) if rng.random() < 0.3 else fair(0.3)(pair, rng)

    result = judged(leaning, random_study(200, seed=3, gain=2), tmp_path)
    assert kinds(result) == [FaultKind.PREFERS_FIRST]
    assert result.is_usable
    assert result.win_rate.low > 0.5


def test_a_judge_that_prefers_the_longer_answer_is_named_where_graders_see_no_difference(tmp_path: Path) -> None:
    rng = random.Random(4)
    lengths = [(rng.randint(30, 60), rng.randint(20, 50)) for _ in range(80)]
    result = judged(longer, study([(3, 3)] * 80, lengths=lengths), tmp_path)
    assert FaultKind.PREFERS_LONGER in kinds(result)
    assert result.length is not None
    assert result.length.basis is LengthBasis.GRADERS
    assert result.length.longer_wins.estimate == 1.0
    assert result.win_rate.low > 0.6, "the tuned contender's answers are longer"
    assert result.length_controlled is not None
    assert result.length_controlled.low < 0.5 < result.length_controlled.high, "at equal length nothing is left of it"


def test_people_say_better_than_graders_which_answers_are_alike(tmp_path: Path) -> None:
    rng = random.Random(5)
    lengths = [(rng.randint(0, 60), rng.randint(0, 60)) for _ in range(60)]
    report = study([(3, 5)] * 60, lengths=lengths)
    alike = {row.example_id: [0.5, 0.5] for row in report.rows[:40]}
    result = judged(longer, report, tmp_path, people=alike)
    assert result.length is not None
    assert result.length.basis is LengthBasis.PEOPLE
    assert 30 < result.length.num_pairs <= 40
    without = judged(longer, report, tmp_path)
    assert without.length is not None
    assert without.length.basis is LengthBasis.NOT_BETTER  # where the worse answer by the graders is the longer one
    assert FaultKind.PREFERS_LONGER in kinds(without)


def test_a_judge_that_prefers_the_longer_is_named_where_one_contender_is_always_longer(tmp_path: Path) -> None:
    rng = random.Random(6)
    lengths = [(rng.randint(40, 60), rng.randint(0, 20)) for _ in range(60)]
    result = judged(longer, study([(3, 5)] * 60, lengths=lengths), tmp_path)
    assert FaultKind.PREFERS_LONGER in kinds(result)
    better_is_longer = judged(fair(0.7), study([(5, 3)] * 60, lengths=lengths), tmp_path)
    assert FaultKind.PREFERS_LONGER not in kinds(better_is_longer)


def test_people_who_are_divided_evenly_say_nothing_of_a_judge(tmp_path: Path) -> None:
    report = random_study(40, seed=9, gain=3)
    people = {row.example_id: [1.0, 0.0] for row in report.rows}
    assert judged(fair(0.7), report, tmp_path, people=people).agreement is None


def test_a_judge_that_prefers_nothing_is_unusable(tmp_path: Path) -> None:
    result = judged(always_ties, random_study(40, seed=6, gain=3), tmp_path)
    assert kinds(result) == [FaultKind.NEVER_PREFERS]
    assert not result.is_usable


def test_a_judge_that_tosses_a_coin_is_told_of(tmp_path: Path) -> None:
    result = judged(lambda _pair, rng: verdict(rng.choice(["first", "second"])), random_study(100, seed=7), tmp_path)
    assert kinds(result) == [FaultKind.LIKE_A_COIN]


def test_a_judge_whose_replies_cannot_be_read_ends_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"20 of 20 replies are unreadable.*look at judging/replies\.jsonl"):
        judged(rambling, random_study(10, seed=8), tmp_path)


def test_unreadable_replies_are_counted_and_never_guessed(tmp_path: Path) -> None:
    def sometimes(pair: Shown, rng: random.Random) -> str:
        return rambling(pair, rng) if pair.asked.endswith("0") and "t quality" in pair.first else fair(0)(pair, rng)

    report = random_study(40, seed=9, gain=1)
    result = judged(sometimes, report, tmp_path)
    assert (result.counts.num_questions, result.counts.num_unreadable, result.counts.num_readable) == (80, 4, 76)
    assert result.num_undecided == 4, "one order alone says nothing"
    undecided = {pair.example_id for pair in result.pairs if pair.preference is None}
    assert undecided == {"e0", "e10", "e20", "e30"}
    assert result.num_wins + result.num_ties + result.num_losses == 36
    assert kinds(result) == [], "5 % is not many"


def test_mostly_unreadable_is_unusable(tmp_path: Path) -> None:
    def seldom(pair: Shown, rng: random.Random) -> str:
        return fair(0)(pair, rng) if pair.asked.endswith(("1", "2")) else rambling(pair, rng)

    result = judged(seldom, random_study(60, seed=10, gain=1), tmp_path)
    assert FaultKind.UNREADABLE in kinds(result)
    assert not result.is_usable
    assert result.faults[0].evidence == "96 of 120 replies"


def test_equal_answers_are_ties_without_asking(tmp_path: Path) -> None:
    report = random_study(30, seed=11, gain=4)
    for row in report.rows[:10]:
        row.answers["tuned"] = row.answers["few_shot"] + "\n"
    engine = StandIn(fair(0))
    result = judge_study(report, Judge(engine=engine, rubric=RUBRIC), JudgeSettings(), folder=tmp_path)
    assert len(engine.asked) == 40
    assert (result.num_pairs, result.num_equal) == (30, 10)
    assert result.num_ties >= 10
    for row in report.rows:
        row.answers["tuned"] = row.answers["few_shot"]
    result = judge_study(report, Judge(engine=engine, rubric=RUBRIC), JudgeSettings(), folder=tmp_path)
    assert len(engine.asked) == 40, "nobody was asked"
    assert (result.num_ties, result.position, result.flips, result.length) == (30, None, None, None)
    assert result.win_rate.estimate == 0.5


def votes_of_people(report: StudyReport, num_examples: int) -> dict[str, list[float]]:
    """Two people who see the quality, the second one seldom sure."""
    votes = {}
    for row in report.rows[:num_examples]:
        ours, theirs = (quality(row.answers[name]) for name in ("tuned", "few_shot"))
        first = 1.0 if ours > theirs else 0.0 if ours < theirs else 0.5
        votes[row.example_id] = [first, first if abs(ours - theirs) > 2 else 0.5]
    return votes


def test_a_judge_that_agrees_with_people_is_corrected_by_them(tmp_path: Path) -> None:
    report = random_study(150, seed=12, gain=1)
    result = judged(fair(0.5), report, tmp_path, people=votes_of_people(report, 50))
    assert result.faults == ()
    assert result.agreement is not None
    assert result.agreement.decision is JudgeAgreement.BETTER_THAN_CHANCE
    assert result.corrected is not None
    assert (result.corrected.num_human, result.corrected.num_judged) == (50, 150)
    corrected, alone = result.corrected.corrected, result.corrected.human_only
    assert corrected.high - corrected.low < alone.high - alone.low
    without = judged(fair(0.5), report, tmp_path)
    assert (without.agreement, without.corrected) == (None, None)


def test_a_judge_that_agrees_with_people_no_better_than_chance_is_unusable(tmp_path: Path) -> None:
    report = random_study(200, seed=13)
    result = judged(longer, report, tmp_path, people=votes_of_people(report, 200))
    assert FaultKind.NOT_LIKE_PEOPLE in kinds(result)
    assert not result.is_usable


def test_few_votes_of_people_say_that_more_are_needed(tmp_path: Path) -> None:
    report = random_study(60, seed=14)
    result = judged(longer, report, tmp_path, people=votes_of_people(report, 12))
    [fault] = [fault for fault in result.faults if fault.kind is FaultKind.PEOPLE_CANNOT_TELL]
    assert not fault.is_disqualifying
    assert "more would probably tell" in fault.evidence


def test_people_are_not_held_against_a_judge_where_nobody_was_asked(tmp_path: Path) -> None:
    report = study([(3, 3)] * 30)
    for row in report.rows:
        row.answers["tuned"] = row.answers["few_shot"]
    result = judged(fair(0), report, tmp_path, people={row.example_id: [0.5] for row in report.rows})
    assert (result.agreement, result.corrected, result.faults) == (None, None, ())
