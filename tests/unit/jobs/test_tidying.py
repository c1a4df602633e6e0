from __future__ import annotations

import pytest

from fettle.jobs.control import cancel_job, create_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.jobs.job_folder import JobFolder
from fettle.jobs.tidying import tidy_jobs
from fettle.store.database import Store
from fettle.store.jobs import Job
from fettle.store.keys import ensure_project
from fettle.store.models import TunedModel, add_tuned_model

REQUEST = FineTuningRequest(base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters())


@pytest.fixture
def job(store: Store) -> Job:
    """A job with a training in its folder, one model that is listed and two that a kill has left."""
    with store.writing() as connection:
        project = ensure_project(connection, "default")
        job = create_job(
            connection, project_id=project.id, model="tiny", request=REQUEST, training_file="file-1",
            validation_file=None, metadata=None,
        )  # fmt: skip
        model = TunedModel(
            id="ft:tiny:fettle::abcdefgh", project_id=project.id, base="tiny", base_sha256="0" * 64,
            template_sha256="0" * 64, folder=f"{job.id}/final-3", is_adapter=True, job_id=job.id, step=None, created_at=1,
        )  # fmt: skip
        add_tuned_model(connection, model)
    for name in ("training.jsonl", "names.json", ".names.json.x1", "process.log", "training/events.jsonl"):
        file = store.jobs / job.id / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name in ("checkpoints/step-0000010", "epochs/step-0000012", "adapter"):
        (store.jobs / job.id / "training" / name).mkdir(parents=True)
    for name in ("final-3", "step-12-1", ".step-24-2.new"):
        (store.models / job.id / name).mkdir(parents=True)
    return job


def names(store: Store) -> list[str]:
    return sorted(
        path.relative_to(store.home).as_posix().split("/", 2)[2]
        for folder in (store.jobs, store.models)
        for path in folder.glob("*/**/*")
        if path.name != "training"
    )


def cancel(store: Store, job: Job) -> None:
    with store.writing() as connection:
        cancel_job(connection, job)


def test_what_is_over_leaves_its_log_its_events_and_the_models_that_are_listed(store: Store, job: Job) -> None:
    cancel(store, job)
    tidy_jobs(store)
    assert [name for name in names(store) if name != ".lock"] == ["final-3", "process.log", "training/events.jsonl"]


def test_what_is_not_over_is_left_alone(store: Store, job: Job) -> None:
    before = names(store)
    tidy_jobs(store)
    assert names(store) == before


def test_a_folder_in_which_a_process_still_works_is_left_to_it(store: Store, job: Job) -> None:
    cancel(store, job)
    with JobFolder(store.jobs / job.id).locked():
        tidy_jobs(store)
        assert "training/checkpoints/step-0000010" in names(store)


def test_folders_of_nobody_are_nobodys_business(store: Store) -> None:
    for folder in (store.jobs / "notes", store.models / "smollm2" / "final"):
        folder.mkdir(parents=True)
    tidy_jobs(store)
    assert (store.jobs / "notes").exists()
    assert (store.models / "smollm2" / "final").exists()
