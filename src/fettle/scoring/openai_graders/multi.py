"""`multi`: a formula over the rewards of other graders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

from fettle.scoring.openai_grader import (
    Attempt,
    Grade,
    GraderErrors,
    GradingServices,
    InvalidGraderError,
    OpenAIGrader,
    TokenUsage,
    Variable,
)
from fettle.scoring.openai_graders.formula import Formula, FormulaResultError, parse_formula
from fettle.scoring.openai_graders.wire import GraderWire, join, read

ReadGrader = Callable[[Any, str], OpenAIGrader]
"""(JSON value, place) to a grader."""


class MultiWire(GraderWire):
    """As it is sent."""

    type: Literal["multi"]
    name: str = "multi"
    graders: dict[str, Any]
    """A map from name to grader; the official document's single grader is taken too, and goes by its own name."""
    calculate_output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Multi:
    """The value of a formula. A grader that fails counts 0 in it, and its flags stay."""

    name: str
    graders: Mapping[str, OpenAIGrader]
    formula: Formula
    pass_threshold: float | None = None
    kind: str = "multi"

    @property
    def models(self) -> tuple[str, ...]:
        """Those of all graders."""
        return tuple(dict.fromkeys(model for grader in self.graders.values() for model in grader.models))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Those of all graders."""
        return tuple(variable for grader in self.graders.values() for variable in grader.variables)

    @property
    def runs_code(self) -> bool:
        """Whether one of them does."""
        return any(grader.runs_code for grader in self.graders.values())

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:
        """The formula's value for each attempt; no finite value is a grade of 0 with a flag."""
        columns = [grader.grade(attempts, services) for grader in self.graders.values()]
        return tuple(self._joined(parts) for parts in zip(*columns, strict=True))

    def _joined(self, parts: Sequence[Grade]) -> Grade:
        rewards = {name: part.reward for name, part in zip(self.graders, parts, strict=True)}
        failed = [(name, part) for name, part in zip(self.graders, parts, strict=True) if part.problem is not None]
        grade = Grade(
            reward=0.0,
            errors=reduce(GraderErrors.joined, (part.errors for part in parts)),
            problem="; ".join(f"{name}: {part.problem}" for name, part in failed) or None,
            is_fault_of_sample=bool(failed) and all(part.is_fault_of_sample for _, part in failed),
            sub_rewards=rewards,
            usage_by_model=_summed(parts),
            sampled_model_name=next((part.sampled_model_name for part in parts if part.sampled_model_name), None),
        )
        try:
            return replace(grade, reward=self.formula.value(rewards))
        except FormulaResultError as error:
            problem = f"{grade.problem}; {error}" if grade.problem else str(error)
            errors = replace(grade.errors, other_error=True)
            return replace(grade, errors=errors, problem=problem, is_fault_of_sample=False)


def read_multi(value: Any, where: str, read_part: ReadGrader) -> Multi:
    """The grader that a JSON value describes.

    Args:
        value: The JSON value.
        where: Its place.
        read_part: Reads a grader that is no `multi`.

    Raises:
        InvalidGraderError: The value does not, or one of its graders is wrong, or the formula.
    """
    wire = read(MultiWire, value, where)
    place = join(where, "graders")
    if isinstance(wire.graders.get("type"), str):
        single = read_part(wire.graders, place)
        graders = {single.name: single}
    else:
        graders = {
            name: read_part({"name": name} | part if isinstance(part, dict) else part, join(place, name))
            for name, part in wire.graders.items()
        }
    if not graders:
        raise InvalidGraderError("it is empty", where=place, remedy="give at least one grader by its name")
    formula = parse_formula(wire.calculate_output, graders, join(where, "calculate_output"))
    return Multi(name=wire.name, graders=graders, formula=formula, pass_threshold=wire.pass_threshold)


def _summed(parts: Sequence[Grade]) -> dict[str, TokenUsage]:
    total: dict[str, TokenUsage] = {}
    for part in parts:
        for model, usage in part.usage_by_model.items():
            total[model] = total.get(model, TokenUsage()).plus(usage)
    return total
