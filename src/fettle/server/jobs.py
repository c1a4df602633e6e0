"""Fine-tuning jobs: created, listed, watched, paused and cancelled. Workers do them (`fettle.jobs`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection

from fettle.errors import FettleError
from fettle.jobs.control import cancel_job, create_job, pause_job, resume_job
from fettle.jobs.fine_tuning import FineTuningRequest
from fettle.jobs.validation import have_copies
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import ApiError, invalid
from fettle.server.job_bodies import CreateJob
from fettle.server.job_requests import asked_job
from fettle.server.wire import After
from fettle.store.job_log import JobCheckpoint, StoredEvent, list_checkpoints, list_events
from fettle.store.jobs import Job, JobKind, JobStatus, find_job, list_jobs
from fettle.store.keys import Owner
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/fine_tuning/jobs", tags=["fine-tuning"])


class JobErrorBody(BaseModel):
    """Why a job has failed."""

    code: str
    message: str
    param: str | None


class JobBody(BaseModel):
    """A job, as OpenAI's API shows it."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    status: JobStatus
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: JobErrorBody | None
    hyperparameters: dict[str, int | float | str] | None
    method: dict[str, Any]
    seed: int
    estimated_finish: int | None
    integrations: list[dict[str, Any]]
    metadata: dict[str, str] | None
    user_provided_suffix: str | None


class EventBody(BaseModel):
    """An event of a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    type: str
    message: str
    data: dict[str, Any]


class CheckpointBody(BaseModel):
    """A checkpoint of a job."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]


class JobList(BaseModel):
    """A page of jobs."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[JobBody]
    has_more: bool


class EventList(BaseModel):
    """A page of events."""

    object: Literal["list"] = "list"
    data: list[EventBody]
    has_more: bool


class CheckpointList(BaseModel):
    """A page of checkpoints."""

    object: Literal["list"] = "list"
    data: list[CheckpointBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("")
def create(body: CreateJob, context: ContextOf, owner: OwnerOf) -> JobBody:
    """Ask for a model to be tuned."""
    with context.store.writing() as connection:
        asked = asked_job(connection, body, owner)
        job = create_job(
            connection,
            project_id=owner.project_id,
            model=asked.model.id,
            request=asked.request,
            training_file=body.training_file,
            validation_file=body.validation_file,
            metadata=body.metadata,
        )
    with suppress(FettleError):  # the job is there: what fails now its worker tries again
        have_copies(context.store, job)  # whoever deletes the files now disturbs it no more
    return _body(job, context)


@router.get("")
def index(
    request: Request,
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> JobList:
    """A project's jobs, the newest first."""
    pairs, without = _metadata_filter(request)
    page = PageRequest(limit=limit, after=after)
    with context.store.reading() as connection:
        found = list_jobs(connection, owner.project_id, page, metadata=pairs, without_metadata=without)
    return JobList(data=[_body(job, context) for job in found.items], has_more=found.has_more)


@router.get("/{job_id}")
def show(job_id: str, context: ContextOf, owner: OwnerOf) -> JobBody:
    """One job."""
    with context.store.reading() as connection:
        return _body(find_job(connection, owner.project_id, job_id), context)


@router.post("/{job_id}/cancel")
def cancel(job_id: str, context: ContextOf, owner: OwnerOf) -> JobBody:
    """Stop a job for good."""
    return _changed(context, owner, job_id, cancel_job, "cancelled")


@router.post("/{job_id}/pause")
def pause(job_id: str, context: ContextOf, owner: OwnerOf) -> JobBody:
    """Stop a running job after its current step, to go on later."""
    return _changed(context, owner, job_id, pause_job, "paused")


@router.post("/{job_id}/resume")
def resume(job_id: str, context: ContextOf, owner: OwnerOf) -> JobBody:
    """Go on with a paused job. A study goes on by its own command alone, which has its examples."""
    with context.store.reading() as connection:
        job = find_job(connection, owner.project_id, job_id)
    if job.kind is JobKind.STUDY:
        message = f"Job {job.id} is a study: it goes on by the same `fettle study` command."
        raise invalid(message, "fine_tuning_job_id", "invalid_status")
    return _changed(context, owner, job_id, resume_job, "resumed")


def _changed(
    context: Context, owner: Owner, job_id: str, change: Callable[[Connection, Job], bool], what: str
) -> JobBody:
    """A job after a change of its status, which only some statuses allow."""
    with context.store.writing() as connection:
        job = find_job(connection, owner.project_id, job_id)
        if not change(connection, job):
            raise _wrong_status(job, what)
        return _body(find_job(connection, owner.project_id, job_id), context)


@router.get("/{job_id}/events")
def events(
    job_id: str,
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> EventList:
    """What a job has said, the newest first."""
    with context.store.reading() as connection:
        job = find_job(connection, owner.project_id, job_id)
        found = list_events(connection, job.id, PageRequest(limit=limit, after=after))
    return EventList(data=[_event(event) for event in found.items], has_more=found.has_more)


@router.get("/{job_id}/checkpoints")
def checkpoints(
    job_id: str,
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> CheckpointList:
    """A job's models at the end of its last epochs, the newest first."""
    with context.store.reading() as connection:
        job = find_job(connection, owner.project_id, job_id)
        found = list_checkpoints(connection, job.id, PageRequest(limit=limit, after=after))
    data = [_checkpoint(checkpoint) for checkpoint in found.items]
    ids = [checkpoint.id for checkpoint in data]
    return CheckpointList(
        data=data, first_id=next(iter(ids), None), last_id=next(reversed(ids), None), has_more=found.has_more
    )


def _wrong_status(job: Job, what: str) -> ApiError:
    return invalid(
        f"Job {job.id} is {job.status.value}, so it cannot be {what}.", "fine_tuning_job_id", "invalid_status"
    )


def _metadata_filter(request: Request) -> tuple[dict[str, str], bool]:
    """`metadata[key]=value` pairs of the query, and whether jobs without metadata are asked for."""
    pairs = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            key = name.removeprefix("metadata[").removesuffix("]")
            if "\0" in key + value or not key:
                raise invalid("a metadata filter is `metadata[KEY]=VALUE`", "metadata")
            pairs[key] = value
    without = request.query_params.get("metadata")
    if without not in (None, "null"):
        raise invalid("`metadata` is 'null', or spelled `metadata[KEY]=VALUE`.", "metadata")
    return pairs, without == "null"


def _body(job: Job, context: Context) -> JobBody:
    request = FineTuningRequest.from_json(job.request)
    is_known = job.used is not None and job.started_at is not None  # until it runs they read as they were asked for
    hyperparameters = dict(job.used or {}) if is_known else request.hyperparameters.as_wire
    return JobBody(
        id=job.id,
        model=job.model,
        created_at=job.created_at,
        finished_at=job.finished_at,
        fine_tuned_model=job.tuned_model,
        organization_id=context.settings.organization_id,
        status=job.status,
        training_file=job.training_file or "",
        validation_file=job.validation_file,
        result_files=list(job.results_files),
        trained_tokens=job.num_trained_tokens,
        error=None
        if job.error is None
        else JobErrorBody(code=job.error.code, message=job.error.message, param=job.error.param),
        hyperparameters=hyperparameters,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        seed=request.seed,
        estimated_finish=job.estimated_finish,
        integrations=[],
        metadata=None if job.metadata is None else dict(job.metadata),
        user_provided_suffix=request.suffix,
    )


def _event(event: StoredEvent) -> EventBody:
    return EventBody(
        id=event.id,
        created_at=event.created_at,
        level=event.level.value,
        type=event.type,
        message=event.message,
        data=dict(event.data),
    )


def _checkpoint(checkpoint: JobCheckpoint) -> CheckpointBody:
    return CheckpointBody(
        id=checkpoint.id,
        created_at=checkpoint.created_at,
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=checkpoint.job_id,
        step_number=checkpoint.step,
        metrics=dict(checkpoint.metrics),
    )
