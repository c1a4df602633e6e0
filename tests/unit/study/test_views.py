"""Orders, groups and selections: nothing is lost on the way, and what matters most comes first."""

from dataclasses import replace

from build_report import json_report, label_report, text_report, untrained_report
from report_parts import findings

from fettle.report_records import Confusion, PartScore, PartScores
from fettle.scoring.corpus import label_scores
from fettle.study.views import (
    MAX_PARTS,
    MAX_PLACES_PER_FINDING,
    NUM_CONFUSED_LABELS,
    NUM_HEATS,
    NUM_WEAKEST_PARTS,
    all_graders,
    best_first,
    group_findings,
    primary_pair,
    view_confusions,
    view_parts,
)


def test_findings_are_grouped_with_the_grave_ones_first_and_none_lost():
    groups = group_findings(findings())
    assert [group.code for group in groups] == ["empty_answer", "near_duplicate", "personal_data", "encoding"]
    assert sum(group.num_findings for group in groups) == len(findings())
    assert groups[0].num_by_action == (("left out", 53),)
    assert len(groups[0].places) == MAX_PLACES_PER_FINDING


def test_contenders_come_by_score_and_those_without_one_last():
    contenders = label_report(num_rows=60).contenders
    unscored = replace(contenders[2], metrics=())
    ranked = best_first((unscored, *contenders[:2]))
    assert ranked[-1] is unscored
    assert ranked[0].metrics[0].interval.estimate >= ranked[1].metrics[0].interval.estimate
    assert all_graders(ranked) == ("exact_label", "macro_f1", "label_likelihood")


def test_the_primary_pair_is_the_primary_comparisons():
    report = label_report(num_rows=30)
    shuffled = replace(report, comparisons=report.comparisons[::-1])
    pair = primary_pair(shuffled)
    assert pair is not None
    assert (pair.challenger.name, pair.baseline.name) == ("tuned", "classifier")
    assert primary_pair(replace(report, comparisons=())) is None


def test_a_large_confusion_matrix_is_cut_to_the_most_confused_labels_and_keeps_its_sums():
    confusions = label_report().confusions
    views = view_confusions(confusions)
    assert views[0].labels == views[1].labels
    for view, confusion in zip(views, confusions, strict=True):
        assert len(view.labels) == NUM_CONFUSED_LABELS
        assert view.num_labels_not_shown == 77 - NUM_CONFUSED_LABELS
        assert view.num_answers == 500
        for label, cells in zip(view.labels, view.cells, strict=True):
            assert sum(cell.count for cell in cells) == sum(confusion.counts[confusion.labels.index(label)])
            assert all((cell.heat > 0) == (cell.count > 0) and cell.heat <= NUM_HEATS for cell in cells)


def test_a_small_confusion_matrix_is_shown_whole():
    (view,) = view_confusions([Confusion(contender="tuned", labels=("a", "b"), counts=((3, 1, 0), (0, 2, 4)))])
    assert view.labels == ("a", "b")
    assert [[cell.count for cell in row] for row in view.cells] == [[3, 1, 0], [0, 2, 4]]
    assert [(pair.wanted, pair.answered, pair.count) for pair in view.pairs] == [("b", None, 4), ("a", "b", 1)]
    assert (view.num_answers, view.num_wrong) == (10, 5)


def test_a_faultless_confusion_matrix_has_no_confused_pairs():
    (view,) = view_confusions([Confusion(contender="tuned", labels=("a", "b"), counts=((3, 0, 0), (0, 2, 0)))])
    assert view.pairs == ()


def with_parts(report, **answered):
    """The report with label scores of wanted a, a, a, b, b, c against these answers."""
    scores = [
        PartScores(contender=name, parts=label_scores("aaabbc", said, ["a", "b", "c", "d"]))
        for name, said in answered.items()
    ]
    return replace(report, part_scores=tuple(scores))


def test_labels_come_by_how_often_they_are_wanted_with_both_f1():
    view = view_parts(with_parts(label_report(num_rows=30), tuned="aabbbd", classifier="aaabbb", prompt="dddddd"))
    assert view is not None
    assert [(row.name, row.num_wanted) for row in view.rows] == [("a", 3), ("b", 2), ("c", 1)]
    # Tuned on a: 2 right of 3 wanted and 2 answered; b: 2 of 2 and 3; c: 0. The classifier has b for c.
    assert [row.challenger for row in view.rows] == [4 / 5, 4 / 5, 0.0]
    assert [row.baseline for row in view.rows] == [1.0, 4 / 5, 0.0]
    assert [row.num_mistakes for row in view.rows] == [1, 1, 1]
    assert (view.num_unwanted, view.is_folded, view.weakest) == (1, False, ())


def test_a_contender_whose_every_request_failed_has_no_rate():
    report = with_parts(label_report(num_rows=30), tuned="aaabbc")
    dead = PartScores(contender="classifier", parts=label_scores([], [], ["a", "b", "c", "d"]))
    view = view_parts(replace(report, part_scores=(*report.part_scores, dead)))
    assert view is not None
    assert [(row.challenger, row.baseline) for row in view.rows] == [(1.0, None)] * 3


def test_many_labels_are_folded_and_those_with_most_mistakes_come_out():
    report = label_report()
    view = view_parts(report)
    assert view is not None
    assert view.is_folded
    assert view.num_parts == len(view.rows) == len({row.wanted for row in report.rows})
    assert sum(row.num_wanted for row in view.rows) == 500
    assert len(view.weakest) == NUM_WEAKEST_PARTS
    most = sorted((row.num_mistakes for row in view.rows), reverse=True)[:NUM_WEAKEST_PARTS]
    assert [row.num_mistakes for row in view.weakest] == most


def test_a_flood_of_fields_is_cut_to_the_most_wanted():
    def part(number):
        return PartScore(
            name=f"f{number}", num_wanted=number, num_answered=0, num_right=0, precision=None, recall=0.0, f1=0.0
        )

    parts = tuple(part(number) for number in range(1, MAX_PARTS + 51))
    view = view_parts(replace(json_report(num_rows=9), part_scores=(PartScores(contender="tuned", parts=parts),)))
    assert view is not None
    assert (len(view.rows), view.num_parts) == (MAX_PARTS, MAX_PARTS + 50)
    assert view.rows[0].name == f"f{MAX_PARTS + 50}"


def test_fields_are_those_of_the_wanted_answers():
    view = view_parts(json_report())
    assert view is not None
    assert {row.name for row in view.rows} == {
        "queue", "urgency", "tracking_number", "amount", "address.postcode", "address.lines[]",
    }  # fmt: skip
    assert view.num_unwanted == 2, "note.customer and note.times"


def test_free_text_and_uncompared_contenders_have_no_parts():
    assert view_parts(text_report(num_rows=9)) is None
    assert view_parts(untrained_report()) is None
