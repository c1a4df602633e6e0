"""What kind of answer is wanted: one of a few labels, a JSON object, or free text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fettle.errors import DataError
from fettle.examples.json_schema import infer_schema, parse_object
from fettle.examples.notes import left_out
from fettle.records import Dataset, Example, Task, TaskKind

_MIN_JSON_SHARE = 0.95
_MIN_LABEL_SHARE = 0.95
MAX_LABEL_CHARACTERS = 80
_MAX_LABEL_WORDS = 8
_MAX_LABELS = 500
_MIN_REPEATED_SHARE = 0.8
_MAX_LABELS_PER_EXAMPLE = 0.5


def recognise_task(examples: Sequence[Example], kind: TaskKind | None = None) -> Task:
    """The kind of task, with its labels or its JSON Schema, and the reason in words with figures.

    Args:
        examples: All examples whose answers may be looked at.
        kind: What the user says it is; None: recognise it.

    Raises:
        DataError: There are no examples, or they cannot be of the kind that the user says.
    """
    if not examples:
        raise DataError("no examples, so no task", remedy="give a file with examples")
    answers = [example.answer.strip() for example in examples]
    objects = [value for answer in answers if (value := parse_object(answer)) is not None]
    if kind is TaskKind.JSON and not objects:
        raise DataError(
            "the task is said to be JSON, and no answer is a JSON object",
            where=str(examples[0].source),
            remedy="leave --task out, or write the answers as JSON objects",
        )
    said = f"said by the user; {len(examples)} examples" if kind else None
    kind = kind or _kind(answers, num_objects=len(objects))
    if kind is TaskKind.JSON:
        reason = said or f"{len(objects)} of {len(answers)} answers are JSON objects"
        return Task(kind=kind, reason=reason, json_schema=json.dumps(infer_schema(objects), ensure_ascii=False))
    counts = Counter(answer for answer in answers if answer)
    if kind is TaskKind.LABELS:
        if not said:
            counts = Counter({answer: count for answer, count in counts.items() if _is_short(answer)})
        labels = tuple(sorted(counts, key=lambda label: (-counts[label], label)))
        repeated = sum(count for count in counts.values() if count > 1)
        reason = (
            said or f"{len(labels)} different short answers in {len(answers)} examples, {repeated} of them repeated"
        )
        return Task(kind=kind, reason=reason, labels=labels)
    mean_words = sum(len(answer.split()) for answer in answers) / len(answers)
    reason = said or f"{len(counts)} different answers in {len(answers)} examples, {mean_words:.0f} words on average"
    return Task(kind=kind, reason=reason)


def keep_labelled(dataset: Dataset, task: Task) -> Dataset:
    """The dataset of a label task without the few examples whose answer is no label, and a finding for each of them."""
    if task.kind is not TaskKind.LABELS:
        return dataset
    labels = {"", *task.labels}  # an answer without text calls a tool; that is found elsewhere
    others = [example for example in dataset.examples if example.answer.strip() not in labels]
    text = f"the answer is a text, and almost all others are one of {len(task.labels)} labels"
    note = left_out("answer-not-a-label", text, "write a label, remove the row, or give --task text")
    return replace(
        dataset,
        examples=tuple(example for example in dataset.examples if example.answer.strip() in labels),
        findings=(*dataset.findings, *(note.at(example.source) for example in others)),
    )


def _kind(answers: list[str], *, num_objects: int) -> TaskKind:
    counts = Counter(answer for answer in answers if answer)  # those without text call tools
    num_texts = counts.total()
    if num_texts and num_objects >= _MIN_JSON_SHARE * num_texts:
        return TaskKind.JSON
    labels = {answer: count for answer, count in counts.items() if _is_short(answer)}
    num_repeated = sum(count for count in labels.values() if count > 1)
    is_few = len(labels) <= min(_MAX_LABELS, max(2, _MAX_LABELS_PER_EXAMPLE * num_texts))
    is_usual = sum(labels.values()) >= _MIN_LABEL_SHARE * num_texts
    if labels and is_few and is_usual and num_repeated >= _MIN_REPEATED_SHARE * num_texts:
        return TaskKind.LABELS
    return TaskKind.TEXT


def _is_short(answer: str) -> bool:
    return (
        0 < len(answer) <= MAX_LABEL_CHARACTERS
        and len(answer.split()) <= _MAX_LABEL_WORDS
        and "\n" not in answer.strip()
    )
