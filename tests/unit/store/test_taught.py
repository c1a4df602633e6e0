"""What a tuned model was trained on: its job's files, and those of the models that it goes on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import DataError
from fettle.store.database import Store, now
from fettle.store.files import StoredFile, add_file, content_of, remove_file
from fettle.store.job_log import JobCheckpoint, add_checkpoint
from fettle.store.jobs import Job, JobKind, JobStatus, add_job
from fettle.store.keys import ensure_project
from fettle.store.models import TunedModel, add_tuned_model, remove_tuned_model
from fettle.store.taught import TRAINING_COPY, VALIDATION_COPY, taught_files


def keep_file(store: Store, project_id: str, file_id: str) -> None:
    file = StoredFile(
        id=file_id,
        project_id=project_id,
        filename="a.jsonl",
        purpose="fine-tune",
        num_bytes=0,
        sha256="",
        created_at=now(),
    )
    content_of(store, file).parent.mkdir(parents=True, exist_ok=True)
    content_of(store, file).write_text("{}\n")
    with store.writing() as connection:
        add_file(connection, file)


def keep_job(store: Store, job_id: str, *, continues: str | None = None, validation: bool = False) -> TunedModel:
    """A job whose files are those of the store, with the model that came of it."""
    with store.writing() as connection:
        project_id = ensure_project(connection, "default").id
    keep_file(store, project_id, f"file-{job_id}")
    if validation:
        keep_file(store, project_id, f"file-valid-{job_id}")
    request: Mapping[str, Any] = {"base": "tiny", "continues": continues}
    model = TunedModel(
        id=f"ft:tiny:fettle::{job_id}", project_id=project_id, base="tiny", base_sha256="", template_sha256="",
        folder=f"{job_id}/final", is_adapter=True, job_id=job_id, step=None, created_at=now(),
    )  # fmt: skip
    with store.writing() as connection:
        add_job(
            connection,
            Job(
                id=job_id, project_id=project_id, kind=JobKind.FINE_TUNING, status=JobStatus.SUCCEEDED, created_at=now(),
                request=request, model="tiny", training_file=f"file-{job_id}",
                validation_file=f"file-valid-{job_id}" if validation else None,
            ),
        )  # fmt: skip
        add_tuned_model(connection, model)
    return model


def names(store: Store, model: TunedModel) -> list[Path]:
    return [file.path.relative_to(store.home) for file in taught_files(store, model)]


def test_the_files_of_the_store_and_the_job_s_own_copies_first(store: Store) -> None:
    model = keep_job(store, "ftjob-1", validation=True)
    assert names(store, model) == [Path("files/file-ftjob-1"), Path("files/file-valid-ftjob-1")]
    copy = store.jobs / "ftjob-1" / TRAINING_COPY
    copy.parent.mkdir(parents=True)
    copy.write_text("{}\n")
    assert names(store, model) == [Path("jobs/ftjob-1") / TRAINING_COPY, Path("files/file-valid-ftjob-1")]
    (copy.parent / VALIDATION_COPY).write_text("{}\n")
    for file_id in ("file-ftjob-1", "file-valid-ftjob-1"):
        remove_file(store, model.project_id, file_id)
    assert names(store, model) == [Path("jobs/ftjob-1") / TRAINING_COPY, Path("jobs/ftjob-1") / VALIDATION_COPY]


def test_models_that_were_gone_on_from_are_followed_be_they_deleted(store: Store) -> None:
    first = keep_job(store, "ftjob-1")
    checkpoint = JobCheckpoint(job_id="ftjob-1", step=3, model="ft:tiny:fettle::ckpt:ckpt-step-3", metrics={})
    with store.writing() as connection:
        add_checkpoint(connection, checkpoint)
    second = keep_job(store, "ftjob-2", continues=checkpoint.model)
    third = keep_job(store, "ftjob-3", continues=second.id)
    expected = [Path(f"files/file-ftjob-{number}") for number in (3, 2, 1)]
    assert names(store, third) == expected
    remove_tuned_model(store, first.project_id, first.id)
    assert names(store, third) == expected


def test_data_that_are_gone_are_an_error_and_not_nothing(store: Store) -> None:
    model = keep_job(store, "ftjob-1")
    content_of(store, StoredFile(
        id="file-ftjob-1", project_id=model.project_id, filename="", purpose="", num_bytes=0, sha256="", created_at=0
    )).unlink()  # fmt: skip
    with pytest.raises(DataError, match="the training file file-ftjob-1 of ftjob-1 is not there any more"):
        taught_files(store, model)
    orphan = keep_job(store, "ftjob-2", continues="ft:tiny:fettle::unknown1")
    with pytest.raises(DataError, match="no job is known that trained ft:tiny:fettle::unknown1"):
        taught_files(store, orphan)
