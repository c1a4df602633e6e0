"""A grader of OpenAI's API as a grader of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable, unscored
from fettle.scoring.openai_grader import Attempt, GradingServices, OpenAIGrader, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIJson:
    """The reward of an OpenAI grader, which has to lie in [0, 1].

    `item` has `messages`, the prompt; `input`, what the user says; and the wanted answer by both names that graders give it,
    `answer` and `reference`. What cannot be graded is unscored; an answer that lacks what the grader reads of it is wrong: 0.
    """

    grader: OpenAIGrader
    services: GradingServices
    is_binary: bool = False

    @property
    def name(self) -> str:
        """As its author called it."""
        return self.grader.name

    @property
    def title(self) -> str:
        """The same."""
        return self.grader.name

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1], or why not."""
        if (result := unscorable(example, answer)) is not None:
            return result
        attempt = Attempt(sample=Sample(output_text=answer.text), item=item_of(example))
        (grade,) = self.grader.grade([attempt], self.services)
        if grade.problem is not None:
            return scored(example, 0.0) if grade.is_fault_of_sample else unscored(example, grade.problem)
        if not 0.0 <= grade.reward <= 1.0:
            return unscored(example, f"the grader gave {grade.reward:g}, and a study needs 0 to 1")
        return scored(example, grade.reward)


def item_of(example: Example) -> dict[str, Any]:
    """An example as the `item` of a grader."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in example.prompt],
        "input": example.user_text,
        "answer": example.answer,
        "reference": example.answer,
    }
