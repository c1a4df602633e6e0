"""Reports of two studies on made-up rows, whose scores are written as they are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fettle.records import TaskKind
from fettle.report_records import AnswerRow, StudyReport
from voting import study_report

Scores = Mapping[str, float | None]


def scored_row(
    question: str,
    scores: Scores,
    *,
    number: int = 0,
    wanted: str = "yes",
    answers: Mapping[str, str] | None = None,
    cluster: int | None = None,
) -> AnswerRow:
    """A row with an answer for each contender that says its score, unless `answers` has another."""
    return AnswerRow(
        example_id=f"row-{number}",
        source=f"mails.csv:{number + 2}",
        input_text=question,
        wanted=wanted,
        answers={name: f"answer worth {score}" for name, score in scores.items()} | dict(answers or {}),
        scores=dict(scores),
        cluster=cluster,
    )


def rows_of(tuned: Sequence[float | None], prompt: Sequence[float | None], *, size: int = 1) -> list[AnswerRow]:
    """A row for each pair of scores; so many neighbours make a cluster."""
    return [
        scored_row(f"question {place}", {"tuned": ours, "prompt": theirs}, number=place, cluster=place // size)
        for place, (ours, theirs) in enumerate(zip(tuned, prompt, strict=True))
    ]


def report_of(rows: Sequence[AnswerRow], *, kind: TaskKind = TaskKind.LABELS, **origin: Any) -> StudyReport:
    """A report with the contenders `tuned`, `prompt` and `few_shot`, whose verdict is about `tuned`."""
    report = study_report(rows, kind=kind)
    return replace(report, primary_metric="exact_label", provenance=replace(report.provenance, **origin))
