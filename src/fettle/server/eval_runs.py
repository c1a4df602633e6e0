"""Runs of evals: created, watched, cancelled; and what became of each row. Workers do them (`fettle.jobs.eval_run`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from fettle.jobs.control import cancel_job
from fettle.jobs.eval_criteria import read_criteria
from fettle.jobs.eval_progress import RunProgress
from fettle.jobs.eval_rows import checked_rows, rows_of_content
from fettle.jobs.eval_source import RunSource, read_run_source
from fettle.jobs.item_schema import read_item_schema
from fettle.scoring.openai_graders.wire import require_plain_json
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import invalid
from fettle.server.evals import Limit, Order
from fettle.server.wire import After, Metadata, RequestBody, Text, ends
from fettle.store.database import now
from fettle.store.evals import (
    EvalItem,
    ItemStatus,
    StoredEval,
    find_eval,
    find_item,
    find_run,
    list_items,
    remove_run,
)
from fettle.store.files import NoSuchFileError, find_file
from fettle.store.ids import new_id
from fettle.store.jobs import Job, JobKind, JobStatus, add_job, list_jobs
from fettle.store.keys import Owner
from fettle.store.models import find_model
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/evals/{eval_id}/runs", tags=["evals"])

RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
_STATUSES: dict[JobStatus, RunStatus] = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.CANCELLED: "canceled",
    JobStatus.FAILED: "failed",
}
_JOB_STATUSES = {shown: status for status, shown in _STATUSES.items()}


class CreateRun(RequestBody):
    """The body of `POST /evals/{eval_id}/runs`."""

    name: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
    metadata: Metadata | None = None
    data_source: dict[str, Any]


class ErrorOfRun(BaseModel):
    """Why a run has failed."""

    code: str
    message: str


class ResultCounts(BaseModel):
    """How many rows have which outcome."""

    total: int
    errored: int
    failed: int
    passed: int


class UsageOfModel(BaseModel):
    """What was asked of a model, by the run and by its criteria."""

    model_name: str
    invocation_count: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class ResultsOfCriterion(BaseModel):
    """How often a criterion was met."""

    testing_criteria: str
    passed: int
    failed: int


class RunBody(BaseModel):
    """A run, as OpenAI's API shows it."""

    id: str
    object: Literal["eval.run"] = "eval.run"
    eval_id: str
    status: RunStatus
    model: str
    name: str
    created_at: int
    report_url: str
    """Where the run can be seen: this same answer, for there are no pages yet."""
    result_counts: ResultCounts
    per_model_usage: list[UsageOfModel]
    per_testing_criteria_results: list[ResultsOfCriterion]
    data_source: dict[str, Any]
    metadata: dict[str, str] | None
    error: ErrorOfRun | None


class RunList(BaseModel):
    """A page of runs."""

    object: Literal["list"] = "list"
    data: list[RunBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedRun(BaseModel):
    """A run is gone, with its items."""

    object: Literal["eval.run.deleted"] = "eval.run.deleted"
    deleted: Literal[True] = True
    run_id: str


class ResultOfItem(BaseModel):
    """What a criterion makes of a row. `error` says why it could not be applied."""

    name: str
    type: str
    score: float
    passed: bool
    sample: None = None
    error: str | None


class OutputItemBody(BaseModel):
    """What became of a row."""

    id: str
    object: Literal["eval.run.output_item"] = "eval.run.output_item"
    created_at: int
    run_id: str
    eval_id: str
    status: ItemStatus
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[ResultOfItem]
    sample: dict[str, Any]


class OutputItemList(BaseModel):
    """A page of rows."""

    object: Literal["list"] = "list"
    data: list[OutputItemBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


@router.post("", status_code=201)
def create(eval_id: str, body: CreateRun, request: Request, context: ContextOf, owner: OwnerOf) -> RunBody:
    """Ask for an eval to be run on some rows."""
    require_plain_json(body.data_source, "data_source")
    source = read_run_source(body.data_source)
    with context.store.writing() as connection:
        definition = find_eval(connection, owner.project_id, eval_id)
        model = _require_doable(connection, owner, definition, source)
        run_id = new_id("evalrun_")
        run = Job(
            id=run_id,
            project_id=owner.project_id,
            kind=JobKind.EVAL_RUN,
            status=JobStatus.QUEUED,
            created_at=now(),
            request={"name": body.name or run_id, "data_source": body.data_source},
            model=model,
            metadata=body.metadata,
            eval_id=definition.id,
        )
        add_job(connection, run)
    return _body(run, definition, request)


@router.get("")
def index(
    eval_id: str,
    request: Request,
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: RunStatus | None = None,
) -> RunList:
    """The runs of an eval."""
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    wanted = None if status is None else _JOB_STATUSES[status]
    with context.store.reading() as connection:
        definition = find_eval(connection, owner.project_id, eval_id)
        found = list_jobs(connection, owner.project_id, page, eval_id=definition.id, status=wanted)
    data = [_body(run, definition, request) for run in found.items]
    first_id, last_id = ends([run.id for run in data])
    return RunList(data=data, first_id=first_id, last_id=last_id, has_more=found.has_more)


@router.get("/{run_id}")
def show(eval_id: str, run_id: str, request: Request, context: ContextOf, owner: OwnerOf) -> RunBody:
    """One run."""
    with context.store.reading() as connection:
        definition = find_eval(connection, owner.project_id, eval_id)
        return _body(find_run(connection, owner.project_id, eval_id, run_id), definition, request)


@router.post("/{run_id}")
@router.post("/{run_id}/cancel")  # as the official Python client spells it
def cancel(eval_id: str, run_id: str, request: Request, context: ContextOf, owner: OwnerOf) -> RunBody:
    """Stop a run for good."""
    with context.store.writing() as connection:
        definition = find_eval(connection, owner.project_id, eval_id)
        run = find_run(connection, owner.project_id, eval_id, run_id)
        if not cancel_job(connection, run):
            message = f"Run {run.id} is {_STATUSES[run.status]}, so it cannot be canceled."
            raise invalid(message, "run_id", "invalid_status")
        return _body(find_run(connection, owner.project_id, eval_id, run_id), definition, request)


@router.delete("/{run_id}")
def delete(eval_id: str, run_id: str, context: ContextOf, owner: OwnerOf) -> DeletedRun:
    """Delete a run; one that is being done stops."""
    with context.store.writing() as connection:
        run = find_run(connection, owner.project_id, eval_id, run_id)
        remove_run(connection, run.id)
    return DeletedRun(run_id=run.id)


@router.get("/{run_id}/output_items")
def items(
    eval_id: str,
    run_id: str,
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    status: ItemStatus | None = None,
) -> OutputItemList:
    """The rows of a run that are done."""
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        run = find_run(connection, owner.project_id, eval_id, run_id)
        found = list_items(connection, run.id, page, status)
    data = [_item(item, eval_id) for item in found.items]
    first_id, last_id = ends([item.id for item in data])
    return OutputItemList(data=data, first_id=first_id, last_id=last_id, has_more=found.has_more)


@router.get("/{run_id}/output_items/{item_id}")
def item(eval_id: str, run_id: str, item_id: str, context: ContextOf, owner: OwnerOf) -> OutputItemBody:
    """One row of a run."""
    with context.store.reading() as connection:
        run = find_run(connection, owner.project_id, eval_id, run_id)
        return _item(find_item(connection, run.id, item_id), eval_id)


def _require_doable(connection: Connection, owner: Owner, definition: StoredEval, source: RunSource) -> str:
    """See what can be seen now: the model, the file, rows of the request. The model's id; empty where none is asked."""
    if source.file_id is not None:
        try:
            find_file(connection, owner.project_id, source.file_id)
        except NoSuchFileError as error:
            raise invalid(error.problem, "data_source.source.id") from error
    else:
        checked_rows(
            rows_of_content(source.content),
            read_item_schema(definition.data_source["item_schema"], "item_schema"),
            is_sampled=source.completion is not None,
            needs_sample=any(criterion.reads_sample for criterion in read_criteria(definition.criteria)),
        )
    return "" if source.completion is None else find_model(connection, owner.project_id, source.completion.model).id


def _body(run: Job, definition: StoredEval, request: Request) -> RunBody:
    progress = _progress(run, definition)
    return RunBody(
        id=run.id,
        eval_id=definition.id,
        status=_STATUSES[run.status],
        model=run.model,
        name=run.request["name"],
        created_at=run.created_at,
        report_url=str(request.base_url.replace(path=f"/v1/evals/{definition.id}/runs/{run.id}")),
        result_counts=ResultCounts(
            total=progress.num_items,
            errored=progress.num_errored,
            failed=progress.num_failed,
            passed=progress.num_passed,
        ),
        per_model_usage=[
            UsageOfModel(
                model_name=name,
                invocation_count=used.num_requests,
                prompt_tokens=used.tokens.prompt_tokens,
                completion_tokens=used.tokens.completion_tokens,
                total_tokens=used.tokens.total_tokens,
                cached_tokens=0,
            )
            for name, used in progress.usage.items()
        ],
        per_testing_criteria_results=[
            ResultsOfCriterion(testing_criteria=counts.name, passed=counts.passed, failed=counts.failed)
            for counts in progress.criteria
        ],
        data_source=_shown_source(run.request["data_source"]),
        metadata=None if run.metadata is None else dict(run.metadata),
        error=None if run.error is None else ErrorOfRun(code=run.error.code, message=run.error.message),
    )


def _progress(run: Job, definition: StoredEval) -> RunProgress:
    if run.used is not None:
        return RunProgress.from_json(run.used)
    return RunProgress.of_nothing([str(criterion["name"]) for criterion in definition.criteria])


def _shown_source(source: Mapping[str, Any]) -> dict[str, Any]:
    """As it was sent, fields without a value left out."""
    return {name: value for name, value in source.items() if value is not None}


def _item(done: EvalItem, eval_id: str) -> OutputItemBody:
    assert done.status is not None, "it was graded"
    return OutputItemBody(
        id=done.id,
        created_at=done.created_at,
        run_id=done.run_id,
        eval_id=eval_id,
        status=done.status,
        datasource_item_id=done.position,
        datasource_item=dict(done.item),
        results=[ResultOfItem(**result) for result in done.results or ()],
        sample=dict(done.sample or {}),
    )
