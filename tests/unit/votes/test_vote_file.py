"""Votes survive kills, other writers and a full disk; what is no vote is told by its line."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from fettle.errors import ConfigError, DataError, DiskFullError
from fettle.votes.records import Sides, Undo, Vote, rater_name, standing_votes
from fettle.votes.vote_file import append_record, read_records, require_writable
from voting import lines_of, poll_of, rows_that_differ, vote_for

POLL = poll_of(rows_that_differ(4))
IDS = [one.example_id for one in POLL.asked]


def undo_of(vote: Vote) -> Undo:
    return Undo(rater=vote.rater, example_id=vote.example_id, sides=vote.sides, at=vote.at)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    vote = vote_for(POLL, "tuned", IDS[0], rater="Zoë \u2028 O'Brien")
    append_record(tmp_path / "votes.jsonl", vote)
    append_record(tmp_path / "votes.jsonl", undo_of(vote))
    assert read_records(tmp_path / "votes.jsonl") == (vote, undo_of(vote))
    assert [line["kind"] for line in lines_of(tmp_path / "votes.jsonl")] == ["vote", "undo"]
    assert read_records(tmp_path / "none.jsonl") == ()


def test_a_line_that_a_kill_has_cut_is_removed_by_the_next_writer_and_by_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    first, second = (vote_for(POLL, "tuned", one) for one in IDS[:2])
    append_record(path, first)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert read_records(path) == (first,)
    assert path.read_bytes() == whole + whole[:40]
    append_record(path, second)
    assert read_records(path) == (first, second)


def write_many(path: Path, rater: str) -> None:
    for i in range(50):
        append_record(path, vote_for(POLL, "tuned", IDS[i % 4], rater=rater))


def test_two_processes_write_to_one_file_and_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_bytes(b'{"kind": "vote", "rat')  # both find the same remains
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(path, rater)) for rater in ("Ada", "Bob")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    records = read_records(path)
    assert sorted(record.rater for record in records) == ["Ada"] * 50 + ["Bob"] * 50


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "votes.jsonl"
    append_record(path, vote_for(POLL, "tuned", IDS[0]))
    before = path.read_bytes()

    def is_full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    with pytest.raises(DiskFullError):
        append_record(path, vote_for(POLL, "tuned", IDS[1]))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"kind": "vote"}', '{"kind": "gone"}', '{"kind": "undo", "rater": 1}', ""]
)
def test_a_line_that_is_no_vote_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    append_record(path, vote_for(POLL, "tuned", IDS[0]))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"votes\.jsonl:2: this line is no vote.*remove it"):
        read_records(path)


def test_a_place_that_cannot_be_written_is_found_before_anybody_votes(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").mkdir()
    with pytest.raises(ConfigError, match="copy the study"):
        require_writable(tmp_path / "votes.jsonl")


def test_a_later_vote_replaces_an_earlier_one_and_an_undo_takes_it_back() -> None:
    first, second = (vote_for(POLL, "tuned", one) for one in IDS[:2])
    again = vote_for(POLL, "prompt", IDS[0])
    of_bob = vote_for(POLL, "tuned", IDS[0], rater="Bob")
    assert standing_votes((first, second, of_bob, again)) == (second, of_bob, again)
    assert standing_votes((first, second, again, undo_of(again))) == (second,)
    assert standing_votes((first, undo_of(first), undo_of(first), first)) == (first,)


def test_a_vote_on_two_other_contenders_stands_beside_it() -> None:
    vote = vote_for(POLL, "tuned", IDS[0])
    other = Undo(rater="Ada", example_id=IDS[0], sides=Sides(left="tuned", right="few_shot"), at="")
    assert standing_votes((vote, other)) == (vote,)


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "a\x07b", "a\u200bb"])
def test_names_that_nobody_could_tell_apart_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="1 to 64 characters"):
        rater_name(name)


def test_one_name_has_one_spelling() -> None:
    assert rater_name("Zoe\u0308\t B") == rater_name(" Zoë B ") == "Zoë B"
