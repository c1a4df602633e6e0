from __future__ import annotations

import pytest

from fettle.errors import DataError
from fettle.records import Example, Location, Message, Task, TaskKind
from fettle.scoring.gradable import require_gradable
from fettle.scoring.registry import grader_by_name, grader_names

TASK = Task(kind=TaskKind.LABELS, reason="", labels=("late", "lost"))


def rows(*answers: str) -> list[Example]:
    return [
        Example(
            id=f"e{line}",
            messages=(Message(role="user", content=f"question {line}"), Message(role="assistant", content=answer)),
            source=Location(file="test.csv", line=line),
        )
        for line, answer in enumerate(answers, start=1)
    ]


@pytest.mark.parametrize("name", ["json_fields", "json_exact", "json_valid"])
def test_labels_cannot_be_scored_as_json(name: str) -> None:
    labels = rows("late", "lost", "late", "lost")
    with pytest.raises(
        DataError, match=f"4 of 4 test examples cannot be scored by {name}: the wanted answer is not JSON"
    ):
        require_gradable(grader_by_name(name, TASK, labels), labels, "test")


@pytest.mark.parametrize(
    "name", sorted(set(grader_names()) - {"json_fields", "json_exact", "json_valid", "house_style", "groundedness"})
)
def test_other_graders_can_score_labels(name: str) -> None:
    labels = rows("late", "lost", "late", "lost")
    require_gradable(grader_by_name(name, TASK, labels), labels, "test")


@pytest.mark.parametrize(("num_json", "num_text"), [(3, 50), (2, 0), (1, 0)])
def test_three_are_enough_or_all_of_fewer(num_json: int, num_text: int) -> None:
    require_gradable(grader_by_name("json_fields", TASK, []), rows(*["{}"] * num_json, *["late"] * num_text), "test")


def test_two_of_many_are_too_few() -> None:
    with pytest.raises(DataError, match=r"test.csv:3: 9 of 11 validation examples"):
        require_gradable(grader_by_name("json_fields", TASK, []), rows("{}", "{}", *["late"] * 9), "validation")
