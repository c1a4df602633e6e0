"""What a tuned model has learned from is found among the examples of a study, and never held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_builders import example, labelled

from fettle.errors import ConfigError, DataError
from fettle.examples.seen import find_seen, instruction_findings, read_seen, seen_findings, without_seen
from fettle.examples.split import SplitSizes, given_split, split_examples
from fettle.records import Example, Message, Task, TaskKind

TEXT = Task(kind=TaskKind.TEXT, reason="said so")


def turn(role: str, content: str, **other: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | other


def job_file(path: Path, *conversations: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in conversations))
    return path


def asked(examples: tuple[Example, ...]) -> list[list[dict[str, Any]]]:
    return [[turn("user", one.user_text), turn("assistant", one.answer)] for one in examples]


def test_every_learned_answer_of_a_row_counts(tmp_path: Path) -> None:
    file = job_file(
        tmp_path / "job.jsonl",
        [
            turn("user", "where is my parcel"),
            turn("assistant", "on its way", weight=0),
            turn("user", "and the other one"),
            turn("assistant", "lost"),
            turn("user", "then refund it"),
            turn("assistant", "done"),
        ],
    )
    seen = read_seen(file, "the training file of ftjob-1")
    assert [[message.content for message in one.messages][-1] for one in seen] == ["lost", "done"]
    assert str(seen[0].source) == "the training file of ftjob-1:1"


def test_exact_near_and_joined_examples_are_found(tmp_path: Path) -> None:
    ours = (
        example("My parcel with the order 7 did not arrive at my house yesterday evening", "lost", line=1),
        example("my parcel, with the order 7, did not arrive at my house yesterday EVENING!", "lost", line=2),
        example("My parcel with the order 7 did not arrive at our house yesterday evening", "lost", line=3),
        example("Please tell me the opening hours of the depot on Sundays", "hours", line=4, group="ann"),
        example("Can I pay by card at the door, or only in cash", "pay", line=5, group="ann"),
        example("An utterly new question on whales and how they sing", "none", line=6),
    )
    file = job_file(
        tmp_path / "job.jsonl",
        [turn("system", "Be brief."), turn("user", ours[0].user_text), turn("assistant", "another answer")],
        [turn("user", ours[3].user_text), turn("assistant", "hours")],
    )
    seen = read_seen(file, "job")
    found = find_seen(ours, seen)
    assert {one.id: found[one.id].source.line for one in ours if one.id in found} == {
        "t:1": 1, "t:2": 1, "t:3": 1, "t:4": 2, "t:5": 2,
    }  # fmt: skip
    findings = list(seen_findings(ours, found))
    assert [(one.code, one.line) for one in findings] == [("seen-by-model", number) for number in range(1, 6)]
    assert "job:1" in findings[0].message
    assert find_seen(ours, ()) == {}


def test_nothing_seen_is_held_out(tmp_path: Path) -> None:
    everything = labelled(12)
    seen = read_seen(job_file(tmp_path / "job.jsonl", *asked(everything[::2])), "job")
    found = find_seen(everything, seen)
    split = split_examples(everything, TEXT, seed=3, taught=frozenset(found))
    train = {one.id for one in split.train}
    assert set(found) <= train
    assert len(split.valid) + len(split.test) == len(everything) - len(train)
    assert split.valid
    assert split.test
    assert split_examples(everything, TEXT, seed=3, taught=frozenset()) == split_examples(everything, TEXT, seed=3)


def test_all_that_is_left_is_held_out_where_it_is_little() -> None:
    everything = labelled(12)
    taught = frozenset(one.id for one in everything[:26])
    split = split_examples(everything, TEXT, seed=3, taught=taught)
    assert {one.id for one in split.train} >= taught
    assert len(split.valid) + len(split.test) >= 8
    with pytest.raises(ConfigError, match="trained on all but 10"):
        split_examples(everything, TEXT, seed=3, taught=taught, sizes=SplitSizes(test=20))
    with pytest.raises(DataError, match="7 of 36 examples are left that the model was not trained on"):
        split_examples(everything, TEXT, seed=3, taught=frozenset(one.id for one in everything[:29]))


def test_seen_examples_of_a_given_split_become_training_examples(tmp_path: Path) -> None:
    everything = labelled(12)
    train, valid, test = everything[:16], everything[16:24], everything[24:]
    seen = read_seen(job_file(tmp_path / "job.jsonl", *asked((valid[0], *test[:3]))), "job")
    parts = without_seen(train, valid, test, seen)
    assert len(parts.train) == len(train) + len(parts.seen)
    assert parts.valid is not None
    assert set(parts.seen) == {valid[0].id, *(one.id for one in test[:3])}
    split, findings = given_split(parts.train, parts.valid, parts.test, TEXT, seed=1, taught=frozenset(parts.seen))
    assert findings == ()
    assert not {one.id for one in (*split.valid, *split.test)} & set(parts.seen)
    with pytest.raises(DataError, match="of the 12 test examples are left"):
        without_seen(train, valid, test, read_seen(job_file(tmp_path / "all.jsonl", *asked(test[2:])), "job"))


def test_a_validation_part_is_not_cut_from_what_was_seen() -> None:
    everything = labelled(12)
    train, test = everything[:26], everything[26:]
    taught = frozenset(one.id for one in train[:16])
    split, _ = given_split(train, None, test, TEXT, seed=1, taught=taught)
    assert split.valid
    assert not {one.id for one in split.valid} & taught


def test_another_system_message_than_the_model_learned_under_is_told(tmp_path: Path) -> None:
    learned = [turn("system", "Answer with one label."), turn("user", "a"), turn("assistant", "b")]
    seen = read_seen(job_file(tmp_path / "job.jsonl", learned), "job")
    bare = example("c", "d")
    told = Example(
        id="x", messages=(Message(role="system", content="Answer with one label."), *bare.messages), source=bare.source
    )
    assert [one.code for one in instruction_findings([bare], seen)] == ["other-instruction"]
    assert list(instruction_findings([bare, told], seen)) == []
    assert list(instruction_findings([bare], ())) == []


def test_a_file_that_is_damaged_is_no_file_without_examples(tmp_path: Path) -> None:
    file = tmp_path / "job.jsonl"
    file.write_text('{"messages": [')
    with pytest.raises(DataError, match="nobody can tell which examples"):
        read_seen(file, "job")
