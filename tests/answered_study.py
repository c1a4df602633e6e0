"""A releasable study with one more contender, whose answers the study's own arm has given: JSON, written as the schema wants it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.local import LocalEngine
from fettle.contenders.contender import Contender
from fettle.contenders.language_model import LanguageModel, PromptStyle
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.records import Example, Task, TaskKind
from fettle.report_records import StudyReport
from fettle.study.report import write_report
from released_study import ReleasableStudy

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"queue": {"type": "string", "maxLength": 6}, "urgent": {"type": "boolean"}},
        "required": ["queue", "urgent"],
        "additionalProperties": False,
    }
)
WANTED = '{"queue": "a", "urgent": true}'
TASK = Task(kind=TaskKind.JSON, reason="", json_schema=SCHEMA)
FORM = JsonForm(schema=SCHEMA, item_separator=", ", key_separator=": ")


def language_model(name: str, style: PromptStyle, folder: Path) -> LanguageModel:
    """The base model of `releasable_study` as a study asks it."""
    loaded = load_model(resolve_model(str(folder / "tiny-llama")), Precision.EXACT)
    return LanguageModel(
        name=name,
        title=name,
        engine=LocalEngine(loaded),
        style=style,
        task=TASK,
        options=GenerationOptions(max_new_tokens=64, form=FORM),
    )


def answered_by(study: ReleasableStudy, arm: Contender, examples: Sequence[Example]) -> StudyReport:
    """The study's report with this arm's answers, all of them right; it takes the place of the one in the folder."""
    answers = arm.answer(examples)
    rows = tuple(
        replace(
            row,
            wanted=WANTED,
            answers={**row.answers, arm.name: answer.text},
            scores={**row.scores, arm.name: 1.0},
            passages={arm.name: answer.passages} if answer.passages else {},
        )
        for row, answer in zip(study.report.rows, answers, strict=True)
    )
    others = [one for one in study.report.contenders if one.name != arm.name]
    result = replace(study.report.contenders[0], name=arm.name, title=arm.title, told=arm.told(examples[0]))
    report = replace(study.report, rows=rows, contenders=(*others, replace(result, is_fine_tuned=False)), task=TASK)
    write_report(report, study.folder)
    return report
