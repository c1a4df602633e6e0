"""Attempts, services and a grading model for tests of OpenAI's graders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, Question, Reply, Sample
from fettle.scoring.openai_graders.registry import read_grader
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault, CodeOutcome


class NoRunner:
    """A machine without a sandbox."""

    def unavailable_because(self) -> str | None:
        return "there is no bubblewrap in this test"

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        return tuple(CodeOutcome(value=None, fault=CodeFault.SERVER, details="no sandbox") for _ in calls)


class ScriptedModel:
    """Says what it is told to say, and keeps what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.questions: list[Question] = []

    def knows(self, model: str) -> bool:
        return model == "judge"

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        self.questions += questions
        return [self.replies.pop(0) for _ in questions]


SERVICES = GradingServices(code_runner=NoRunner())


def attempt(text: str = "", /, **item: Any) -> Attempt:
    return Attempt(sample=Sample(output_text=text), item=item)


def grade(grader: dict[str, Any], text: str = "", /, services: GradingServices = SERVICES, **item: Any) -> Grade:
    """The grade of one attempt; `name` is filled in."""
    (found,) = read_grader({"name": "g"} | grader).grade([attempt(text, **item)], services)
    return found


def string_check(
    text: str = "{{sample.output_text}}", reference: str = "{{item.answer}}", operation: str = "eq"
) -> dict:
    return {"type": "string_check", "name": "check", "input": text, "reference": reference, "operation": operation}
