"""Estimates: what a job would take, before it is created. OpenAI's API has no such thing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StrictFloat
from starlette.concurrency import run_in_threadpool

from fettle.jobs.estimator import EstimateFailedError
from fettle.jobs.fine_tuning import Hyperparameters
from fettle.jobs.job_estimate import JobEstimate
from fettle.jobs.job_folder import RowCounts, TrainingJob
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import ApiError, invalid
from fettle.server.hang_up import HungUpError, unless_hung_up
from fettle.server.job_bodies import CreateJob
from fettle.server.job_requests import AskedJob, asked_job
from fettle.store.files import content_of
from fettle.store.keys import Owner
from fettle.store.models import TunedModel, folder_of

router = APIRouter(prefix="/fine_tuning/estimates", tags=["fine-tuning"])
_HUNG_UP = 499


class EstimateJob(CreateJob):
    """The body of a job, and what the machine costs."""

    price_per_hour: Annotated[StrictFloat, Field(ge=0)] | None = None
    """In whatever currency."""


class RowsBody(BaseModel):
    """What would become of a file's rows."""

    num_rows: int
    """That would take part."""
    num_tokens: int
    """Of all rows of the file, as rendered, after truncation: of one epoch."""
    num_truncated: int
    """Of those that would take part: longer than the model's context."""
    num_skipped: int
    """That would take no part: nothing that could be learned is left of them."""
    num_partly_trained: int
    """Of those that would take part: one of their answers would not be learned."""


class EstimateBody(BaseModel):
    """What is to be expected of a job."""

    object: Literal["fine_tuning.job.estimate"] = "fine_tuning.job.estimate"
    model: str
    training_file: RowsBody
    validation_file: RowsBody | None
    hyperparameters: dict[str, int | float]
    """With numbers in place of `auto`."""
    method: dict[str, Any]
    learning_rate: float
    """Peak, after the multiplier."""
    precision: str
    num_steps: int
    trained_tokens: int
    """Of all epochs, as the finished job would say it."""
    max_row_tokens: int
    """What rows are cut at."""
    seconds: float
    """Of loading the model, reading the rows, and all steps and evaluations, from one measured step."""
    minutes: float
    peak_memory_bytes: int
    """The most that the training process would hold."""
    price: float | None
    """In the currency of `price_per_hour`; null: that was not given."""
    warnings: list[str]
    """What there is to say of the files."""


@router.post("", response_model=EstimateBody)
async def create(body: EstimateJob, request: Request, context: ContextOf, owner: OwnerOf) -> EstimateBody | Response:
    """Say what a job would take: rows, tokens, steps, minutes, memory. The body is that of the job; no job is created."""
    asked = await run_in_threadpool(_asked, context, owner, body)
    try:
        estimate = await unless_hung_up(request, context.estimator.estimate(_training_job(context, asked)))
    except HungUpError:
        return Response(status_code=_HUNG_UP)
    except EstimateFailedError as error:
        raise _refusal(error) from error
    return _body(asked, estimate, body.price_per_hour)


def _asked(context: Context, owner: Owner, body: EstimateJob) -> AskedJob:
    with context.store.reading() as connection:
        asked = asked_job(connection, body, owner)
    for param, file in (("training_file", asked.training_file), ("validation_file", asked.validation_file)):
        if file is not None and not content_of(context.store, file).is_file():
            raise invalid(f"The file {file.id} was deleted.", param)
    return asked


def _training_job(context: Context, asked: AskedJob) -> TrainingJob:
    hyperparameters, model, valid = asked.request.hyperparameters, asked.model, asked.validation_file

    return TrainingJob(
        training_file=content_of(context.store, asked.training_file).resolve(),
        validation_file=None if valid is None else content_of(context.store, valid).resolve(),
        model=asked.base.source,
        adapter=folder_of(context.store, model) if isinstance(model, TunedModel) else None,
        epochs=hyperparameters.n_epochs,
        batch_size=hyperparameters.batch_size,
        learning_rate_multiplier=hyperparameters.learning_rate_multiplier,
        seed=asked.request.seed,
    )


def _refusal(error: EstimateFailedError) -> ApiError:
    """What the job would fail with is refused now: the request has to change before it is worth sending again."""
    failed = error.failed
    status = 500 if failed.code == "server_error" else 400
    return ApiError(failed.message, status=status, code=failed.code, param=failed.param)


def _body(asked: AskedJob, estimate: JobEstimate, price_per_hour: float | None) -> EstimateBody:
    started = estimate.started
    used = Hyperparameters(
        n_epochs=started.hyperparameters.epochs,
        batch_size=started.hyperparameters.batch_size,
        learning_rate_multiplier=started.hyperparameters.learning_rate_multiplier,
    )
    return EstimateBody(
        model=asked.model.id,
        training_file=_rows(started.train),
        validation_file=None if started.valid is None else _rows(started.valid),
        hyperparameters=asdict(used),
        method={"type": "supervised", "supervised": {"hyperparameters": asdict(used)}},
        learning_rate=started.learning_rate,
        precision=started.precision.value,
        num_steps=started.num_steps,
        trained_tokens=started.num_trained_tokens,
        max_row_tokens=started.max_tokens,
        seconds=estimate.seconds,
        minutes=estimate.minutes,
        peak_memory_bytes=estimate.peak_memory_bytes,
        price=None if price_per_hour is None else estimate.price(price_per_hour),
        warnings=list(estimate.warnings),
    )


def _rows(counts: RowCounts) -> RowsBody:
    return RowsBody.model_validate(counts.model_dump())
