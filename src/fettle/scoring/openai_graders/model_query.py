"""What the graders that ask a model have in common: their messages, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fettle.records import Message, Role
from fettle.scoring.json_values import parse_json
from fettle.scoring.openai_grader import (
    Attempt,
    Grade,
    GraderErrors,
    GradingServices,
    InvalidGraderError,
    MissingVariableError,
    Question,
    Reply,
    SamplingParams,
    Variable,
)
from fettle.scoring.openai_graders.template import Template, parse_template
from fettle.scoring.openai_graders.wire import MessageWire, join

_STEPS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
        "required": ["description", "conclusion"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTemplate:
    """A message to a grading model."""

    role: Role
    content: Template


def read_messages(messages: Sequence[MessageWire], where: str) -> tuple[MessageTemplate, ...]:
    """The messages of a grader.

    Raises:
        InvalidGraderError: There are none, or one is no template.
    """
    if not messages:
        raise InvalidGraderError("it is empty", where=where, remedy="give at least one message")
    return tuple(
        MessageTemplate(role=message.role, content=parse_template(message.content, join(where, number, "content")))
        for number, message in enumerate(messages)
    )


def variables_of(messages: Sequence[MessageTemplate]) -> tuple[Variable, ...]:
    """All that the messages read."""
    return tuple(variable for message in messages for variable in message.content.variables)


def answer_schema(result: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a grading model's answer: its steps, then the result."""
    return {
        "type": "object",
        "properties": {"steps": _STEPS, "result": dict(result)},
        "required": ["steps", "result"],
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuery:
    """How a grader asks its model."""

    model: str
    messages: tuple[MessageTemplate, ...]
    json_schema: str
    params: SamplingParams

    def grade(
        self, attempts: Sequence[Attempt], services: GradingServices, reward: Callable[[Any], float]
    ) -> tuple[Grade, ...]:
        """Ask for every attempt that has all variables, all at once.

        Args:
            attempts: What is graded.
            services: Where the model is.
            reward: Makes a reward of the `result` that the model gave; raises ValueError where it cannot be one.
        """
        grades: list[Grade | None] = []
        questions: list[Question] = []
        for attempt in attempts:
            try:
                questions.append(self._question(attempt))
                grades.append(None)
            except MissingVariableError as missing:
                grades.append(missing.grade)
        replies = iter(services.sampler.ask(questions) if questions else ())
        return tuple(self._read(next(replies), reward) if grade is None else grade for grade in grades)

    def _question(self, attempt: Attempt) -> Question:
        messages = tuple(Message(role=part.role, content=part.content.fill(attempt)) for part in self.messages)
        return Question(model=self.model, messages=messages, json_schema=self.json_schema, params=self.params)

    def _read(self, reply: Reply, reward: Callable[[Any], float]) -> Grade:
        return replace(_graded(reply, reward), usage_by_model={self.model: reply.usage}, sampled_model_name=self.model)


def _graded(reply: Reply, reward: Callable[[Any], float]) -> Grade:
    if reply.error is not None:
        errors = GraderErrors(model_grader_server_error=True, model_grader_server_error_details=reply.error)
        return Grade.failed(f"the grading model did not answer: {reply.error}", errors)
    if reply.is_refusal:
        return Grade.failed("the grading model refused", GraderErrors(model_grader_refusal_error=True))
    try:
        answer = parse_json(reply.text)
        if not isinstance(answer, dict) or "result" not in answer:
            raise ValueError("there is no `result` in it")
        return Grade(reward=reward(answer["result"]))
    except ValueError as error:
        problem = f"the grading model's answer cannot be read: {error}"
        return Grade.failed(problem, GraderErrors(model_grader_parse_error=True))
