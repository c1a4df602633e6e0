"""What jobs say of themselves: events and checkpoints. Each has a key: a job that goes on after a kill says nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.tables import job_checkpoints, job_events


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that a job tells."""

    key: str
    """Which event of the job it is: the same key is written once."""
    message: str
    level: Level = Level.INFO
    data: Mapping[str, Any] | None = None
    """Of a step: its metrics; None: the event is a message alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as it is listed."""

    id: str
    created_at: int
    level: Level
    type: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCheckpoint:
    """A model as it was at the end of an epoch."""

    job_id: str
    step: int
    model: str
    """Its name."""
    metrics: Mapping[str, float]
    id: str = field(default_factory=lambda: new_id("ftckpt_"))
    created_at: int = field(default_factory=now)


def add_events(connection: Connection, job_id: str, *events: JobEvent) -> int:
    """Write those events that were not written before; how many those were. To be called by one worker at a time."""
    wanted = select(job_events.c.key).where(
        job_events.c.job_id == job_id, job_events.c.key.in_([event.key for event in events])
    )
    known = set(connection.execute(wanted).scalars())
    rows = [
        {
            "id": new_id("ftevent-"),
            "job_id": job_id,
            "key": event.key,
            "created_at": now(),
            "level": event.level.value,
            "type": "message" if event.data is None else "metrics",
            "message": event.message,
            "data": dict(event.data or {}),
        }
        for event in events
        if event.key not in known
    ]
    if rows:
        connection.execute(insert(job_events), rows)
    return len(rows)


def was_told(connection: Connection, job_id: str, key: str) -> bool:
    """Whether an event was written."""
    where = (job_events.c.job_id == job_id, job_events.c.key == key)
    return connection.execute(select(job_events.c.id).where(*where)).first() is not None


def list_events(connection: Connection, job_id: str, request: PageRequest) -> Page[StoredEvent]:
    """A page of a job's events."""
    return read_page(connection, job_events, [job_events.c.job_id == job_id], request, _event)


def add_checkpoint(connection: Connection, checkpoint: JobCheckpoint) -> bool:
    """Have a checkpoint; False: there is one of that step already."""
    same = (job_checkpoints.c.job_id == checkpoint.job_id, job_checkpoints.c.step == checkpoint.step)
    if connection.execute(select(job_checkpoints.c.id).where(*same)).first():
        return False
    connection.execute(
        insert(job_checkpoints).values(
            id=checkpoint.id,
            job_id=checkpoint.job_id,
            step=checkpoint.step,
            model=checkpoint.model,
            created_at=checkpoint.created_at,
            metrics=dict(checkpoint.metrics),
        )
    )
    return True


def list_checkpoints(connection: Connection, job_id: str, request: PageRequest) -> Page[JobCheckpoint]:
    """A page of a job's checkpoints."""
    return read_page(connection, job_checkpoints, [job_checkpoints.c.job_id == job_id], request, _checkpoint)


def all_checkpoints(connection: Connection, job_id: str) -> tuple[JobCheckpoint, ...]:
    """A job's checkpoints, the oldest first."""
    wanted = select(job_checkpoints).where(job_checkpoints.c.job_id == job_id).order_by(job_checkpoints.c.number)
    return tuple(map(_checkpoint, connection.execute(wanted)))


def remove_checkpoint(connection: Connection, checkpoint: JobCheckpoint) -> None:
    """List a checkpoint no longer."""
    connection.execute(delete(job_checkpoints).where(job_checkpoints.c.id == checkpoint.id))


def _event(row: Row[Any]) -> StoredEvent:
    return StoredEvent(
        id=row.id,
        created_at=row.created_at,
        level=Level(row.level),
        type=row.type,
        message=row.message,
        data=row.data,
    )


def _checkpoint(row: Row[Any]) -> JobCheckpoint:
    return JobCheckpoint(
        id=row.id,
        job_id=row.job_id,
        step=row.step,
        model=row.model,
        created_at=row.created_at,
        metrics=row.metrics,
    )
