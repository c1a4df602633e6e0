"""`python`: code of the user that defines `grade(sample, item)`, run in the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fettle.scoring.openai_grader import Attempt, Grade, GraderErrors, GradingServices, InvalidGraderError, Variable
from fettle.scoring.openai_graders.wire import GraderWire, join, read
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault, CodeOutcome
from fettle.scoring.sandbox.source import parse_source, why_no_grade

_MOST_SOURCE_BYTES = 256_000


class PythonWire(GraderWire):
    """As it is sent."""

    type: Literal["python"]
    name: str = "python"
    source: str
    image_tag: str | None = None
    """Accepted and not looked at: there is one image, this machine's Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonGrader:
    """The number that the user's `grade(sample, item)` returns."""

    name: str
    source: str
    pass_threshold: float | None = None
    kind: str = "python"
    models: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    runs_code: bool = True

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:
        """The number for each attempt; an exception, no number, or a limit that is passed is a grade of 0.

        In `sample`, `output_json` is None where the text is no JSON.
        """
        calls = [
            CodeCall(sample={"output_json": None} | attempt.sample.variables(), item=attempt.item)
            for attempt in attempts
        ]
        return tuple(_grade(outcome) for outcome in services.code_runner.run(self.source, calls))


def read_python(value: Any, where: str) -> PythonGrader:
    """The grader that a JSON value describes.

    Raises:
        InvalidGraderError: The value does not, or its source does not compile, is too long or has no `grade`.
    """
    wire = read(PythonWire, value, where)
    place = join(where, "source")
    num_bytes = len(wire.source.encode("utf-8", "replace"))
    if num_bytes >= _MOST_SOURCE_BYTES:
        raise InvalidGraderError(
            f"the source has {num_bytes:,} bytes, and has to have fewer than {_MOST_SOURCE_BYTES:,}",
            where=place,
            remedy="take data out of the source and put it into the rows of the training file",
        )
    try:
        problem = why_no_grade(parse_source(wire.source))
    except ValueError as error:
        problem = f"the source does not compile: {error}"
    if problem is not None:
        raise InvalidGraderError(problem, where=place, remedy="define `def grade(sample, item):` that returns a number")
    return PythonGrader(name=wire.name, source=wire.source, pass_threshold=wire.pass_threshold)


def _grade(outcome: CodeOutcome) -> Grade:
    if outcome.value is not None:
        return Grade(reward=outcome.value)
    if outcome.fault is CodeFault.SERVER:
        errors = GraderErrors(python_grader_server_error=True, python_grader_server_error_type="sandbox_unavailable")
    else:
        errors = GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=outcome.details)
    return Grade.failed(outcome.details, errors)
