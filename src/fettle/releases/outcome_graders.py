"""How good an answer was, by the built-in graders that need nothing but the answer and, most of them, the wanted one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.errors import ConfigError
from fettle.records import Answer, Example, FinishReason, Location, Message, Task, TaskKind, Usage
from fettle.releases.challenge import ChallengeKind
from fettle.releases.records import Release, Router
from fettle.releases.terms import Grading, JudgeEndpoint
from fettle.scoring.graders.json_answer import fits
from fettle.scoring.registry import grader_by_name

WANT_THE_RIGHT_ANSWER = ("exact_label", "json_exact", "json_fields", "exact_text", "chrf", "rouge_l")
"""Graders that compare with a corrected answer."""
JSON_VALID = "json_valid"
"""Looks at the answer alone, so that every answer of a shadow has an outcome."""
_FALLBACK = "exact_text"


def grading_of(incumbent: Release, kind: ChallengeKind, grader: str | None, judge: JudgeEndpoint | None) -> Grading:
    """How answers are graded in a challenge.

    Args:
        incumbent: The release in force: its study's grader is taken where none is named, and its labels or schema.
        kind: Of the challenge.
        grader: By name; None: that of the study, where it is one of these, else whether the texts are the same.
        judge: Compares the answers of a shadow; None: nobody does.

    Raises:
        ConfigError: It is no such grader, or what it needs is not known.
    """
    contender = incumbent.contender.small if isinstance(incumbent.contender, Router) else incumbent.contender
    form = contender.form
    labels = form.labels if form is not None else ()
    schema = form.json_schema if form is not None else None
    if judge is not None and (kind is not ChallengeKind.SHADOW or grader is not None):
        raise ConfigError(
            "a judge compares the two answers to one request, which only a shadow has, and takes the grader's place",
            where="--judge-url",
            remedy="take --kind shadow, and no --grader",
        )
    if grader is None:
        by_study = incumbent.evidence.primary_metric
        can_be_taken = by_study in WANT_THE_RIGHT_ANSWER and (by_study != "exact_label" or labels)
        grader = by_study if can_be_taken else _FALLBACK
    known = (*WANT_THE_RIGHT_ANSWER, *((JSON_VALID,) if kind is ChallengeKind.SHADOW else ()))
    if grader not in known:
        raise ConfigError(
            f"a {kind} cannot be graded by {grader!r}", where="--grader", remedy=f"choose one of {', '.join(known)}"
        )
    if grader == "exact_label" and not labels:
        raise ConfigError(
            f"the release {incumbent} answers without labels",
            where="--grader",
            remedy="take exact_text, or release a contender of a study of labels",
        )
    if grader == JSON_VALID and schema is None:
        raise ConfigError(
            f"the release {incumbent} has no JSON schema that answers could be held against",
            where="--grader",
            remedy=f"choose one of {', '.join(WANT_THE_RIGHT_ANSWER)}",
        )
    return Grading(grader=grader, labels=labels, json_schema=schema, judge=judge)


def needs_the_right_answer(grading: Grading) -> bool:
    """Whether an answer can be graded only once somebody has said what it should have been."""
    return grading.judge is None and grading.grader != JSON_VALID


def score_of(grading: Grading, answer: Mapping[str, Any], wanted: str | None) -> float | None:
    """How good an answer is, in [0, 1]; None: this grader cannot tell.

    Args:
        grading: By whom.
        answer: The message.
        wanted: What it should have been; None: nobody has said, which `json_valid` does not need.
    """
    text = answer.get("content")
    if text is None or answer.get("tool_calls"):
        return None
    if grading.grader == JSON_VALID:
        return float(fits(text, grading.json_schema or "true"))
    if wanted is None:
        return None
    kind = TaskKind.LABELS if grading.labels else TaskKind.JSON if grading.json_schema else TaskKind.TEXT
    task = Task(kind=kind, reason="the release's", labels=grading.labels, json_schema=grading.json_schema)
    example = Example(
        id="outcome",
        messages=(Message(role="user", content=""), Message(role="assistant", content=wanted)),
        source=Location(file="feedback", line=1),
    )
    usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    answered = Answer(example_id=example.id, text=text, finish_reason=FinishReason.STOP, usage=usage)
    return grader_by_name(grading.grader, task, ()).score(example, answered).value
