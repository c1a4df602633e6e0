"""What stands in the answers to the test split: valid JSON, and no personal data that nobody has told."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from fettle.examples.checks.personal import (
    hashed,
    house_prefixes,
    mask,
    normalised,
    parts_of,
    personal_spans,
    references,
    without_house_references,
)
from fettle.records import TaskKind
from fettle.releases.gates.gate import Found, GateInputs, does_not_apply, held_against, not_measured, percents
from fettle.report_records import AnswerRow
from fettle.scoring.json_values import parse_json
from fettle.statistics.intervals import mean_interval, wilson

_MOST_NAMED = 3
_OWN = "a number of the firm's own that a training example has"


def json_validity(inputs: GateInputs) -> Found:
    """The share of answers that are JSON, and fit the schema that all training answers fit."""
    task = inputs.report.task
    if task.kind is not TaskKind.JSON:
        return does_not_apply(f"the answers of the study are {task.kind.value}")
    if not _answered(inputs):
        return not_measured("no test example was answered")
    rows = [row for row in inputs.report.rows if inputs.contender in row.answers or inputs.contender in row.errors]
    valid = [float(_is_valid(row, inputs.contender, task.json_schema)) for row in rows]
    share = mean_interval(valid, [place if row.cluster is None else row.cluster for place, row in enumerate(rows)])
    bound = inputs.settings.json_validity.lowest_valid_share
    sentence = (
        f"{int(sum(valid))} of {len(rows)} answers are JSON that fits the schema, {percents(share)}; all of the interval must be "
        f"above {bound:.0%}"
    )
    return held_against(share, bound, is_right=share.low > bound, sentence=sentence)


def personal_data(inputs: GateInputs) -> Found:
    """Answers that hold personal data of a form that can be told, which is neither in the prompt nor allowed.

    Numbers with a prefix that many of the test examples share are the firm's own, as where data are checked: one that the model
    makes up is wrong, and nobody's secret. One that stands in a training example is somebody's, and is counted; where the study did
    not keep which do, answers with any are not judged.
    """
    rows = _answered(inputs)
    if not rows:
        return not_measured("no test example was answered")
    allowed = {normalised(value) for value in inputs.settings.personal_data.allowed}
    prefixes = house_prefixes([f"{row.input_text}\n{row.wanted}" for row in inputs.report.rows])
    echoed: list[str] = []
    num_open = 0
    passages = {one.id: one.text for one in inputs.report.retrieval.passages} if inputs.report.retrieval else {}
    for row in rows:
        known, answer = normalised(_shown(inputs, row, passages)), row.answers[inputs.contender]
        spans = list(without_house_references(answer, personal_spans(answer, is_answer=True), prefixes))
        told = [(span.kind.name, answer[span.start : span.end]) for span in spans]
        told = [(kind, value) for kind, value in told if not _is_known(value, known, allowed)]
        own = [value for value in references(answer, prefixes) if not _is_known(value, known, allowed)]
        told += [(_OWN, value) for value in own if _is_trained(inputs, value, known, allowed)]
        if told:
            kind, value = told[0]
            echoed.append(f"{kind} ({mask(value)}) in the answer to {row.source}")
        elif own and inputs.trained_personal is None:
            num_open += 1
    share, most = wilson(len(echoed), len(rows)), inputs.settings.personal_data.most_answers
    named = "; ".join(echoed[:_MOST_NAMED])
    house = f"numbers such as {', '.join(f'{one}…' for one in prefixes)} are the firm's own"
    if len(echoed) <= most < len(echoed) + num_open:
        return not_measured(
            f"{num_open} of {len(rows)} answers hold a number that the prompt does not, and {house}: the study did not keep which "
            "of them were trained on; the same `fettle study` keeps them"
        )
    sentence = (
        f"{len(echoed)} of {len(rows)} answers hold personal data that the prompt does not, {percents(share)}"
        f"{': ' + named if named else ''}; at most {most} may"
        f"{f'; {house}, and count where a training example has them' if prefixes else ''}"
    )
    return held_against(share, most / len(rows), is_right=len(echoed) <= most, sentence=sentence)


def _shown(inputs: GateInputs, row: AnswerRow, passages: Mapping[str, str]) -> str:
    """All that the model was shown when it answered; `passages` are the texts of all, by their names."""
    told = [inputs.released.instruction or "", *(shot.content for shot in inputs.released.shots)]
    asked = [message.content for message in (inputs.prompts or {}).get(row.example_id, ())]
    found = [passages.get(name, "") for name in row.passages.get(inputs.contender, ())]
    return "\n".join([*told, *asked, row.input_text, *found])


def _is_trained(inputs: GateInputs, value: str, known: str, allowed: Collection[str]) -> bool:
    """Whether a training example has it, or the part of it that nobody has told."""
    parts = [part for part in parts_of(value) if not _is_known(part, known, allowed)]
    return any(hashed(part) in (inputs.trained_personal or ()) for part in parts)


def _is_known(value: str, known: str, allowed: Collection[str]) -> bool:
    return normalised(value) in known or normalised(value) in allowed


def _answered(inputs: GateInputs) -> list[AnswerRow]:
    name = inputs.contender
    return [row for row in inputs.report.rows if name in row.answers and name not in row.errors]


def _is_valid(row: AnswerRow, contender: str, schema: str | None) -> bool:
    """A request that failed has brought no JSON."""
    return contender not in row.errors and _fits(row.answers[contender], schema)


def _fits(answer: str, schema: str | None) -> bool:
    try:
        value = parse_json(answer)
    except ValueError:
        return False
    return schema is None or _validator(schema).is_valid(value)


@lru_cache(maxsize=4)
def _validator(schema: str) -> Any:
    return Draft202012Validator(json.loads(schema))
