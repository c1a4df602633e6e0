from __future__ import annotations

import json
from pathlib import Path

import pytest

from fettle.contenders.constant import ConstantAnswer, constant_answer, usual_values
from fettle.examples.read import read_examples
from fettle.examples.task import recognise_task
from fettle.records import Example, TaskKind
from fettle.scoring.registry import default_graders


def examples(folder: Path, answers: list[object], **form: object) -> tuple[Example, ...]:
    rows = [
        {"prompt": f"message number {number}", "completion": json.dumps(answer, **form)}  # pyright: ignore[reportArgumentType]
        for number, answer in enumerate(answers)
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(file).examples


def test_each_field_gets_its_commonest_value(tmp_path: Path) -> None:
    answers = [
        {"queue": "late", "number": None, "tags": ["a"]},
        {"queue": "late", "number": "12", "tags": ["b"]},
        {"queue": "lost", "number": None, "tags": ["b"], "rare": 1},
    ]
    assert usual_values(examples(tmp_path, answers)) == '{"queue": "late", "number": null, "tags": ["b"]}'


def test_it_is_written_as_the_training_answers_are(tmp_path: Path) -> None:
    answers = [{"a": 1, "b": 2.5}, {"a": 1, "b": 2.5}]
    assert usual_values(examples(tmp_path, answers, separators=(",", ":"))) == '{"a":1,"b":2.5}'


@pytest.mark.parametrize("odd", ["no object", [1, 2]])
def test_an_answer_that_is_no_object_counts_for_nothing(odd: object, tmp_path: Path) -> None:
    assert json.loads(usual_values(examples(tmp_path, [{"a": 1}, odd, {"a": 1}]))) == {"a": 1}


def test_every_message_gets_the_same_answer(tmp_path: Path) -> None:
    some = examples(tmp_path, [{"a": number} for number in range(300)])
    arm = ConstantAnswer('{"a": 7}', origin="a text")
    batches = arm.batches(some)
    assert [index for batch in batches for index in batch] == list(range(300))
    answers = [answer for batch in batches for answer in arm.answer([some[index] for index in batch])]
    assert [answer.example_id for answer in answers] == [example.id for example in some]
    assert {answer.text for answer in answers} == {'{"a": 7}'}
    assert '{"a": 7}' in arm.describe()
    assert arm.told(some[0]) == ()
    assert arm.identity() != ConstantAnswer("{}", origin="a text").identity()


def told(folder: Path, answers: list[str]) -> tuple[Example, ...]:
    file = folder / "rows.jsonl"
    rows = [{"prompt": f"message {number}", "completion": answer} for number, answer in enumerate(answers)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_examples(file).examples


def test_a_label_task_gets_its_commonest_label(tmp_path: Path) -> None:
    train = told(tmp_path, ["late", "lost", "lost"])
    task = recognise_task(train, TaskKind.LABELS)
    arm = constant_answer(train, task, default_graders(task, train)[0])
    assert {answer.text for answer in arm.answer(train)} == {"lost"}


def test_free_text_gets_the_reply_most_like_the_others(tmp_path: Path) -> None:
    replies = [
        "Hello, we will look into it today.",
        "Nothing alike 123",
        "Hello, we will look at it today.",
        "Hello, we shall look into it.",
    ]
    train = told(tmp_path, replies)
    task = recognise_task(train, TaskKind.TEXT)
    arm = constant_answer(train, task, default_graders(task, train)[0])
    assert arm.text in (replies[0], replies[2])
    assert "most like the others" in arm.describe()
