"""`score_model`: a number that a model gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt

from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, InvalidGraderError, SamplingParams, Variable
from fettle.scoring.openai_graders.model_query import ModelQuery, answer_schema, read_messages, variables_of
from fettle.scoring.openai_graders.wire import GraderWire, MessageWire, Wire, WireNumber, join, read, shown


class SamplingWire(Wire):
    """`sampling_params` as they are sent."""

    seed: StrictInt | None = Field(default=None, ge=-(2**63), lt=2**63)
    top_p: Annotated[WireNumber, Field(ge=0, le=1)] | None = None
    temperature: Annotated[WireNumber, Field(ge=0, le=2)] | None = None
    max_completions_tokens: StrictInt | None = Field(default=None, ge=1)
    """As the reference spells it."""
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    """As chat completions spell it."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None

    def params(self) -> SamplingParams:
        """The same inside."""
        return SamplingParams(
            seed=self.seed,
            temperature=self.temperature,
            top_p=self.top_p,
            max_completion_tokens=self.max_completions_tokens or self.max_completion_tokens,
            reasoning_effort=self.reasoning_effort,
        )


class ScoreModelWire(GraderWire):
    """As it is sent."""

    type: Literal["score_model"]
    model: str = Field(min_length=1)
    input: list[MessageWire]
    range: Annotated[list[WireNumber], Field(min_length=2, max_length=2)] | None = None
    sampling_params: SamplingWire | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreModel:
    """The number that a model gives, brought into the range."""

    name: str
    query: ModelQuery
    low: float
    high: float
    pass_threshold: float | None = None
    kind: str = "score_model"
    runs_code: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """The grading model."""
        return (self.query.model,)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Those of all messages."""
        return variables_of(self.query.messages)

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:
        """The model's number for each attempt, at least `low` and at most `high`."""
        return self.query.grade(attempts, services, self._reward)

    def _reward(self, result: Any) -> float:
        if isinstance(result, bool) or not isinstance(result, int | float):
            raise ValueError(f"the result is no number: {shown(result)}")
        return float(min(self.high, max(self.low, result)))


def read_score_model(value: Any, where: str) -> ScoreModel:
    """The grader that a JSON value describes.

    Raises:
        InvalidGraderError: The value does not.
    """
    wire = read(ScoreModelWire, value, where)
    low, high = wire.range or (0.0, 1.0)
    if low >= high:
        raise InvalidGraderError(
            f"the range goes from {low:g} to {high:g}",
            where=join(where, "range"),
            remedy="give the smaller number first",
        )
    query = ModelQuery(
        model=wire.model,
        messages=read_messages(wire.input, join(where, "input")),
        json_schema=json.dumps(answer_schema({"type": "number", "minimum": low, "maximum": high})),
        params=(wire.sampling_params or SamplingWire()).params(),
    )
    return ScoreModel(name=wire.name, query=query, low=low, high=high, pass_threshold=wire.pass_threshold)
