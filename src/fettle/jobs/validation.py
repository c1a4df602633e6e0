"""The first step of a fine-tuning job: its files are read whole, and kept for it whatever becomes of them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fettle.chat.renderer import ChatRenderer
from fettle.errors import DataError, ModelError, disk_errors_explained
from fettle.jobs.fine_tuning import FineTuningRequest, folder_of_job
from fettle.jobs.held import HeldJob
from fettle.jobs.outcome import fail_job
from fettle.jobs.rows import learned_part
from fettle.jobs.training_rows import (
    LEAST_TRAINING_ROWS,
    BadTrainingFileError,
    FileRole,
    TrainingRows,
    read_training_rows,
    refuse_line,
)
from fettle.models.load import load_tokenizer
from fettle.models.resolve import resolve_model
from fettle.store.database import Store
from fettle.store.files import NoSuchFileError, content_of, find_file
from fettle.store.job_log import JobEvent, Level, add_events
from fettle.store.jobs import Job, JobError, JobStatus, change_status, require_held
from fettle.store.models import base_of, find_model
from fettle.store.taught import TRAINING_COPY, VALIDATION_COPY

_MOST_DEATHS = 5
_COPIES = {FileRole.TRAINING: TRAINING_COPY, FileRole.VALIDATION: VALIDATION_COPY}


def validate_job(store: Store, job: Job, held: HeldJob) -> None:
    """Read a job's files, and let it wait for its turn; a file that breaks a rule fails the job, and the reason says where.

    So does a file that has ended one worker after the other: reading it does not get better by trying for ever.
    """
    if job.num_crashes >= _MOST_DEATHS:
        message = f"{job.num_crashes} workers ended while they read its files. If they were killed for memory, use smaller files."
        fail_job(store, held, JobError(code="server_error", message=message), status=JobStatus.VALIDATING_FILES)
        return
    try:
        rows = {role: _read(store, job, role, file_id) for role, file_id in _files_of(job)}
        _require_learnable(rows, _renderer(store, job))
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
        change_status(
            connection,
            job.id,
            from_=[JobStatus.VALIDATING_FILES],
            to=JobStatus.QUEUED,
            used=asdict(used),
            num_crashes=0,
        )


def _renderer(store: Store, job: Job) -> ChatRenderer | None:
    """Of the job's base model; None: it is not there, or damaged, which the training will say."""
    request = FineTuningRequest.from_json(job.request)
    try:
        with store.reading() as connection:
            base = base_of(connection, find_model(connection, job.project_id, request.base))
        return ChatRenderer(load_tokenizer(resolve_model(base.source)))
    except ModelError:
        return None


def _require_learnable(rows: Mapping[FileRole, TrainingRows], renderer: ChatRenderer | None) -> None:
    """See that the base model's chat template takes every row, before the job waits for its turn.

    Raises:
        BadTrainingFileError: It does not; the message names the line.
    """
    if renderer is None:
        return
    for role, part in rows.items():
        for example in filter(None, map(learned_part, part.examples)):
            try:
                renderer.require_learnable(example)
            except DataError as error:
                refuse_line(role, example.source.line, error.problem, error.remedy)


def have_copies(store: Store, job: Job) -> None:
    """Have the files in the job's folder, as they were read, wherever somebody has removed them there.

    Raises:
        BadTrainingFileError: They are deleted in the store as well.
    """
    for role, file_id in _files_of(job):
        if not _copy_of(store, job, role).exists():
            _have_copy(store, job, role, file_id)


def _files_of(job: Job) -> list[tuple[FileRole, str]]:
    files = [(FileRole.TRAINING, job.training_file), (FileRole.VALIDATION, job.validation_file)]
    return [(role, file_id) for role, file_id in files if file_id is not None]


def _read(store: Store, job: Job, role: FileRole, file_id: str) -> TrainingRows:
    copy = _have_copy(store, job, role, file_id)
    least = LEAST_TRAINING_ROWS if role is FileRole.TRAINING else 1
    return read_training_rows(copy, role, name=file_id, least=least)


def _copy_of(store: Store, job: Job, role: FileRole) -> Path:
    return folder_of_job(store.jobs, job.id) / _COPIES[role]


def _have_copy(store: Store, job: Job, role: FileRole, file_id: str) -> Path:
    copy = _copy_of(store, job, role)
    if copy.exists():  # since the job was created
        return copy
    try:
        with store.reading() as connection:
            file = find_file(connection, job.project_id, file_id)
        _keep(content_of(store, file), copy)
    except (NoSuchFileError, FileNotFoundError) as error:
        problem = f"The file {file_id} was deleted before the job had read it"
        raise BadTrainingFileError(problem, code=role.code, role=role) from error
    return copy


def _keep(content: Path, copy: Path) -> None:
    """Have the content in the job's own folder: by a second name for the same bytes where the disk allows."""
    with disk_errors_explained(copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_name(f".{copy.name}.{secrets.token_hex(4)}")
        try:
            os.link(content, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one that knows no second names
            shutil.copyfile(content, temporary)
        temporary.replace(copy)
        temporary.unlink(
            missing_ok=True
        )  # where another process was as fast, both names are one file, and this one stays
