"""What votes amount to, with the arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fettle.statistics.win_rate import win_rate
from fettle.votes.poll import Contenders
from fettle.votes.records import Choice, Undo
from fettle.votes.tally import tally
from voting import PAIR, answer_row, poll_of, rows_that_differ, vote_for


def mixed_poll(num_rows: int = 30):
    """Every third row has equal answers."""
    return poll_of([answer_row(i, f"a{i}", f"a{i}" if i % 3 == 0 else f"b{i}") for i in range(num_rows)])


def test_one_persons_votes_give_the_win_rate_of_the_same_scores() -> None:
    poll = poll_of(rows_that_differ(20))
    names = ["tuned"] * 11 + ["prompt"] * 5 + [None] * 4
    votes = [vote_for(poll, name, one.example_id) for name, one in zip(names, poll.asked, strict=True)]
    found = tally(poll, tuple(votes))
    scores = [{"tuned": 1.0, "prompt": 0.0, None: 0.5}[name] for name in names]
    expected = win_rate(scores, [1 - score for score in scores], list(range(20)))
    assert found.win_rate is not None
    assert found.win_rate.low == pytest.approx(expected.interval.low)
    assert found.win_rate.high == pytest.approx(expected.interval.high)
    assert found.win_rate.estimate == pytest.approx((11 + 4 / 2) / 20)


def test_examples_that_belong_together_widen_the_interval() -> None:
    rows = rows_that_differ(20)
    apart, together = poll_of(rows), poll_of([replace(row, cluster=i // 5) for i, row in enumerate(rows)])
    widths = []
    for poll in (apart, together):
        votes = [
            vote_for(poll, "tuned" if int(one.example_id[4:]) // 5 % 2 else "prompt", one.example_id)
            for one in poll.asked
        ]
        interval = tally(poll, tuple(votes)).win_rate
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[1] > 1.5 * widths[0]


def test_an_example_counts_once_however_many_people_voted_on_it() -> None:
    poll = poll_of(rows_that_differ(2))
    first, second = (one.example_id for one in poll.asked)
    votes = [vote_for(poll, "tuned", first, rater=f"rater {i}") for i in range(9)]
    votes += [vote_for(poll, "prompt", first, rater="rater 9"), vote_for(poll, "prompt", second)]
    found = tally(poll, tuple(votes))
    assert found.preferences == {first: pytest.approx(0.8), second: -1.0}
    assert found.win_rate is not None
    assert found.win_rate.estimate == pytest.approx((0.9 + 0.0) / 2)
    assert (found.num_judged, found.counts.num_votes) == (2, 11)


def test_equal_answers_count_as_ties_once_they_are_met_on_the_way() -> None:
    poll = mixed_poll()
    half = poll.asked[:10]
    votes = tuple(vote_for(poll, "tuned", one.example_id) for one in half)
    end = poll.matchups.index(poll.asked[10])
    num_equal = sum(one.is_equal for one in poll.matchups[:end])
    found = tally(poll, votes)
    assert 0 < num_equal < 10
    assert (found.num_judged, found.num_equal) == (10, num_equal)
    assert found.win_rate is not None
    assert found.win_rate.estimate == pytest.approx((10 + num_equal / 2) / (10 + num_equal))
    everything = tally(poll, tuple(vote_for(poll, "tuned", one.example_id) for one in poll.asked))
    assert (everything.num_judged, everything.num_equal) == (20, 10)


def test_the_share_of_equal_answers_is_that_of_the_test_split_wherever_people_stop() -> None:
    # 300 polls of 30 rows, 10 of them equal, stopped after 5 votes for the challenger: 1 - share / 2 = 5/6 on average.
    rates = []
    for offset in range(300):
        rows = [answer_row(1000 * offset + i, f"a{i}", f"a{i}" if i % 3 == 0 else f"b{i}") for i in range(30)]
        poll = poll_of(rows)
        found = tally(poll, tuple(vote_for(poll, "tuned", one.example_id) for one in poll.asked[:5]))
        assert found.win_rate is not None
        rates.append(found.win_rate.estimate)
    assert sum(rates) / len(rates) == pytest.approx(5 / 6, abs=0.02)  # standard error 0.005


def test_skips_and_undone_votes_count_nowhere_but_as_skips() -> None:
    poll = poll_of(rows_that_differ(3))
    skipped, undone, judged = (one.example_id for one in poll.asked)
    vote = vote_for(poll, "tuned", undone)
    records = (
        vote_for(poll, None, skipped, choice=Choice.SKIP),
        vote,
        Undo(rater="Ada", example_id=undone, sides=vote.sides, at=vote.at),
        vote_for(poll, None, judged, choice=Choice.BOTH_BAD),
    )
    found = tally(poll, records)
    assert found.preferences == {judged: 0.0}
    assert (found.counts.num_skipped, found.counts.num_both_bad, found.counts.num_votes) == (1, 1, 1)


def test_each_person_is_told_of() -> None:
    poll = poll_of(rows_that_differ(6))
    ids = [one.example_id for one in poll.asked]
    votes = [replace(vote_for(poll, "tuned", one), seconds=float(i)) for i, one in enumerate(ids[:5])]
    votes.append(vote_for(poll, "prompt", ids[0], rater="Bob"))
    ada, bob = tally(poll, tuple(votes)).raters
    assert (ada.rater, ada.counts.num_challenger, ada.seconds_per_vote) == ("Ada", 5, 2.0)
    assert ada.num_left == sum(poll.sides(one, "Ada").left == "tuned" for one in ids[:5])
    assert ada.num_left + ada.num_right == 5
    assert (bob.counts.num_baseline, bob.counts.num_challenger) == (1, 0)
    alone = tally(poll, tuple(votes), rater="Bob")
    assert (alone.num_judged, [one.rater for one in alone.raters]) == (1, ["Bob"])


def test_votes_on_answers_that_have_changed_are_not_counted_and_told() -> None:
    rows = rows_that_differ(3)
    poll = poll_of(rows)
    votes = tuple(vote_for(poll, "tuned", one.example_id) for one in poll.asked)
    changed = replace(rows[1], answers={**rows[1].answers, "tuned": "another"})
    found = tally(poll_of([rows[0], changed, rows[2]]), votes)
    assert (found.num_judged, found.num_outdated) == (2, 1)


def test_agreement_is_that_of_what_people_prefer_wherever_it_stood() -> None:
    poll = poll_of(rows_that_differ(12))
    ids = [one.example_id for one in poll.asked]
    names = ["tuned", "prompt", "tuned", None] * 3
    votes = [vote_for(poll, name, one) for name, one in zip(names, ids, strict=True)]
    same = [
        vote_for(poll, name, one, rater="Bob", choice=Choice.BOTH_BAD) for name, one in zip(names, ids, strict=True)
    ]
    skips = [vote_for(poll, None, one, rater="Cy", choice=Choice.SKIP) for one in ids]
    found = tally(poll, (*votes, *same, *skips))
    assert found.agreement is not None
    assert (found.agreement.estimate, found.num_shared) == (1.0, 12)
    other = [
        vote_for(poll, "prompt" if name == "tuned" else name, one, rater="Bob")
        for name, one in zip(names, ids, strict=True)
    ]
    # Of 24 votes 6 are for tuned, 12 for prompt, 6 for neither. Six examples of twelve are disagreed on.
    by_chance = 1 - (6 * 5 + 12 * 11 + 6 * 5) / (24 * 23)
    partly = tally(poll, (*votes, *other)).agreement
    assert partly is not None
    assert partly.estimate == pytest.approx(1 - 0.5 / by_chance)
    alone = tally(poll, tuple(votes))
    assert (alone.agreement, alone.num_shared) == (None, 0)


def test_turning_the_contenders_round_mirrors_the_win_rate() -> None:
    poll = poll_of(rows_that_differ(7))
    votes = tuple(vote_for(poll, "tuned" if i < 5 else "prompt", one.example_id) for i, one in enumerate(poll.asked))
    turned = replace(poll, contenders=Contenders(challenger=PAIR.baseline, baseline=PAIR.challenger))
    one, other = tally(poll, votes).win_rate, tally(turned, votes).win_rate
    assert one is not None
    assert other is not None
    assert (other.estimate, other.low) == (pytest.approx(1 - one.estimate), pytest.approx(1 - one.high))


def test_without_votes_there_is_no_figure() -> None:
    poll = mixed_poll()
    found = tally(poll, ())
    assert (found.win_rate, found.num_judged, found.num_equal, found.raters) == (None, 0, 0, ())
    skipped = tally(poll, (vote_for(poll, None, poll.asked[0].example_id, choice=Choice.SKIP),))
    assert skipped.win_rate is None
