"""Jobs: what is asked for, how far it is, and who works on it.

A job is worked on under a lease: a worker claims it for some seconds and renews the claim while it works. A worker that dies
renews nothing, and after these seconds another one may claim the job. Each claim has a token, higher than all before; what is
written in the name of an older one is refused. A status only goes forward, and who changes it says from which one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, exists, func, insert, or_, select, update

from fettle.errors import FettleError
from fettle.store.database import epoch_now
from fettle.store.pages import Page, PageRequest, read_page
from fettle.store.tables import job_metadata, jobs


class JobStatus(StrEnum):
    """How far a job is; the words are those of OpenAI's API."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing will change any more."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class JobKind(StrEnum):
    """What a job does."""

    FINE_TUNING = "fine_tuning"
    STUDY = "study"
    EVAL_RUN = "eval_run"


class NoSuchJobError(FettleError):
    """There is no job of this id, or it is another project's."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Could not find fine tune: {job_id}")


class LeaseLostError(FettleError):
    """Another worker has claimed the job, or it is over: what this one does is not wanted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job has failed."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands."""

    id: str
    project_id: str
    kind: JobKind
    status: JobStatus
    created_at: int
    request: Mapping[str, Any]
    """What was asked for, checked; who runs the kind of job knows its form."""
    model: str
    started_at: int | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    metadata: Mapping[str, str] | None = None
    used: Mapping[str, Any] | None = None
    """Hyperparameters that were really used; None until it runs."""
    training_file: str | None = None
    validation_file: str | None = None
    tuned_model: str | None = None
    num_trained_tokens: int | None = None
    results_files: tuple[str, ...] = ()
    error: JobError | None = None
    num_crashes: int = 0
    """How often its process has died since it last came further; while its files are read: how often a worker was gone before it
    had read them."""
    eval_id: str | None = None
    """What a run belongs to; None: it is no run of an eval."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim to a job."""

    job_id: str
    token: int


def add_job(connection: Connection, job: Job) -> None:
    """Have a new job."""
    connection.execute(
        insert(jobs).values(
            id=job.id,
            project_id=job.project_id,
            kind=job.kind.value,
            status=job.status.value,
            created_at=job.created_at,
            request=dict(job.request),
            metadata=None if job.metadata is None else dict(job.metadata),
            used=None if job.used is None else dict(job.used),
            model=job.model,
            training_file=job.training_file,
            validation_file=job.validation_file,
            lease_token=0,
            num_crashes=0,
            eval_id=job.eval_id,
        )
    )
    if job.metadata:
        pairs = [{"job_id": job.id, "key": key, "value": value} for key, value in job.metadata.items()]
        connection.execute(insert(job_metadata), pairs)


def find_job(connection: Connection, project_id: str, job_id: str, *, eval_id: str | None = None) -> Job:
    """A project's job; with an eval's id a run of it.

    Raises:
        NoSuchJobError: There is none of this id.
    """
    where = (jobs.c.project_id == project_id, jobs.c.id == job_id, _of_eval(eval_id))
    row = connection.execute(select(jobs).where(*where)).first()
    if row is None:
        raise NoSuchJobError(job_id)
    return _record(row)


def read_job(connection: Connection, job_id: str) -> Job:
    """A job, whosever it is.

    Raises:
        NoSuchJobError: There is none of this id.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NoSuchJobError(job_id)
    return _record(row)


def count_jobs(connection: Connection) -> dict[JobStatus, int]:
    """How many jobs there are of each status that any has."""
    rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
    return {JobStatus(status): count for status, count in rows}


def list_jobs(
    connection: Connection,
    project_id: str,
    request: PageRequest,
    *,
    metadata: Mapping[str, str] | None = None,
    without_metadata: bool = False,
    eval_id: str | None = None,
    status: JobStatus | None = None,
) -> Page[Job]:
    """A page of a project's jobs.

    Args:
        connection: To the database.
        project_id: Whose jobs.
        request: Which page.
        metadata: Pairs that a job must all have.
        without_metadata: Only jobs that have none at all.
        eval_id: Runs of this eval; None: what is no run of an eval.
        status: Only jobs that are so far; None: all.
    """
    where: list[ColumnElement[bool]] = [jobs.c.project_id == project_id, _of_eval(eval_id)]
    where += [_has_pair(key, value) for key, value in (metadata or {}).items()]
    if without_metadata:
        where.append(jobs.c.metadata.is_(None))
    if status is not None:
        where.append(jobs.c.status == status.value)
    return read_page(connection, jobs, where, request, _record)


def newest_jobs(connection: Connection, limit: int) -> tuple[Job, ...]:
    """The newest jobs of all projects."""
    return tuple(map(_record, connection.execute(select(jobs).order_by(jobs.c.number.desc()).limit(limit))))


def change_status(
    connection: Connection, job_id: str, *, from_: Collection[JobStatus], to: JobStatus, **values: object
) -> bool:
    """Let a job go on to another status, with other columns that change with it; False: it was in none of `from_`."""
    found = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status.in_([status.value for status in from_]))
        .values(status=to.value, **values)
    )
    return bool(found.rowcount)


def claim(
    connection: Connection,
    *,
    statuses: Collection[JobStatus],
    owner: str,
    seconds: float,
    kind: JobKind = JobKind.FINE_TUNING,
) -> Lease | None:
    """Claim the oldest job of a kind and of some statuses that nobody works on; None: there is none, or another one was faster."""
    is_wanted = and_(jobs.c.kind == kind.value, jobs.c.status.in_([status.value for status in statuses]), _is_free())
    wanted = select(jobs.c.id, jobs.c.lease_token).where(is_wanted).order_by(jobs.c.number)
    row = connection.execute(wanted.limit(1)).first()
    if row is None:
        return None
    # Once more, for its worker may have renewed the claim since, and its user may have cancelled it.
    return _taken(connection, Lease(row.id, row.lease_token), is_wanted, owner=owner, seconds=seconds)


def claim_this(connection: Connection, job_id: str, *, owner: str, seconds: float) -> Lease | None:
    """Claim a job from whoever holds it, for who knows otherwise that he is dead; None: somebody was faster."""
    token = connection.execute(select(jobs.c.lease_token).where(jobs.c.id == job_id)).scalar_one()
    return _taken(connection, Lease(job_id, token), owner=owner, seconds=seconds)


def _taken(
    connection: Connection, last: Lease, *conditions: ColumnElement[bool], owner: str, seconds: float
) -> Lease | None:
    """A new claim after the last one; None: another one came between, or a condition holds no longer."""
    ran_out = and_(jobs.c.status == JobStatus.VALIDATING_FILES.value, jobs.c.lease_expires_at.is_not(None))
    values = {
        "lease_owner": owner,
        "lease_token": last.token + 1,
        "lease_expires_at": epoch_now() + seconds,
        "num_crashes": jobs.c.num_crashes + case((ran_out, 1), else_=0),
    }
    if not connection.execute(update(jobs).where(_held(last), *conditions).values(**values)).rowcount:
        return None
    return Lease(last.job_id, last.token + 1)


def renew(connection: Connection, lease: Lease, *, seconds: float) -> JobStatus:
    """Keep a claim for some seconds more; the job's status, by which a worker learns that it was paused or cancelled.

    Raises:
        LeaseLostError: Another worker has it.
    """
    found = connection.execute(update(jobs).where(_held(lease)).values(lease_expires_at=epoch_now() + seconds))
    if not found.rowcount:
        raise _lost(lease)
    return JobStatus(connection.execute(select(jobs.c.status).where(jobs.c.id == lease.job_id)).scalar_one())


def require_held(connection: Connection, lease: Lease, status: JobStatus) -> None:
    """See that a claim holds and that the job still is where its worker thinks, until the end of the transaction.

    Raises:
        LeaseLostError: It is not so.
    """
    held = update(jobs).where(_held(lease), jobs.c.status == status.value).values(lease_token=lease.token)
    if not connection.execute(held).rowcount:
        raise _lost(lease)


def release(connection: Connection, lease: Lease) -> None:
    """Let others claim the job at once; nothing happens where the claim is lost already."""
    connection.execute(update(jobs).where(_held(lease)).values(lease_expires_at=None, lease_owner=None))


def set_values(connection: Connection, lease: Lease, **values: object) -> None:
    """Change columns of a job in the name of a claim.

    Raises:
        LeaseLostError: Another worker has it.
    """
    if not connection.execute(update(jobs).where(_held(lease)).values(**values)).rowcount:
        raise _lost(lease)


def _is_free() -> ColumnElement[bool]:
    return or_(jobs.c.lease_expires_at.is_(None), jobs.c.lease_expires_at < epoch_now())


def _of_eval(eval_id: str | None) -> ColumnElement[bool]:
    return jobs.c.eval_id.is_(None) if eval_id is None else jobs.c.eval_id == eval_id


def _has_pair(key: str, value: str) -> ColumnElement[bool]:
    pair = (job_metadata.c.job_id == jobs.c.id, job_metadata.c.key == key, job_metadata.c.value == value)
    return exists().where(*pair)


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(jobs.c.id == lease.job_id, jobs.c.lease_token == lease.token)


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"the claim to job {lease.job_id} is lost", remedy="nothing: another worker goes on with it")


def _record(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        project_id=row.project_id,
        kind=JobKind(row.kind),
        status=JobStatus(row.status),
        created_at=row.created_at,
        request=row.request,
        model=row.model,
        started_at=row.started_at,
        finished_at=row.finished_at,
        estimated_finish=row.estimated_finish,
        metadata=row.metadata,
        used=row.used,
        training_file=row.training_file,
        validation_file=row.validation_file,
        tuned_model=row.tuned_model,
        num_trained_tokens=row.num_trained_tokens,
        results_files=tuple(row.results_files or ()),
        error=None if row.error is None else JobError(**row.error),
        num_crashes=row.num_crashes,
        eval_id=row.eval_id,
    )
