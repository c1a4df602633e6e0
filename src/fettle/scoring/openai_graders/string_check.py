"""`string_check`: whether two texts are the same, or one holds the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, Variable, grade_each
from fettle.scoring.openai_graders.template import Template, parse_template
from fettle.scoring.openai_graders.wire import GraderWire, join, read

_OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "neq": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


class StringCheckWire(GraderWire):
    """As it is sent."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "neq", "like", "ilike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StringCheck:
    """1 when the operation holds, 0 when it does not."""

    name: str
    input: Template
    reference: Template
    operation: str
    pass_threshold: float | None = None
    kind: str = "string_check"
    models: tuple[str, ...] = ()
    runs_code: bool = False

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Those of both texts."""
        return self.input.variables + self.reference.variables

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:  # noqa: ARG002
        """1 or 0 for each attempt."""
        holds = _OPERATIONS[self.operation]
        return grade_each(
            attempts, lambda attempt: float(holds(self.input.fill(attempt), self.reference.fill(attempt)))
        )


def read_string_check(value: Any, where: str) -> StringCheck:
    """The grader that a JSON value describes.

    Raises:
        InvalidGraderError: The value does not.
    """
    wire = read(StringCheckWire, value, where)
    return StringCheck(
        name=wire.name,
        input=parse_template(wire.input, join(where, "input")),
        reference=parse_template(wire.reference, join(where, "reference")),
        operation=wire.operation,
        pass_threshold=wire.pass_threshold,
    )
