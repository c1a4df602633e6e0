"""How a job fails: its status, its reason and the event that repeats it, at once."""

from __future__ import annotations

from dataclasses import asdict

from fettle.jobs.held import HeldJob
from fettle.store.database import Store, now
from fettle.store.job_log import JobEvent, Level, add_events
from fettle.store.jobs import JobError, JobStatus, change_status, require_held


def fail_job(store: Store, held: HeldJob, error: JobError, *, status: JobStatus = JobStatus.RUNNING) -> None:
    """Let a job end without a model.

    Raises:
        LeaseLostError: The job is another worker's, or is not in `status` any more.
    """
    job_id = held.lease.job_id
    with store.writing() as connection:
        require_held(connection, held.lease, status)
        add_events(connection, job_id, JobEvent(key="failed", level=Level.ERROR, message=error.message))
        change_status(
            connection,
            job_id,
            from_=[status],
            to=JobStatus.FAILED,
            error=asdict(error),
            finished_at=now(),
            estimated_finish=None,
        )
