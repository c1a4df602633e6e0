"""What the body of a job asks for, its names resolved to models and files of the project."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection

from fettle.jobs.fine_tuning import FineTuningRequest
from fettle.jobs.job_folder import MAX_JOB_SEED
from fettle.server.errors import ApiError, invalid
from fettle.server.job_bodies import CreateJob
from fettle.store.files import FINE_TUNE, NoSuchFileError, StoredFile, find_file
from fettle.store.keys import Owner
from fettle.store.models import BaseModel, TunedModel, base_of, find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJob:
    """A job that could be created."""

    request: FineTuningRequest
    model: BaseModel | TunedModel
    """What is trained further."""
    base: BaseModel
    """Its base model."""
    training_file: StoredFile
    validation_file: StoredFile | None


def asked_job(connection: Connection, body: CreateJob, owner: Owner) -> AskedJob:
    """What a body asks for.

    Raises:
        ApiError: A file is not there, or not for training; or something is asked for that this server does not do.
        NoSuchModelError: There is no such model.
    """
    hyperparameters = body.supervised_hyperparameters()
    model = find_model(connection, owner.project_id, body.model)
    base = base_of(connection, model)
    training_file = _training_file(connection, owner, body.training_file, "training_file")
    validation_file = None
    if body.validation_file is not None:
        validation_file = _training_file(connection, owner, body.validation_file, "validation_file")
    request = FineTuningRequest(
        base=base.id,
        continues=model.id if isinstance(model, TunedModel) else None,
        seed=secrets.randbelow(MAX_JOB_SEED + 1) if body.seed is None else body.seed,
        suffix=body.suffix,
        hyperparameters=hyperparameters,
    )
    return AskedJob(
        request=request, model=model, base=base, training_file=training_file, validation_file=validation_file
    )


def _training_file(connection: Connection, owner: Owner, file_id: str, param: str) -> StoredFile:
    try:
        file = find_file(connection, owner.project_id, file_id)
    except NoSuchFileError as error:
        raise invalid(error.problem, param) from error
    if file.purpose != FINE_TUNE:
        raise _wrong_purpose(file, param)
    return file


def _wrong_purpose(file: StoredFile, param: str) -> ApiError:
    message = f"The file {file.id} has the purpose '{file.purpose}', and `{param}` needs one of purpose 'fine-tune'."
    return invalid(message, param)
