"""What counts as a right answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from build_report import label_report, text_report
from fettle.economics.right_answers import right_answers, right_meaning


def test_a_failed_request_is_not_right_and_an_unscored_answer_does_not_count() -> None:
    rows = label_report(num_rows=40).rows
    first = replace(rows[0], scores={**rows[0].scores, "tuned": None}, errors={"tuned": "HTTP 500"})
    second = replace(rows[1], scores={**rows[1].scores, "tuned": None})
    found = right_answers((first, second, *rows[2:]), "tuned", None)
    assert found is not None
    assert len(found.values) == 39
    assert sum(found.values) == sum(row.scores["tuned"] or 0 for row in rows[2:])
    assert right_answers(rows, "nobody", None) is None


def test_scores_between_are_shares_or_right_from_a_score_on() -> None:
    rows = text_report().rows
    shares, judged = (right_answers(rows, "tuned", from_score) for from_score in (None, 0.5))
    assert shares is not None
    assert judged is not None
    scores = [row.scores["tuned"] or 0.0 for row in rows]
    assert sum(shares.values) == pytest.approx(sum(scores))
    assert sum(judged.values) == sum(score >= 0.5 for score in scores)


def test_the_report_says_which() -> None:
    assert "right or wrong (exact label)" in right_meaning(label_report(num_rows=40).rows, "exact label", None)
    assert "right to that share" in right_meaning(text_report().rows, "chrF", None)
    assert "50" in right_meaning(text_report().rows, "chrF", 0.5)


def test_clusters_are_those_of_the_rows() -> None:
    rows = tuple(replace(row, cluster=i // 2) for i, row in enumerate(label_report(num_rows=10).rows))
    found = right_answers(rows, "tuned", None)
    assert found is not None
    assert found.clusters == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)
