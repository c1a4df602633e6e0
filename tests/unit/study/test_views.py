"""Orders, groups and selections: nothing is lost on the way, and what matters most comes first."""

from dataclasses import replace

from build_report import label_report
from report_parts import findings

from fettle.records import Confusion
from fettle.study.views import (
    MAX_PLACES_PER_FINDING,
    NUM_CONFUSED_LABELS,
    NUM_HEATS,
    all_graders,
    best_first,
    group_findings,
    primary_pair,
    view_confusions,
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
