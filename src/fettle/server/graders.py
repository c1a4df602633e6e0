"""Graders: tried out before a job learns from them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from fettle.scoring.openai_grader import Attempt, Grade, GraderErrors, OpenAIGrader, Sample, TokenUsage
from fettle.scoring.openai_graders.registry import read_grader, require_services
from fettle.scoring.openai_graders.wire import require_plain_json
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.wire import RequestBody

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["graders"])


class ValidateGrader(RequestBody):
    """The body of `validate`."""

    grader: dict[str, Any]


class ValidGrader(BaseModel):
    """The same grader: it is one."""

    grader: dict[str, Any]


class RunGrader(RequestBody):
    """The body of `run`."""

    grader: dict[str, Any]
    item: dict[str, Any] | None = None
    model_sample: str


class GraderMetadata(BaseModel):
    """How a grade came about."""

    name: str
    type: str
    errors: GraderErrors
    execution_time: float
    """Seconds."""
    scores: dict[str, float]
    """The reward of each grader by its name."""
    token_usage: int | None
    sampled_model_name: str | None


class GraderRun(BaseModel):
    """What a grader makes of a sample."""

    reward: float
    metadata: GraderMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, dict[str, int]]


@router.post("/validate")
def validate(body: ValidateGrader, context: ContextOf, owner: OwnerOf) -> ValidGrader:
    """Check a grader; nothing of it is run."""
    require_services(read_grader(body.grader), context.grading_services(owner))
    return ValidGrader(grader=body.grader)


@router.post("/run")
def run(body: RunGrader, context: ContextOf, owner: OwnerOf) -> GraderRun:
    """Grade one sample. A grader that fails gives a reward of 0 and says why."""
    grader, services = read_grader(body.grader), context.grading_services(owner)
    require_services(grader, services)
    item = body.item or {}
    require_plain_json(item, "item")
    require_plain_json(body.model_sample, "model_sample")
    started = time.perf_counter()
    (grade,) = grader.grade([Attempt(sample=Sample(output_text=body.model_sample), item=item)], services)
    return _body(grader, grade, seconds=time.perf_counter() - started)


def _body(grader: OpenAIGrader, grade: Grade, *, seconds: float) -> GraderRun:
    metadata = GraderMetadata(
        name=grader.name,
        type=grader.kind,
        errors=grade.errors,
        execution_time=seconds,
        scores=dict(grade.sub_rewards) or {grader.name: grade.reward},
        token_usage=sum(usage.total_tokens for usage in grade.usage_by_model.values())
        if grade.usage_by_model
        else None,
        sampled_model_name=grade.sampled_model_name,
    )
    return GraderRun(
        reward=grade.reward,
        metadata=metadata,
        sub_rewards=dict(grade.sub_rewards),
        model_grader_token_usage_per_model=_by_model(grade.usage_by_model),
    )


def _by_model(usages: Mapping[str, TokenUsage]) -> dict[str, dict[str, int]]:
    return {model: asdict(usage) | {"total_tokens": usage.total_tokens} for model, usage in usages.items()}
