"""Evals, and the items of their runs. A run itself is a job (`fettle.store.jobs`).

An item goes through three states: its row was read, a sample of the model is there, it was graded. Each is written once, so that a
run that goes on after a kill does nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from fettle.errors import FettleError
from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.jobs import Job, NoSuchJobError, find_job
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.tables import eval_items, evals, job_events, job_metadata, jobs

_ROWS_AT_ONCE = 1000


class NoSuchEvalError(FettleError):
    """There is no such eval, run or item, or it is another project's."""


class ItemStatus(StrEnum):
    """What became of an item."""

    PASS = "pass"
    """All criteria are met."""
    FAIL = "fail"
    ERROR = "error"
    """There is no sample, or a criterion could not be applied: it is not known whether it passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEval:
    """What is measured, on what."""

    id: str
    project_id: str
    name: str
    created_at: int
    metadata: Mapping[str, str] | None
    data_source: Mapping[str, Any]
    """`data_source_config` as it was given."""
    criteria: Sequence[Mapping[str, Any]]
    """`testing_criteria` as they were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """A row of a run's data."""

    position: int
    """From 0."""
    item: Mapping[str, Any]
    sample: Mapping[str, Any] | None
    """Where the data has it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalItem:
    """A row of a run with what has become of it so far."""

    id: str
    run_id: str
    position: int
    item: Mapping[str, Any]
    sample: Mapping[str, Any] | None
    results: Sequence[Mapping[str, Any]] | None
    """One for each criterion."""
    status: ItemStatus | None
    created_at: int


# ---------------------------------------------------------------------------------------------------- evals


def add_eval(connection: Connection, made: StoredEval) -> None:
    """Have a new eval."""
    connection.execute(
        insert(evals).values(
            id=made.id,
            project_id=made.project_id,
            name=made.name,
            created_at=made.created_at,
            metadata=None if made.metadata is None else dict(made.metadata),
            data_source=dict(made.data_source),
            criteria=[dict(criterion) for criterion in made.criteria],
        )
    )


def find_eval(connection: Connection, project_id: str, eval_id: str) -> StoredEval:
    """A project's eval.

    Raises:
        NoSuchEvalError: There is none of this id.
    """
    row = connection.execute(select(evals).where(evals.c.project_id == project_id, evals.c.id == eval_id)).first()
    if row is None:
        raise NoSuchEvalError(f"No eval found with id '{eval_id}'")
    return _eval(row)


def list_evals(connection: Connection, project_id: str, request: PageRequest) -> Page[StoredEval]:
    """A page of a project's evals."""
    return read_page(connection, evals, [evals.c.project_id == project_id], request, _eval)


def change_eval(connection: Connection, eval_id: str, **values: object) -> None:
    """Change columns of an eval."""
    connection.execute(update(evals).where(evals.c.id == eval_id).values(**values))


def remove_eval(connection: Connection, eval_id: str) -> None:
    """Delete an eval with all its runs."""
    for run_id in connection.execute(select(jobs.c.id).where(jobs.c.eval_id == eval_id)).scalars().all():
        remove_run(connection, run_id)
    connection.execute(delete(evals).where(evals.c.id == eval_id))


# ---------------------------------------------------------------------------------------------------- runs


def find_run(connection: Connection, project_id: str, eval_id: str, run_id: str) -> Job:
    """A run of a project's eval.

    Raises:
        NoSuchEvalError: There is none of this id.
    """
    try:
        return find_job(connection, project_id, run_id, eval_id=eval_id)
    except NoSuchJobError as error:
        raise NoSuchEvalError(f"No run found with id '{run_id}' in the eval '{eval_id}'") from error


def remove_run(connection: Connection, run_id: str) -> None:
    """Delete a run with its items. A worker that is at it loses its claim."""
    connection.execute(delete(eval_items).where(eval_items.c.run_id == run_id))
    connection.execute(delete(job_events).where(job_events.c.job_id == run_id))
    connection.execute(delete(job_metadata).where(job_metadata.c.job_id == run_id))
    connection.execute(delete(jobs).where(jobs.c.id == run_id))


# ---------------------------------------------------------------------------------------------------- items


def add_items(connection: Connection, run_id: str, rows: Sequence[NewItem]) -> None:
    """Have the rows of a run's data."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        values = [
            {
                "id": new_id("outputitem_"),
                "run_id": run_id,
                "position": row.position,
                "item": dict(row.item),
                "sample": None if row.sample is None else dict(row.sample),
                "created_at": now(),
            }
            for row in rows[start : start + _ROWS_AT_ONCE]
        ]
        connection.execute(insert(eval_items), values)


def next_items(connection: Connection, run_id: str, limit: int) -> tuple[EvalItem, ...]:
    """The first items that were not graded yet, in the order of the data."""
    where = (eval_items.c.run_id == run_id, eval_items.c.status.is_(None))
    rows = connection.execute(select(eval_items).where(*where).order_by(eval_items.c.number).limit(limit))
    return tuple(map(_item, rows))


def next_unsampled_items(connection: Connection, run_id: str, limit: int) -> tuple[EvalItem, ...]:
    """The first items of which there is no sample yet, in the order of the data."""
    where = (eval_items.c.run_id == run_id, eval_items.c.sample.is_(None))
    rows = connection.execute(select(eval_items).where(*where).order_by(eval_items.c.number).limit(limit))
    return tuple(map(_item, rows))


def set_sample(connection: Connection, item_id: str, sample: Mapping[str, Any]) -> None:
    """Keep what the model said."""
    connection.execute(update(eval_items).where(eval_items.c.id == item_id).values(sample=dict(sample)))


def set_results(connection: Connection, item_id: str, status: ItemStatus, results: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was made of an item."""
    values = {"status": status.value, "results": [dict(result) for result in results]}
    connection.execute(update(eval_items).where(eval_items.c.id == item_id).values(**values))


def list_items(
    connection: Connection, run_id: str, request: PageRequest, status: ItemStatus | None = None
) -> Page[EvalItem]:
    """A page of a run's graded items."""
    wanted = eval_items.c.status.is_not(None) if status is None else eval_items.c.status == status.value
    return read_page(connection, eval_items, [eval_items.c.run_id == run_id, wanted], request, _item)


def find_item(connection: Connection, run_id: str, item_id: str) -> EvalItem:
    """A graded item of a run.

    Raises:
        NoSuchEvalError: There is none of this id.
    """
    where = (eval_items.c.run_id == run_id, eval_items.c.id == item_id, eval_items.c.status.is_not(None))
    row = connection.execute(select(eval_items).where(*where)).first()
    if row is None:
        raise NoSuchEvalError(f"No output item found with id '{item_id}' in the run '{run_id}'")
    return _item(row)


def _eval(row: Row[Any]) -> StoredEval:
    values = dict(row._mapping)
    del values["number"]
    return StoredEval(**values)


def _item(row: Row[Any]) -> EvalItem:
    values = dict(row._mapping)
    del values["number"]
    values["status"] = None if row.status is None else ItemStatus(row.status)
    return EvalItem(**values)
