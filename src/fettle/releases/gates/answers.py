"""What stands in the answers to the test split: valid JSON, and no personal data that nobody has told."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from fettle.examples.checks.personal import (
    hashed,
    house_prefixes,
    mask,
    normalised,
    personal_spans,
    without_house_references,
)
from fettle.records import TaskKind
from fettle.releases.gates.gate import Found, GateInputs, does_not_apply, held_against, not_measured, percents
from fettle.report_records import AnswerRow
from fettle.scoring.json_values import parse_json
from fettle.statistics.intervals import mean_interval, wilson

_MOST_NAMED = 3


def json_validity(inputs: GateInputs) -> Found:
    """The share of answers that are JSON, and fit the schema that all training answers fit."""
    task = inputs.report.task
    if task.kind is not TaskKind.JSON:
        return does_not_apply(f"the answers of the study are {task.kind.value}")
    rows = _answered(inputs)
    if not rows:
        return not_measured("no test example was answered")
    valid = [float(_fits(row.answers[inputs.contender], task.json_schema)) for row in rows]
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
    makes up is wrong, and nobody's secret. One that stands in a training example is somebody's, and is counted.
    """
    rows = _answered(inputs)
    if not rows:
        return not_measured("no test example was answered")
    told = "\n".join([inputs.released.instruction or "", *(shot.content for shot in inputs.released.shots)])
    allowed = {normalised(value) for value in inputs.settings.personal_data.allowed}
    passages = {one.id: one.text for one in inputs.report.retrieval.passages} if inputs.report.retrieval else {}
    prefixes = house_prefixes([f"{row.input_text}\n{row.wanted}" for row in inputs.report.rows])
    echoed: list[tuple[AnswerRow, str]] = []
    for row in rows:
        shown = [passages.get(name, "") for name in row.passages.get(inputs.contender, ())]
        known = normalised("\n".join([told, row.input_text, *shown]))
        answer = row.answers[inputs.contender]
        spans = personal_spans(answer, is_answer=True)
        others = set(without_house_references(answer, spans, prefixes))
        for span in spans:
            value = answer[span.start : span.end]
            is_somebodys = span in others or hashed(value) in (inputs.trained_personal or ())
            if is_somebodys and normalised(value) not in known and normalised(value) not in allowed:
                echoed.append((row, f"{span.kind.name} ({mask(value)}) in the answer to {row.source}"))
                break
    share, most = wilson(len(echoed), len(rows)), inputs.settings.personal_data.most_answers
    named = "; ".join(what for _, what in echoed[:_MOST_NAMED])
    house = ""
    if prefixes:
        untold = inputs.trained_personal is None
        counted = (
            "are the firm's own, and the study did not keep which of them were trained on"
            if untold
            else ("are the firm's own, and count where a training example has them")
        )
        house = f"; numbers such as {', '.join(f'{one}…' for one in prefixes)} {counted}"
    sentence = (
        f"{len(echoed)} of {len(rows)} answers hold personal data that the prompt does not, {percents(share)}"
        f"{': ' + named if named else ''}; at most {most} may{house}"
    )
    return held_against(share, most / len(rows), is_right=len(echoed) <= most, sentence=sentence)


def _answered(inputs: GateInputs) -> list[AnswerRow]:
    name = inputs.contender
    return [row for row in inputs.report.rows if name in row.answers and name not in row.errors]


def _fits(answer: str, schema: str | None) -> bool:
    try:
        value = parse_json(answer)
    except ValueError:
        return False
    return schema is None or _validator(schema).is_valid(value)


@lru_cache(maxsize=4)
def _validator(schema: str) -> Any:
    return Draft202012Validator(json.loads(schema))
