"""A grader of OpenAI's API as a grader of a study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable, unscored
from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, OpenAIGrader, Sample
from fettle.scoring.openai_graders.score_model import ScoreModel

_BINARY_KINDS = ("string_check", "label_model")
_MOST_NAME_CHARACTERS = 60
_MOST_REASON_CHARACTERS = 200
_SOURCE_LINE = re.compile(r'File "<grader>", line (\d+)')

ITEM_KEYS = ("messages", "input", "answer", "reference", "reference_answer")
"""What the `item` of an example holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIJson:
    """The reward of an OpenAI grader, which has to lie in [0, 1]; that of a `score_model` is brought there from its range.

    What cannot be graded is unscored; an answer that lacks what the grader reads of it is wrong: 0.
    """

    grader: OpenAIGrader
    services: GradingServices
    name: str
    """As its author called it, or its file where that says nothing."""
    file: str | None = None
    """Where it was read; None: nowhere."""
    sha256: str = ""
    """Of its JSON value."""

    @property
    def title(self) -> str:
        """The same as its name."""
        return self.name

    @property
    def is_binary(self) -> bool:
        """Whether its kind knows right and wrong alone; code could give any number."""
        return self.grader.kind in _BINARY_KINDS

    @property
    def asks_models(self) -> bool:
        """Whether a score takes a request to a model."""
        return bool(self.grader.models)

    @property
    def is_costly(self) -> bool:
        """Whether a score takes a request to a model, or a run of the user's code."""
        return self.asks_models or self.grader.runs_code

    def using(self, services: GradingServices) -> OpenAIJson:
        """The same grader with other services."""
        return replace(self, services=services)

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1], or why not."""
        return self.score_all([(example, answer)])[0]

    def score_all(self, pairs: Sequence[tuple[Example, Answer]]) -> tuple[Score, ...]:
        """What `score` says of each, in order, graded together."""
        results = [unscorable(example, answer) for example, answer in pairs]
        judged = [pair for pair, result in zip(pairs, results, strict=True) if result is None]
        attempts = [
            Attempt(sample=Sample(output_text=answer.text), item=item_of(example)) for example, answer in judged
        ]
        grades = iter(self.grader.grade(attempts, self.services) if attempts else ())
        return tuple(
            self._score(example, next(grades)) if result is None else result
            for (example, _), result in zip(pairs, results, strict=True)
        )

    def _score(self, example: Example, grade: Grade) -> Score:
        if grade.problem is not None:
            if grade.is_fault_of_sample:
                return scored(example, 0.0)
            return unscored(example, _in_one_line(grade.problem), is_retried=grade.errors.is_of_service)
        low, high = (self.grader.low, self.grader.high) if isinstance(self.grader, ScoreModel) else (0.0, 1.0)
        value = (grade.reward - low) / (high - low)
        if not 0.0 <= value <= 1.0:
            return unscored(example, f"the grader gave {grade.reward:g}, and a study needs 0 to 1")
        return scored(example, value)


def _in_one_line(problem: str) -> str:
    """A problem without the traceback of a user's code: its last line, and the line of the source.

    >>> _in_one_line('Traceback ...\\n  File "<grader>", line 2, in grade\\nZeroDivisionError: division by zero')
    'ZeroDivisionError: division by zero (line 2 of its source)'
    """
    lines = problem.strip().splitlines()
    if len(lines) < 2:
        return problem.strip()
    places = _SOURCE_LINE.findall(problem)
    return lines[-1][:_MOST_REASON_CHARACTERS] + (f" (line {places[-1]} of its source)" if places else "")


def readable_name(name: str, otherwise: str) -> str:
    """A grader's name on one line and not too long; `otherwise` where nothing is left of it.

    >>> readable_name(" Is it\\n polite? ", "polite"), readable_name(" ", "polite")
    ('Is it polite?', 'polite')
    """
    told = " ".join("".join(character if character.isprintable() else " " for character in name).split())
    return told[:_MOST_NAME_CHARACTERS] or otherwise


def item_of(example: Example) -> dict[str, Any]:
    """An example as the `item` of a grader.

    `messages` is the prompt, `input` what the user says in it, and `answer`, `reference` and `reference_answer` are the wanted
    answer, which published graders of reinforcement jobs read by any of these names.
    """
    return {
        "messages": [{"role": message.role, "content": message.content} for message in example.prompt],
        "input": example.input_text,
        "answer": example.answer,
        "reference": example.answer,
        "reference_answer": example.answer,
    }
