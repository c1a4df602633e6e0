"""What a tuned model was trained on: the files of its job, and of the jobs that this one went on from.

Of a file that its owner has deleted no copy is kept once the job is over, so such a model can no longer be studied honestly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from fettle.errors import DataError
from fettle.store.database import Store
from fettle.store.files import NoSuchFileError, content_of, find_file
from fettle.store.jobs import Job, read_job
from fettle.store.models import TunedModel
from fettle.store.tables import job_checkpoints, jobs, models

TRAINING_COPY, VALIDATION_COPY = "training.jsonl", "validation.jsonl"
"""A job's own copies of its files, in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtFile:
    """Chat rows, JSON Lines, that a model was trained or validated on."""

    path: Path
    name: str
    """For messages."""


def taught_files(store: Store, model: TunedModel) -> tuple[TaughtFile, ...]:
    """Everything that a model was trained or validated on.

    Raises:
        DataError: Something of it is not there any more.
    """
    with store.reading() as connection:
        return tuple(_files(store, connection, model.id, model.job_id))


def _files(store: Store, connection: Connection, name: str, job_id: str | None) -> Iterator[TaughtFile]:
    while True:
        if job_id is None:
            raise _unknown(f"no job is known that trained {name}")
        job = read_job(connection, job_id)
        yield from _files_of(store, connection, job)
        earlier = job.request.get("continues")
        if earlier is None:
            return
        name, job_id = earlier, _job_of(connection, earlier)


def _files_of(store: Store, connection: Connection, job: Job) -> Iterator[TaughtFile]:
    copies = (("training", job.training_file, TRAINING_COPY), ("validation", job.validation_file, VALIDATION_COPY))
    for role, file_id, copy in copies:
        if file_id is None:
            continue
        places = [store.jobs / job.id / copy]
        with suppress(NoSuchFileError):  # the job's own copy may be there all the same
            places.append(content_of(store, find_file(connection, job.project_id, file_id)))
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise _unknown(f"the {role} file {file_id} of {job.id} is not there any more")
        yield TaughtFile(path=path, name=f"the {role} file of {job.id}")


def _job_of(connection: Connection, name: str) -> str | None:
    """The job that a model came from, be it deleted meanwhile."""
    for wanted in (
        select(models.c.job_id).where(models.c.id == name),
        select(job_checkpoints.c.job_id).where(job_checkpoints.c.model == name),
        select(jobs.c.id).where(jobs.c.tuned_model == name),
    ):
        if (found := connection.execute(wanted).scalar()) is not None:
            return found
    return None


def _unknown(problem: str) -> DataError:
    return DataError(
        f"{problem}, so nobody can tell which examples the model has seen",
        remedy="restore it from a backup, or study a model whose training data are here",
    )
