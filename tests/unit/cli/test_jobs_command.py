"""`fettle jobs`: what it shows, changes and refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli import store as store_of_commands
from fettle.cli.main import app
from fettle.errors import ConfigError
from fettle.jobs.control import create_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.store.database import Store
from fettle.store.jobs import Job, JobStatus, NoSuchJobError, change_status, read_job
from fettle.store.keys import ensure_project

Run = Callable[..., str]
REQUEST = FineTuningRequest(base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(store_of_commands, "open_store", lambda: store)
        yield store


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("list")`: what `fettle jobs list` prints; errors are raised."""
    monkeypatch.setenv("COLUMNS", "300")

    def command(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["jobs", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return command


def new_job(store: Store, project: str, status: JobStatus = JobStatus.RUNNING) -> Job:
    with store.writing() as connection:
        job = create_job(
            connection, project_id=ensure_project(connection, project).id, model="tiny", request=REQUEST,
            training_file="file-1", validation_file=None, metadata=None,
        )  # fmt: skip
        change_status(connection, job.id, from_=[JobStatus.VALIDATING_FILES], to=status)
        return job


def status_of(store: Store, job: Job) -> JobStatus:
    with store.reading() as connection:
        return read_job(connection, job.id).status


def test_jobs_of_all_projects_are_listed_the_newest_first(store: Store, run: Run) -> None:
    first, second = new_job(store, "support"), new_job(store, "sales")
    shown = run("list")
    assert shown.index(second.id) < shown.index(first.id)
    assert first.id not in run("list", "--limit", "1")


def test_a_job_is_shown_with_what_it_told_last(store: Store, run: Run) -> None:
    job = new_job(store, "support")
    assert f"{job.id}: running, fine_tuning of tiny" in run("show", job.id)
    assert "Validating training file: file-1" in run("show", job.id)
    assert "Validating" not in run("show", job.id, "--events", "0")


def test_a_job_is_paused_resumed_and_cancelled(store: Store, run: Run) -> None:
    job = new_job(store, "support")
    for command, status in (
        ("pause", JobStatus.PAUSED),
        ("resume", JobStatus.QUEUED),
        ("cancel", JobStatus.CANCELLED),
    ):
        assert job.id in run(command, job.id)
        assert status_of(store, job) is status


def test_what_cannot_be_is_refused(store: Store, run: Run) -> None:
    job = new_job(store, "support", JobStatus.SUCCEEDED)
    with pytest.raises(ConfigError, match="the job is succeeded, so it cannot be cancelled"):
        run("cancel", job.id)
    with pytest.raises(NoSuchJobError):
        run("show", "ftjob-nothing")
