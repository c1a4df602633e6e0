"""Evals: what is measured, on what; their runs are a resource of their own (`eval_runs.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, StrictBool

from fettle.jobs.eval_criteria import read_criteria
from fettle.jobs.item_schema import read_item_schema
from fettle.scoring.openai_graders.registry import require_services
from fettle.scoring.openai_graders.wire import require_plain_json
from fettle.server.context import ContextOf, OwnerOf
from fettle.server.errors import invalid
from fettle.server.wire import After, Metadata, RequestBody, Text, ends
from fettle.store.database import now
from fettle.store.evals import StoredEval, add_eval, change_eval, find_eval, list_evals, remove_eval
from fettle.store.ids import new_id
from fettle.store.pages import PageRequest

router = APIRouter(prefix="/evals", tags=["evals"])

Order = Annotated[Literal["asc", "desc"], Query(description="By creation.")]
Limit = Annotated[int, Query(ge=1, le=100)]
_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {"output_text": {"type": "string"}, "output_tools": {"type": "array"}},
    "required": ["output_text"],
}


class DataSourceConfig(RequestBody):
    """Where rows come from, and what they look like."""

    type: Text
    item_schema: dict[str, Any] | None = None
    include_sample_schema: StrictBool = False
    metadata: Metadata | None = None

    def checked(self) -> dict[str, Any]:
        """What is kept.

        Raises:
            ApiError: It is another kind than `custom`, or there is no schema.
            InvalidGraderError: The schema is none.
        """
        if self.type != "custom":
            message = f"The data source '{self.type}' is not supported by this server; 'custom' is."
            raise invalid(message, "data_source_config.type", "unsupported_value")
        if self.item_schema is None:
            message = "Missing required parameter: 'data_source_config.item_schema'."
            raise invalid(message, "data_source_config.item_schema", "missing_required_parameter")
        require_plain_json(self.item_schema, "data_source_config.item_schema")
        read_item_schema(self.item_schema, "data_source_config.item_schema")
        return self.model_dump(exclude={"metadata"})


class CreateEval(RequestBody):
    """The body of `POST /evals`."""

    name: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
    data_source_config: DataSourceConfig
    testing_criteria: list[dict[str, Any]]
    metadata: Metadata | None = None


class ChangeEval(RequestBody):
    """The body of `POST /evals/{eval_id}`. What is not there stays."""

    name: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
    metadata: Metadata | None = None


class EvalBody(BaseModel):
    """An eval, as OpenAI's API shows it."""

    id: str
    object: Literal["eval"] = "eval"
    name: str
    created_at: int
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str] | None


class EvalList(BaseModel):
    """A page of evals."""

    object: Literal["list"] = "list"
    data: list[EvalBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedEval(BaseModel):
    """An eval is gone, with its runs."""

    object: Literal["eval.deleted"] = "eval.deleted"
    deleted: Literal[True] = True
    eval_id: str


@router.post("", status_code=201)
def create(body: CreateEval, context: ContextOf, owner: OwnerOf) -> EvalBody:
    """Say what is to be measured."""
    config = body.data_source_config.checked()
    criteria = read_criteria(body.testing_criteria)
    services = context.grading_services(owner)
    for number, criterion in enumerate(criteria):
        require_services(criterion.grader, services, f"testing_criteria[{number}]")
    eval_id = new_id("eval_")
    named = [
        {"name": criterion.grader.name} | given
        for criterion, given in zip(criteria, body.testing_criteria, strict=True)
    ]
    made = StoredEval(
        id=eval_id,
        project_id=owner.project_id,
        name=body.name or eval_id,
        created_at=now(),
        metadata=body.metadata,
        data_source=config,
        criteria=named,
    )
    with context.store.writing() as connection:
        add_eval(connection, made)
    return _body(made)


@router.get("")
def index(
    context: ContextOf,
    owner: OwnerOf,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
    order_by: Literal["created_at"] = "created_at",  # noqa: ARG001 (there is no other order; another one is refused)
) -> EvalList:
    """A project's evals."""
    page = PageRequest(limit=limit, after=after, newest_first=order == "desc")
    with context.store.reading() as connection:
        found = list_evals(connection, owner.project_id, page)
    data = [_body(one) for one in found.items]
    first_id, last_id = ends([one.id for one in data])
    return EvalList(data=data, first_id=first_id, last_id=last_id, has_more=found.has_more)


@router.get("/{eval_id}")
def show(eval_id: str, context: ContextOf, owner: OwnerOf) -> EvalBody:
    """One eval."""
    with context.store.reading() as connection:
        return _body(find_eval(connection, owner.project_id, eval_id))


@router.post("/{eval_id}")
def change(eval_id: str, body: ChangeEval, context: ContextOf, owner: OwnerOf) -> EvalBody:
    """Give an eval another name or other metadata."""
    values: Mapping[str, Any] = body.model_dump(exclude_none=True)
    with context.store.writing() as connection:
        found = find_eval(connection, owner.project_id, eval_id)
        if values:
            change_eval(connection, found.id, **values)
        return _body(find_eval(connection, owner.project_id, eval_id))


@router.delete("/{eval_id}")
def delete(eval_id: str, context: ContextOf, owner: OwnerOf) -> DeletedEval:
    """Delete an eval and its runs; a run that is being done stops."""
    with context.store.writing() as connection:
        found = find_eval(connection, owner.project_id, eval_id)
        remove_eval(connection, found.id)
    return DeletedEval(eval_id=found.id)


def _body(made: StoredEval) -> EvalBody:
    return EvalBody(
        id=made.id,
        name=made.name,
        created_at=made.created_at,
        data_source_config={"type": "custom", "schema": _row_schema(made.data_source)},
        testing_criteria=[dict(criterion) for criterion in made.criteria],
        metadata=None if made.metadata is None else dict(made.metadata),
    )


def _row_schema(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a whole row looks like."""
    properties = {"item": config["item_schema"]}
    if config["include_sample_schema"]:
        properties["sample"] = _SAMPLE_SCHEMA
    return {"type": "object", "properties": properties, "required": list(properties)}
