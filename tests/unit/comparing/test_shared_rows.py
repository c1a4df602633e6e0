from __future__ import annotations

import random
from dataclasses import replace

import pytest
from two_reports import rows_of, scored_row

from fettle.comparing.shared_rows import shared_rows
from fettle.statistics.clusters import joined_clusters


def test_rows_are_matched_by_their_question_whatever_their_place_and_id() -> None:
    first = rows_of([1.0] * 30, [0.0] * 30)
    second = [replace(row, example_id=f"other-{place}", source="new.csv:1") for place, row in enumerate(first)]
    random.Random(1).shuffle(second)
    shared = shared_rows(first, second[:20], is_json=False)
    assert len(shared.rows) == 20
    assert all(row.first.input_text == row.second.input_text for row in shared.rows)
    assert [row.first for row in shared.rows] == [
        row for row in first if row.input_text in {s.input_text for s in second[:20]}
    ]
    assert (shared.num_first, shared.num_second, shared.num_other_answer) == (30, 20, 0)


def test_the_same_id_with_another_question_is_another_row() -> None:
    first = [scored_row("where is it?", {}, number=1)]
    second = [scored_row("what does it cost?", {}, number=1)]
    assert shared_rows(first, second, is_json=False).rows == ()


def test_a_question_that_wants_another_answer_now_is_left_out_and_counted() -> None:
    first = [scored_row("a", {}, wanted="yes"), scored_row("b", {}, wanted="yes")]
    second = [scored_row("a", {}, wanted="no"), scored_row("b", {}, wanted=" yes ")]
    shared = shared_rows(first, second, is_json=False)
    assert [row.first.input_text for row in shared.rows] == ["b"]
    assert shared.num_other_answer == 1


@pytest.mark.parametrize(("is_json", "num_shared"), [(True, 1), (False, 0)])
def test_wanted_json_is_compared_as_json(is_json: bool, num_shared: int) -> None:
    first = [scored_row("a", {}, wanted='{"queue": "billing", "urgent": true}')]
    second = [scored_row("a", {}, wanted='{"urgent":true,"queue":"billing"}')]
    assert len(shared_rows(first, second, is_json=is_json).rows) == num_shared


def test_a_question_asked_several_times_is_matched_by_answer_and_id_and_used_once() -> None:
    first = [
        scored_row("again?", {}, number=number, wanted=wanted) for number, wanted in enumerate(("yes", "yes", "no"))
    ]
    second = [scored_row("again?", {}, number=number, wanted=wanted) for number, wanted in enumerate(("no", "yes"))]
    shared = shared_rows(first, second, is_json=False)
    matched = [(row.first.example_id, row.second.example_id) for row in shared.rows]
    assert matched == [("row-1", "row-1"), ("row-2", "row-0")]


def test_rows_belong_together_that_do_so_in_either_study() -> None:
    first = [scored_row(text, {}, cluster=cluster) for text, cluster in zip("abcd", (0, 0, 1, 2), strict=True)]
    second = [scored_row(text, {}, cluster=cluster) for text, cluster in zip("dcba", (5, 6, 6, 7), strict=True)]
    clusters = [row.cluster for row in shared_rows(first, second, is_json=False).rows]  # of a, b, c, d
    assert clusters[0] == clusters[1] == clusters[2] != clusters[3]


def test_without_clusters_rows_with_one_question_belong_together() -> None:
    first = [scored_row(text, {}, wanted=wanted) for text, wanted in (("a", "yes"), ("a", "no"), ("b", "yes"))]
    shared = shared_rows(first, first, is_json=False)
    assert not shared.has_clusters
    clusters = [row.cluster for row in shared.rows]
    assert clusters[0] == clusters[1] != clusters[2]


def test_a_chain_through_both_ways_joins_all_of_it() -> None:
    assert joined_clusters([1, 1, 2, 2, 3], [4, 5, 5, 6, 6]) == (0, 0, 0, 0, 0)
    assert joined_clusters([1, 2, 3], [1, 2, 3]) == (0, 1, 2)
    assert joined_clusters([], []) == ()
    with pytest.raises(ValueError, match="2 cluster ids by one way but 1"):
        joined_clusters([1, 2], [1])
