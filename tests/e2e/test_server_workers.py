"""Workers that die or stand still, jobs paused and cancelled within a step, and databases and disks that fail them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from killed_home import Outcome, Role, Served, home, is_gone, until
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from fettle.store.tables import jobs
from tiny_models import save_tiny_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

STEP_SECONDS = "0.1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "qwen2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Outcome:
    with home(tmp_path_factory.mktemp("undisturbed") / "home", model) as served:
        served.start()
        job_id = served.new_job()
        assert served.wait_for_end(job_id) == "succeeded"
        return served.outcome(job_id)


@pytest.fixture
def served(tmp_path: Path, model: Path) -> Iterator[Served]:
    """Not started yet."""
    with home(tmp_path / "home", model) as served:
        yield served


def the_training(served: Served) -> psutil.Process:
    """The one process that trains: there are never two."""
    found = served.alive(Role.TRAINING)
    assert len(found) == 1
    return found[0]


def owner_of(served: Served, job_id: str) -> str | None:
    with served.store() as store, store.reading() as connection:
        return connection.execute(jobs.select().where(jobs.c.id == job_id)).one().lease_owner


def job_of_two_workers(served: Served, *, until_step: int) -> tuple[str, psutil.Process]:
    """A job that one of two workers trains; its id and that worker."""
    served.start("--workers", "0")
    workers = [served.spawn("worker", step_seconds=STEP_SECONDS).pid for _ in range(2)]
    job_id = served.new_job()

    def is_there() -> bool:
        assert len(served.alive(Role.TRAINING)) <= 1
        return served.steps_taken(job_id) >= until_step

    until(is_there, f"step {until_step}")
    worker = the_training(served).parent()
    assert worker is not None
    assert worker.pid in workers
    return job_id, worker


def test_a_second_worker_takes_over_a_dead_ones_job(served: Served, undisturbed: Outcome) -> None:
    job_id, worker = job_of_two_workers(served, until_step=15)
    worker.kill()
    assert served.wait_for_end(job_id) == "succeeded"
    assert served.outcome(job_id) == undisturbed


def test_a_worker_that_stands_still_past_its_claim_writes_nothing_afterwards(
    served: Served, undisturbed: Outcome
) -> None:
    job_id, worker = job_of_two_workers(served, until_step=15)
    training, first = the_training(served), owner_of(served, job_id)
    training.suspend()
    worker.suspend()
    until(lambda: owner_of(served, job_id) not in (None, first), "the other worker has the job")
    worker.resume()
    until(lambda: is_gone(training), "its training is ended")
    assert served.wait_for_end(job_id) == "succeeded"
    assert served.outcome(job_id) == undisturbed


def test_a_pause_acts_within_the_step_and_a_resumed_job_goes_on(served: Served, undisturbed: Outcome) -> None:
    served.start(step_seconds="5:6")
    job_id = served.new_job()
    served.wait_for_step(job_id, 4)
    served.do(job_id, "pause")
    until(lambda: not served.alive(Role.TRAINING), "the training has ended")
    assert served.steps_taken(job_id) in (4, 5)  # the wish may have come before the fifth step had begun
    assert served.events(job_id)[-1]["message"] == "The job was paused"
    assert served.job(job_id)["status"] == "paused"
    served.do(job_id, "resume")
    assert served.wait_for_end(job_id) == "succeeded"
    found = served.outcome(job_id)
    told = [event for event in found.events if event[2] not in ("The job was paused", "The job was resumed")]
    assert len(found.events) == len(told) + 2
    assert told == undisturbed.events
    assert (found.results, found.weights) == (undisturbed.results, undisturbed.weights)


def test_a_job_that_is_resumed_before_it_has_paused_goes_on(served: Served, undisturbed: Outcome) -> None:
    served.start(step_seconds="5:3")
    job_id = served.new_job()
    served.wait_for_step(job_id, 4)
    for _ in range(3):
        served.do(job_id, "pause")
        served.do(job_id, "resume")
        until(lambda: served.job(job_id)["status"] == "running", "it runs again")
    assert served.wait_for_end(job_id) == "succeeded"
    found = served.outcome(job_id)
    assert (found.results, found.weights) == (undisturbed.results, undisturbed.weights)


def test_a_cancellation_ends_the_training_in_the_middle_of_a_step(served: Served) -> None:
    served.start(step_seconds="5:100000")
    job_id = served.new_job()
    served.wait_for_step(job_id, 4)
    served.do(job_id, "cancel")
    until(lambda: not served.alive(Role.TRAINING), "the training has ended")
    assert served.job(job_id)["status"] == "cancelled"
    assert "cancelled" in served.events(job_id)[-1]["message"]
    until(lambda: not (served.folder(job_id) / "training" / "checkpoints").exists(), "its folder is tidied up")
    assert not (served.folder(job_id) / "training.jsonl").exists()
    served.stop()


@contextmanager
def no_database(served: Served) -> Iterator[None]:
    """Within it nobody can write to the database of a home."""
    if served.database_url is None:
        connection = sqlite3.connect(served.home / "fettle.sqlite", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.close()
        return
    url = make_url(served.database_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false'))
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(ended), {"name": url.database})
        yield
        connection.execute(text(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true'))
    engine.dispose()


def test_a_training_goes_on_while_the_database_is_away(served: Served, undisturbed: Outcome) -> None:
    served.start(step_seconds=STEP_SECONDS)
    job_id = served.new_job()
    served.wait_for_step(job_id, 10)
    training = the_training(served)
    with no_database(served):
        served.wait_for_step(job_id, 45)  # some times as long as a claim holds
    assert the_training(served) == training
    assert served.wait_for_end(job_id) == "succeeded"
    assert served.outcome(job_id) == undisturbed


def test_a_full_disk_fails_the_job_with_its_reason_and_nothing_else(served: Served, undisturbed: Outcome) -> None:
    served.start(file_bytes="20000")
    job_id = served.new_job()
    assert served.wait_for_end(job_id) == "failed"
    error = served.job(job_id)["error"]
    assert error["code"] == "disk_full"
    assert "Free some space" in error["message"]
    assert str(served.home) not in error["message"]
    served.stop()
    served.start()
    job_id = served.new_job()
    assert served.wait_for_end(job_id) == "succeeded"
    assert served.outcome(job_id) == undisturbed


def test_a_job_whose_folder_was_removed_begins_anew_and_tells_nothing_twice(
    served: Served, undisturbed: Outcome, tmp_path: Path
) -> None:
    served.start(step_seconds=STEP_SECONDS)
    job_id = served.new_job()
    served.wait_for_step(job_id, 30)
    served.folder(job_id).rename(tmp_path / "removed")
    assert served.wait_for_end(job_id) == "succeeded"
    assert served.outcome(job_id) == undisturbed


def test_a_job_whose_base_model_was_taken_off_the_server_says_so(served: Served) -> None:
    served.start("--workers", "0")
    job_id = served.new_job()
    with served.store() as store, store.writing() as connection:
        connection.execute(text("DELETE FROM base_models WHERE id = :id"), {"id": served.model.name})
    served.spawn("worker")
    assert served.wait_for_end(job_id) == "failed"
    assert served.job(job_id)["error"]["code"] == "model_not_available"
