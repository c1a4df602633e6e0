"""Testing criteria of evals: graders of OpenAI's API, each with the reward from which an answer passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fettle.scoring.openai_grader import Grade, InvalidGraderError, OpenAIGrader
from fettle.scoring.openai_graders.registry import read_grader
from fettle.scoring.openai_graders.score_model import ScoreModel
from fettle.scoring.openai_graders.wire import join

_MOST_CRITERIA = 32
_THRESHOLD_OF_CODE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionResult:
    """What a criterion makes of one answer."""

    name: str
    type: str
    score: float
    """0 where it could not be applied."""
    passed: bool
    error: str | None
    """Why it could not be applied; None: it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A grader and where it draws the line."""

    grader: OpenAIGrader
    threshold: float
    """Rewards from here on pass."""

    @property
    def reads_sample(self) -> bool:
        """Whether it looks at what the model said, as far as can be known without running it."""
        return self.grader.runs_code or any(variable.namespace == "sample" for variable in self.grader.variables)

    def result(self, grade: Grade) -> CriterionResult:
        """Passed or not. What failed because of the answer has not passed; what failed otherwise is not known."""
        error = None if grade.is_fault_of_sample else grade.problem
        return CriterionResult(
            name=self.grader.name,
            type=self.grader.kind,
            score=grade.reward,
            passed=grade.problem is None and grade.reward >= self.threshold,
            error=error,
        )


def read_criteria(values: Sequence[Any], where: str = "testing_criteria") -> tuple[Criterion, ...]:
    """The criteria that a JSON list describes.

    Raises:
        InvalidGraderError: One describes none; `where` is its place.
    """
    if not 1 <= len(values) <= _MOST_CRITERIA:
        raise InvalidGraderError(
            f"expected 1 to {_MOST_CRITERIA} criteria, and there are {len(values)}",
            where=where,
            remedy="change the list",
        )
    return tuple(_criterion(value, join(where, number)) for number, value in enumerate(values))


def _criterion(value: Any, where: str) -> Criterion:
    grader = read_grader(value, where)
    if grader.kind == "multi":
        raise InvalidGraderError(
            "graders of type multi are no criteria", where=join(where, "type"), remedy="list its parts"
        )
    return Criterion(grader=grader, threshold=_threshold(grader, where))


def _threshold(grader: OpenAIGrader, where: str) -> float:
    """What is asked for; otherwise 1 for what is right or wrong, and the middle for what is more or less right."""
    if grader.pass_threshold is not None:
        return grader.pass_threshold
    if grader.kind == "text_similarity":
        raise InvalidGraderError(
            "it is missing", where=join(where, "pass_threshold"), remedy="say how similar is enough"
        )
    if isinstance(grader, ScoreModel):
        return (grader.low + grader.high) / 2
    return _THRESHOLD_OF_CODE if grader.runs_code else 1.0
