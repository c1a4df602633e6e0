"""Answers that look like another kind of task than the one they were taken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fettle.examples.json_schema import parse_object
from fettle.examples.notes import info, warning
from fettle.records import Example, Finding, Task, TaskKind

_LIKE_JSON = ("{", "[", "```")
_LIKE_JSON_SHARE = 0.5
_FEW_ANSWERS_SHARE = 0.05
_FEWEST_EXAMPLES = 40


def check_task_kind(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """Said where the answers are graded as text or labels and perhaps should not be."""
    if task.kind is TaskKind.JSON:
        return
    objects, others = [], []
    for example in examples:
        (others if parse_object(example.answer) is None else objects).append(example)
    like_json = [example for example in others if example.answer.lstrip().startswith(_LIKE_JSON)]
    if like_json and len(like_json) + len(objects) >= _LIKE_JSON_SHARE * len(examples):
        text = f"{len(like_json):,} answers, this one first, look like JSON and are no objects: graded as {task.kind.value}"
        remedy = (
            "write each answer as one JSON object: no fence of ``` around it, double quotes, an array inside an object"
        )
        yield warning("like-json", text, remedy).at(like_json[0].source)
    elif objects:
        text = f"{len(objects):,} of {len(examples):,} answers are JSON objects, the others not: graded as {task.kind.value}"
        yield warning("partly-json", text, "write all answers as JSON objects, or none").at(objects[0].source)
    if task.kind is TaskKind.TEXT and len(examples) >= _FEWEST_EXAMPLES:
        counts = Counter(example.answer.strip() for example in examples)
        if 1 < len(counts) <= _FEW_ANSWERS_SHARE * len(examples):
            text = (
                f"there are {len(counts)} different answers only, and they are graded as free text, for they are long"
            )
            remedy = "give --task labels if choosing the right one is the task: a classifier then competes as well"
            yield info("few-answers", text, remedy).about(examples[0].source.file)
