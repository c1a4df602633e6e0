"""Who is asked what, in which order, and who stands where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fettle.errors import ConfigError, DataError
from fettle.records import TaskKind
from fettle.votes.poll import Contenders, chosen_contenders, make_poll
from voting import PAIR, answer_row, poll_of, rows_that_differ, study_report


def test_equal_answers_are_ties_that_nobody_is_asked_about() -> None:
    poll = poll_of([answer_row(0, "yes", " yes\n"), answer_row(1, "yes", "no")])
    assert [one.example_id for one in poll.asked] == ["row-1"]
    assert sorted(one.is_equal for one in poll.matchups) == [False, True]


def test_json_is_equal_whatever_the_order_of_its_fields_and_is_shown_over_several_lines() -> None:
    rows = [
        answer_row(0, '{"a": 1, "b": [true]}', '{"b":[true],"a":1}'),
        answer_row(1, '{"a": 1}', '{"a": true}'),
        answer_row(2, "{broken", '{"a": 1e999}'),
        answer_row(3, "[" * 5000 + "]" * 5000, "[]"),
    ]
    poll = make_poll(study_report(rows, kind=TaskKind.JSON), PAIR, num_sampled=None, where="")
    matchups = {one.example_id: one for one in poll.matchups}
    assert [matchups[f"row-{i}"].is_equal for i in range(4)] == [True, False, False, False]
    assert matchups["row-1"].baseline_answer == '{\n  "a": true\n}'
    assert matchups["row-2"].challenger_answer == "{broken"
    assert matchups["row-3"].challenger_answer == rows[3].answers["tuned"]


def test_failed_requests_are_left_out_and_counted() -> None:
    poll = poll_of([answer_row(0, "", "no", failed="tuned"), answer_row(1, "a", "b", failed="few_shot")])
    assert [one.example_id for one in poll.matchups] == ["row-1"]
    assert poll.num_failed == 1


def test_a_sample_is_the_beginning_of_one_order_that_is_not_that_of_the_file() -> None:
    rows = rows_that_differ(40)
    everything = [one.example_id for one in poll_of(rows).matchups]
    assert everything != [row.example_id for row in rows]
    assert sorted(everything) == sorted(row.example_id for row in rows)
    assert [one.example_id for one in poll_of(rows[::-1], num_sampled=9).matchups] == everything[:9]


def test_sides_are_a_fair_coin_of_each_person_and_example_that_falls_the_same_way_again() -> None:
    poll = poll_of(rows_that_differ(2000))
    ids = [one.example_id for one in poll.asked]
    of_ada, of_bob = ([poll.sides(one, rater).left == "tuned" for one in ids] for rater in ("Ada", "Bob"))
    assert 900 < sum(of_ada) < 1100  # 2,000 tosses: standard deviation 22
    assert 900 < sum(one == other for one, other in zip(of_ada, of_bob, strict=True)) < 1100
    assert [poll.sides(one, "Ada").left == "tuned" for one in ids] == of_ada


def test_naming_the_contenders_the_other_way_round_changes_no_side_and_no_vote() -> None:
    report = study_report(rows_that_differ(20))
    turned = make_poll(report, Contenders(challenger="prompt", baseline="tuned"), num_sampled=None, where="")
    poll = make_poll(report, PAIR, num_sampled=None, where="")
    assert [one.answers_sha256 for one in turned.asked] == [one.answers_sha256 for one in poll.asked]
    assert all(turned.sides(one.example_id, "Ada") == poll.sides(one.example_id, "Ada") for one in poll.asked)


@pytest.mark.parametrize(
    ("contenders", "told"),
    [
        (Contenders(challenger="tuned", baseline="promt"), "choose two of tuned, prompt, few_shot"),
        (Contenders(challenger="tuned", baseline="tuned"), "both are tuned"),
    ],
)
def test_contenders_that_cannot_be_compared(contenders: Contenders, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_poll(study_report(rows_that_differ(2)), contenders, num_sampled=None, where="report.json")


@pytest.mark.parametrize("rows", [[], [answer_row(0, "", "no", failed="tuned")]])
def test_a_study_without_answers(rows: list) -> None:
    with pytest.raises(DataError, match=r"report\.json: .* both tuned and prompt have answered.*--between"):
        poll_of(rows)


def test_a_report_that_knows_no_clusters_is_said_to() -> None:
    assert poll_of(rows_that_differ(3)).has_clusters
    old = poll_of([answer_row(i, "a", "b", cluster=None) for i in range(3)])
    assert not old.has_clusters
    assert len({one.cluster for one in old.matchups}) == 3


def test_the_declared_contenders_are_asked_about_where_nobody_names_others() -> None:
    report = study_report(rows_that_differ(3))
    assert chosen_contenders(report, None) == PAIR
    assert chosen_contenders(report, ("few_shot", "tuned")) == Contenders(challenger="few_shot", baseline="tuned")
    with pytest.raises(ConfigError, match=r"compares no two contenders.*name two of tuned, prompt, few_shot"):
        chosen_contenders(replace(report, comparisons=()), None)
