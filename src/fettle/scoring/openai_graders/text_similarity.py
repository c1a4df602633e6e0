"""`text_similarity`: how alike two texts are, by one of the measures of `text_metrics.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, InvalidGraderError, Variable, grade_each
from fettle.scoring.openai_graders.template import Template, parse_template
from fettle.scoring.openai_graders.text_metrics import METRICS
from fettle.scoring.openai_graders.wire import GraderWire, join, read

_NOT_YET = "cosine"


class TextSimilarityWire(GraderWire):
    """As it is sent."""

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSimilarity:
    """A number in [0, 1], 1 for the same text."""

    name: str
    input: Template
    reference: Template
    metric: str
    pass_threshold: float | None = None
    kind: str = "text_similarity"
    models: tuple[str, ...] = ()
    runs_code: bool = False

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Those of both texts."""
        return self.input.variables + self.reference.variables

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:  # noqa: ARG002
        """The likeness for each attempt."""
        likeness = METRICS[self.metric]
        return grade_each(attempts, lambda attempt: likeness(self.input.fill(attempt), self.reference.fill(attempt)))


def read_text_similarity(value: Any, where: str) -> TextSimilarity:
    """The grader that a JSON value describes.

    Raises:
        InvalidGraderError: The value does not, or asks for a measure that is not there.
    """
    wire = read(TextSimilarityWire, value, where)
    metric = wire.evaluation_metric
    if metric not in METRICS:
        problem = (
            "'cosine' needs embeddings and is not supported yet"
            if metric == _NOT_YET
            else f"no measure {metric[:60]!r}"
        )
        raise InvalidGraderError(
            problem, where=join(where, "evaluation_metric"), remedy=f"choose one of {', '.join(METRICS)}"
        )
    return TextSimilarity(
        name=wire.name,
        input=parse_template(wire.input, join(where, "input")),
        reference=parse_template(wire.reference, join(where, "reference")),
        metric=metric,
        pass_threshold=wire.pass_threshold,
    )
