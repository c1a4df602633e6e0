"""`label_model`: a model chooses a label, and some labels pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, StrictStr

from fettle.scoring.openai_grader import Attempt, Grade, GradingServices, InvalidGraderError, SamplingParams, Variable
from fettle.scoring.openai_graders.model_query import ModelQuery, answer_schema, read_messages, variables_of
from fettle.scoring.openai_graders.wire import GraderWire, MessageWire, join, read, shown


class LabelModelWire(GraderWire):
    """As it is sent."""

    type: Literal["label_model"]
    model: str = Field(min_length=1)
    input: list[MessageWire]
    labels: list[StrictStr] = Field(min_length=1)
    passing_labels: list[StrictStr] = Field(min_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelModel:
    """1 when the label that the model chooses passes, 0 when it does not."""

    name: str
    query: ModelQuery
    labels: tuple[str, ...]
    passing_labels: frozenset[str]
    pass_threshold: float | None = None
    kind: str = "label_model"
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
        """1 or 0 for each attempt; an answer that is no label is a grade of 0 with a flag."""
        return self.query.grade(attempts, services, self._reward)

    def _reward(self, result: Any) -> float:
        if result not in self.labels:
            raise ValueError(f"the result is none of the labels: {shown(result)}")
        return float(result in self.passing_labels)


def read_label_model(value: Any, where: str) -> LabelModel:
    """The grader that a JSON value describes.

    Raises:
        InvalidGraderError: The value does not, or a label that passes is no label.
    """
    wire = read(LabelModelWire, value, where)
    strangers = [label for label in wire.passing_labels if label not in wire.labels]
    if strangers:
        raise InvalidGraderError(
            f"{shown(strangers[0])} is not among the labels",
            where=join(where, "passing_labels"),
            remedy="name labels of the list `labels`",
        )
    labels = tuple(dict.fromkeys(wire.labels))
    query = ModelQuery(
        model=wire.model,
        messages=read_messages(wire.input, join(where, "input")),
        json_schema=json.dumps(answer_schema({"type": "string", "enum": list(labels)})),
        params=SamplingParams(),
    )
    return LabelModel(
        name=wire.name,
        query=query,
        labels=labels,
        passing_labels=frozenset(wire.passing_labels),
        pass_threshold=wire.pass_threshold,
    )
