"""The first step of a fine-tuning job: its files are read whole, and kept for it whatever becomes of them."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

from fettle.errors import disk_errors_explained
from fettle.jobs.fine_tuning import FineTuningRequest, folder_of_job
from fettle.jobs.held import HeldJob
from fettle.jobs.outcome import fail_job
from fettle.jobs.training_rows import (
    LEAST_TRAINING_ROWS,
    BadTrainingFileError,
    FileRole,
    TrainingRows,
    read_training_rows,
)
from fettle.store.database import Store
from fettle.store.files import NoSuchFileError, content_of, find_file
from fettle.store.job_log import JobEvent, Level, add_events
from fettle.store.jobs import Job, JobError, JobStatus, change_status, require_held
from fettle.store.taught import TRAINING_COPY, VALIDATION_COPY

_COPIES = {FileRole.TRAINING: TRAINING_COPY, FileRole.VALIDATION: VALIDATION_COPY}


def validate_job(store: Store, job: Job, held: HeldJob) -> None:
    """Read a job's files, and let it wait for its turn; a file that breaks a rule fails the job, and the reason says where."""
    try:
        rows = {role: _read(store, job, role, file_id) for role, file_id in _files_of(job)}
    except BadTrainingFileError as error:
        failed = JobError(code=error.code, message=error.describe(), param=error.role.value)
        fail_job(store, held, failed, status=JobStatus.VALIDATING_FILES)
        return
    request = FineTuningRequest.from_json(job.request)
    used = request.hyperparameters.resolved(len(rows[FileRole.TRAINING].examples))
    warnings = [
        JobEvent(key=f"{role.value}-warning-{number}", level=Level.WARN, message=f"{role.value}: {text}")
        for role, part in rows.items()
        for number, text in enumerate(part.warnings)
    ]
    ready = JobEvent(key="validated", message="Files validated, moving job to queued state")
    with store.writing() as connection:
        require_held(connection, held.lease, JobStatus.VALIDATING_FILES)
        add_events(connection, job.id, *warnings, ready)
        change_status(connection, job.id, from_=[JobStatus.VALIDATING_FILES], to=JobStatus.QUEUED, used=asdict(used))


def _files_of(job: Job) -> list[tuple[FileRole, str]]:
    files = [(FileRole.TRAINING, job.training_file), (FileRole.VALIDATION, job.validation_file)]
    return [(role, file_id) for role, file_id in files if file_id is not None]


def _read(store: Store, job: Job, role: FileRole, file_id: str) -> TrainingRows:
    copy = folder_of_job(store.jobs, job.id) / _COPIES[role]
    try:
        with store.reading() as connection:
            file = find_file(connection, job.project_id, file_id)
        _keep(content_of(store, file), copy)
    except (NoSuchFileError, FileNotFoundError) as error:
        problem = f"The file {file_id} was deleted before the job had read it"
        raise BadTrainingFileError(problem, code=role.code, role=role) from error
    least = LEAST_TRAINING_ROWS if role is FileRole.TRAINING else 1
    return read_training_rows(copy, role, name=file_id, least=least)


def _keep(content: Path, copy: Path) -> None:
    """Have the content in the job's own folder: by a second name for the same bytes where the disk allows."""
    with disk_errors_explained(copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            os.link(content, copy)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one that knows no second names
            shutil.copyfile(content, copy)
