from __future__ import annotations

import random
from dataclasses import replace

import pytest
from two_reports import report_of, rows_of, scored_row

from fettle.comparing.arms import arm_pairs
from fettle.comparing.compare import compare_studies
from fettle.comparing.records import ComparedStudies, Outcome
from fettle.errors import ConfigError, DataError
from fettle.records import TaskKind
from fettle.report_records import StudyReport
from fettle.statistics.intervals import paired_difference


def draws(share: float, *, seed: int, number: int = 200) -> list[float]:
    rng = random.Random(seed)
    return [float(rng.random() < share) for _ in range(number)]


def compared(first: StudyReport, second: StudyReport, *, worthwhile: float = 0.01, **chosen) -> ComparedStudies:
    return compare_studies(first, second, arm_pairs(first, second, **chosen), worthwhile=worthwhile)


def test_a_better_second_study_is_better_and_the_first_is_then_not() -> None:
    first = report_of(rows_of(draws(0.5, seed=1), draws(0.3, seed=2)))
    second = report_of(rows_of(draws(0.8, seed=3), draws(0.3, seed=2)))
    found = compared(first, second)
    assert found.outcome is Outcome.BETTER
    assert found.headline.startswith("B's Tuned is better than A's Tuned: +")
    back = compared(second, first)
    assert back.outcome is Outcome.NOT_BETTER
    assert "is worse than" in back.headline
    there, here = (one.comparisons[0].comparison for one in (found, back))
    assert there.difference.estimate == -here.difference.estimate
    assert there.win_rate.estimate == pytest.approx(1 - here.win_rate.estimate)


def test_the_interval_is_the_paired_one_of_the_shared_rows_alone() -> None:
    ours, theirs = draws(0.5, seed=1), draws(0.7, seed=3)
    first = report_of(rows_of(ours, ours, size=5))
    second = report_of(rows_of(theirs, theirs, size=5)[:100])
    found = compared(first, second).comparisons[0]
    clusters = [place // 5 for place in range(100)]
    assert found.comparison.difference == paired_difference(theirs[:100], ours[:100], clusters)
    assert found.comparison.num_pairs == 100
    assert found.challenger_mean == pytest.approx(sum(theirs[:100]) / 100)
    assert found.baseline_mean == pytest.approx(sum(ours[:100]) / 100)


def test_two_studies_with_equal_answers_are_no_better_and_nothing_changed() -> None:
    rows = rows_of(draws(0.5, seed=1), draws(0.3, seed=2))
    found = compared(report_of(rows), report_of(rows), worthwhile=0.05)
    assert found.outcome is Outcome.NOT_BETTER
    assert "is not better than A's Tuned by +5.0" in found.headline.replace("\u00a0", " ")
    assert (found.fixed, found.broken) == ((), ())


def test_few_rows_cannot_tell_and_more_of_them_are_named() -> None:
    first, second = (report_of(rows_of(draws(share, seed=seed, number=30), draws(0.3, seed=2, number=30)))
                     for share, seed in ((0.5, 5), (0.6, 6)))  # fmt: skip
    found = compared(first, second)
    assert found.outcome is Outcome.CANNOT_TELL
    assert found.num_more_test_examples is not None
    assert "it would take about" in found.headline


def test_every_contender_of_both_is_compared_the_verdicts_own_first_and_the_others_held_to_holm() -> None:
    three = [{"few_shot": b, "tuned": a, "prompt": c} for a, b, c in
             zip(draws(0.5, seed=1), draws(0.45, seed=2), draws(0.4, seed=3), strict=True)]  # fmt: skip
    better = [
        {name: max(score, draws(0.35, seed=9)[place]) for name, score in one.items()} for place, one in enumerate(three)
    ]
    first, second = (report_of([scored_row(f"q{i}", one, cluster=i) for i, one in enumerate(scores)])
                     for scores in (three, better))  # fmt: skip
    found = compared(first, second)
    named = [
        (one.comparison.challenger, one.comparison.baseline, one.comparison.is_primary) for one in found.comparisons
    ]
    assert named == [("B:tuned", "A:tuned", True), ("B:prompt", "A:prompt", False), ("B:few_shot", "A:few_shot", False)]
    own, *others = [one.comparison for one in found.comparisons]
    assert own.p_value_adjusted == own.p_value
    smallest = min(others, key=lambda one: one.p_value)
    assert smallest.p_value_adjusted == pytest.approx(min(1, 2 * smallest.p_value))


def test_two_contenders_of_one_study_each_are_compared_by_name() -> None:
    first = report_of(rows_of(draws(0.5, seed=1), draws(0.2, seed=2)))
    second = report_of(rows_of(draws(0.8, seed=3), draws(0.4, seed=4)))
    found = compared(first, second, between=("A:tuned", "B:prompt"))
    [only] = found.comparisons
    assert (only.comparison.challenger, only.comparison.baseline) == ("A:tuned", "B:prompt")
    assert only.challenger_mean == pytest.approx(sum(draws(0.5, seed=1)) / 200)
    assert [one.comparison.challenger for one in compared(first, second, contenders=["prompt"]).comparisons] == [
        "B:prompt"
    ]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"between": ("tuned", "A:prompt")}, "such as B:tuned"),
        ({"between": ("C:tuned", "A:prompt")}, "such as B:tuned"),
        ({"between": ("B:tuned", "B:prompt")}, "both are of B"),
        ({"between": ("B:nobody", "A:prompt")}, "study B has no contender 'nobody'"),
        ({"contenders": ["nobody"]}, "not both studies have a contender 'nobody'"),
        ({"contenders": ["tuned"], "between": ("B:tuned", "A:tuned")}, "exclude each other"),
    ],
)
def test_a_pair_that_cannot_be_is_refused_with_what_can(chosen, said: str) -> None:
    report = report_of(rows_of([1.0], [0.0]))
    with pytest.raises(ConfigError, match=said) as refused:
        arm_pairs(report, report, **chosen)
    assert refused.value.remedy


def test_studies_of_other_answers_or_graders_or_rows_are_refused() -> None:
    report = report_of(rows_of([1.0, 0.0], [0.0, 1.0]))
    for other, said in (
        (report_of(rows_of([1.0], [0.0]), kind=TaskKind.TEXT), "labels, those of the other text"),
        (replace(report, primary_metric="chrf"), "scores by exact_label, the other by chrf"),
        (report_of([scored_row("another", {"tuned": 1.0})]), "none of 2 test questions of A is among the 1 of B"),
        (report_of([replace(row, wanted="no") for row in report.rows]), "all 2 questions that both studies test"),
    ):
        with pytest.raises(DataError, match=said) as refused:
            compared(report, other)
        assert refused.value.remedy


def test_unscored_answers_are_no_zeros_and_many_of_them_leave_it_open() -> None:
    ours, theirs = draws(0.4, seed=1), draws(0.9, seed=2)
    prompt = draws(0.3, seed=3)
    few = [None if place < 5 else score for place, score in enumerate(theirs)]
    found = compared(report_of(rows_of(ours, prompt)), report_of(rows_of(few, prompt)))
    assert found.comparisons[0].comparison.num_pairs_unscored == 5
    assert found.comparisons[0].challenger_mean == pytest.approx(sum(theirs[5:]) / 195)
    assert found.outcome is Outcome.BETTER
    many = [None if place < 120 else score for place, score in enumerate(theirs)]
    assert compared(report_of(rows_of(ours, prompt)), report_of(rows_of(many, prompt))).outcome is Outcome.CANNOT_TELL
    none = report_of(rows_of([None] * 200, prompt))
    with pytest.raises(DataError, match="no test example could be scored"):
        compared(none, report_of(rows_of(theirs, prompt)))
    assert len(compared(none, report_of(rows_of(theirs, prompt)), contenders=["prompt", "tuned"]).comparisons) == 1


def test_rows_that_changed_are_given_with_both_answers_those_that_changed_most_first() -> None:
    first = report_of(rows_of([0.2, 0.9, 0.5, 0.5], [0.0] * 4))
    second = report_of(rows_of([0.3, 0.1, 1.0, 0.5], [0.0] * 4))
    found = compared(first, second)
    assert [(row.question, row.baseline_answer, row.challenger_answer) for row in found.fixed] == [
        ("question 2", "answer worth 0.5", "answer worth 1.0"),
        ("question 0", "answer worth 0.2", "answer worth 0.3"),
    ]
    assert [(row.question, row.gain) for row in found.broken] == [("question 1", pytest.approx(-0.8))]


def test_equal_answers_with_unequal_scores_are_told_first() -> None:
    said = {"tuned": "the same", "prompt": "the same"}
    first = report_of([scored_row("q", {"tuned": 0.4, "prompt": 0.5}, answers=said)])
    second = report_of([scored_row("q", {"tuned": 0.6, "prompt": 0.5}, answers=said)])
    assert "1 pair of equal answers" in compared(first, second).notes[0].replace("\u00a0", " ")
    assert not any("equal answers" in note for note in compared(first, first).notes)


def notes(first: StudyReport, second: StudyReport) -> str:
    return " ".join(compared(first, second).notes).replace("\u00a0", " ")


def test_what_a_reader_must_mind_is_told() -> None:
    rows = rows_of(draws(0.5, seed=1, number=40), draws(0.3, seed=2, number=40), size=4)
    first = report_of(rows, split_sha256={"test": "1", "train": "2"}, test_look_number=1, num_test_looks=1)
    same = notes(first, first)
    assert "split or instructed differently" not in same
    assert "base models differ" not in same
    assert "Rows that only one" not in same
    assert "form 10 groups that belong together" in same
    assert "10 independent groups of rows are few" in same
    assert "A was look 1 of 1 and B was look 1 of 1" in same
    assert "wider" not in same
    assert "a choice made on the test split" in same
    assert "another seed gives another model" in same

    second = report_of(rows[:30], split_sha256={"test": "3", "train": "2"}, model_sha256="other", test_look_number=3,
                       num_test_looks=4)  # fmt: skip
    other = notes(first, second)
    for said in ("Rows that only one of the studies tested", "were training rows of the other cannot be seen from reports",
                 "The base models differ", "B was look 3 of 4", "therefore wider (97.5 %)"):  # fmt: skip
        assert said in other
    untuned = compared(first, first, contenders=["prompt"])
    assert not any("another seed" in note for note in untuned.notes)


@pytest.mark.parametrize(("looks", "level"), [((1, 1), 0.95), ((1, 2), 0.95), ((3, 1), 0.975), ((1, 6), 0.99)])
def test_each_further_look_at_the_test_rows_is_paid_for(looks: tuple[int, int], level: float) -> None:
    first, second = (
        report_of(rows_of(draws(share, seed=seed), draws(0.3, seed=2)), test_look_number=look)
        for (share, seed), look in zip(((0.5, 1), (0.8, 3)), looks, strict=True)
    )
    for one in compared(first, second).comparisons:
        assert one.comparison.difference.level == pytest.approx(level)
        assert one.comparison.win_rate.level == pytest.approx(level)


def test_without_kept_clusters_that_is_said() -> None:
    rows = [replace(row, cluster=None) for row in rows_of([1.0, 0.0], [0.0, 1.0])]
    assert "did not keep which rows belong together" in notes(report_of(rows), report_of(rows))
