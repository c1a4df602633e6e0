"""What users do with jobs: create, cancel, pause, resume. Each is one transaction with the event that tells of it.

The status changes at once; whoever works on the job sees it within a second and stops. Until he has let go of his claim nobody else
works on the job, so a job that is resumed at once waits for that.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from fettle.jobs.fine_tuning import FineTuningRequest
from fettle.store.database import now
from fettle.store.ids import new_id
from fettle.store.job_log import JobEvent, Level, add_events
from fettle.store.jobs import Job, JobKind, JobStatus, add_job, change_status

_UNFINISHED = tuple(status for status in JobStatus if not status.is_final)


def create_job(
    connection: Connection,
    *,
    project_id: str,
    model: str,
    request: FineTuningRequest,
    training_file: str,
    validation_file: str | None,
    metadata: Mapping[str, str] | None,
) -> Job:
    """A new fine-tuning job, which waits for its files to be read."""
    job = Job(
        id=new_id("ftjob-"),
        project_id=project_id,
        kind=JobKind.FINE_TUNING,
        status=JobStatus.VALIDATING_FILES,
        created_at=now(),
        request=request.as_json,
        model=model,
        metadata=metadata,
        training_file=training_file,
        validation_file=validation_file,
    )
    add_job(connection, job)
    files = training_file + (f" and validation file: {validation_file}" if validation_file else "")
    add_events(
        connection,
        job.id,
        JobEvent(key="created", message=f"Created fine-tuning job: {job.id}"),
        JobEvent(key="validating", message=f"Validating training file: {files}"),
    )
    return job


def cancel_job(connection: Connection, job: Job) -> bool:
    """Stop a job for good; True where it is cancelled now, or was before. False: it has come to its end otherwise."""
    if job.status is JobStatus.CANCELLED:
        return True
    changed = change_status(
        connection, job.id, from_=_UNFINISHED, to=JobStatus.CANCELLED, finished_at=now(), estimated_finish=None
    )
    if changed:
        event = JobEvent(key="cancelled", message="The job was cancelled at the user's request", level=Level.ERROR)
        add_events(connection, job.id, event)
    return changed


def pause_job(connection: Connection, job: Job) -> bool:
    """Let a running job stop after its step; False: it does not run."""
    changed = change_status(connection, job.id, from_=[JobStatus.RUNNING], to=JobStatus.PAUSED, estimated_finish=None)
    if changed:
        add_events(connection, job.id, JobEvent(key=new_id("paused-"), message="The job was paused"))
    return changed


def resume_job(connection: Connection, job: Job) -> bool:
    """Let a paused job wait for its turn again; False: it is not paused."""
    changed = change_status(connection, job.id, from_=[JobStatus.PAUSED], to=JobStatus.QUEUED)
    if changed:
        add_events(connection, job.id, JobEvent(key=new_id("resumed-"), message="The job was resumed"))
    return changed
