"""Claims where clocks differ, where two act at once, and where a file ends every worker that reads it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, update

from fettle.jobs.control import cancel_job, create_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.jobs.held import HeldJob
from fettle.jobs.validation import validate_job
from fettle.store.database import Store
from fettle.store.jobs import Job, JobStatus, Lease, LeaseLostError, claim, read_job, renew
from fettle.store.keys import ensure_project
from fettle.store.tables import jobs

REQUEST = FineTuningRequest(base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters())
SECONDS = 60.0


@pytest.fixture
def job(store: Store) -> Job:
    with store.writing() as connection:
        project = ensure_project(connection, "default")
        return create_job(
            connection, project_id=project.id, model="tiny", request=REQUEST, training_file="file-1",
            validation_file=None, metadata=None,
        )  # fmt: skip


def claimed(store: Store, *, owner: str) -> Lease | None:
    with store.writing() as connection:
        return claim(connection, statuses=[JobStatus.VALIDATING_FILES], owner=owner, seconds=SECONDS)


def first_claim(store: Store) -> Lease:
    lease = claimed(store, owner="one")
    assert lease is not None
    return lease


def let_run_out(store: Store, job: Job) -> None:
    with store.writing() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(lease_expires_at=1.0))


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
def test_a_workers_clock_does_not_matter(skew: float, store: Store, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    lease = first_claim(store)  # by a worker whose clock is a day off
    monkeypatch.undo()
    assert claimed(store, owner="whose clock is right") is None
    monkeypatch.setattr(time, "time", lambda: real() - skew)
    assert claimed(store, owner="whose clock is off the other way") is None
    with store.writing() as connection:
        renew(connection, lease, seconds=SECONDS)
        expires = connection.execute(jobs.select().where(jobs.c.id == job.id)).one().lease_expires_at
    assert expires == pytest.approx(real() + SECONDS, abs=SECONDS / 2)


def after_the_first_query(connection: Any, act: Any) -> None:
    """Let something happen between what a transaction reads and what it writes, as another one's commit does in PostgreSQL."""

    @event.listens_for(connection, "after_cursor_execute", once=True)
    def happen(*_: Any) -> None:
        act()


def test_a_claim_that_is_renewed_at_the_last_moment_is_not_taken(store: Store, job: Job) -> None:
    lease = first_claim(store)
    let_run_out(store, job)
    with store.writing() as connection:
        after_the_first_query(connection, lambda: renew(connection, lease, seconds=SECONDS))
        assert claim(connection, statuses=[JobStatus.VALIDATING_FILES], owner="two", seconds=SECONDS) is None
    with store.writing() as connection:
        renew(connection, lease, seconds=SECONDS)  # it holds


def test_a_job_that_is_cancelled_at_the_last_moment_is_not_claimed(store: Store, job: Job) -> None:
    with store.writing() as connection:
        after_the_first_query(connection, lambda: cancel_job(connection, job))
        assert claim(connection, statuses=[JobStatus.VALIDATING_FILES], owner="one", seconds=SECONDS) is None


def test_who_holds_a_job_knows_its_status_as_soon_as_he_has_asked(store: Store, job: Job) -> None:
    with HeldJob(store, first_claim(store), job.status, seconds=SECONDS) as held:
        with store.writing() as connection:
            cancel_job(connection, job)
        assert held.renew() is JobStatus.CANCELLED
        assert held.status is JobStatus.CANCELLED


def test_who_has_lost_a_job_learns_it_by_renewing(store: Store, job: Job) -> None:
    with HeldJob(store, first_claim(store), job.status, seconds=SECONDS) as held:
        let_run_out(store, job)
        assert claimed(store, owner="two") is not None
        with pytest.raises(LeaseLostError):
            held.renew()
        with pytest.raises(LeaseLostError):
            _ = held.status


def test_a_file_that_ends_every_worker_fails_its_job_in_the_end(store: Store, job: Job) -> None:
    for number in range(5):
        lease = claimed(store, owner=f"worker {number}, which dies")
        assert lease is not None
        let_run_out(store, job)
    lease = claimed(store, owner="the last one")
    assert lease is not None
    with store.reading() as connection:
        found = read_job(connection, job.id)
    with HeldJob(store, lease, found.status, seconds=SECONDS) as held:
        validate_job(store, found, held)
    with store.reading() as connection:
        failed = read_job(connection, job.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert "5 workers ended while they read its files" in failed.error.message


def test_a_worker_that_gives_a_job_back_has_not_died_of_it(store: Store, job: Job) -> None:
    for _ in range(9):
        with HeldJob(store, first_claim(store), job.status, seconds=SECONDS):
            pass
    with store.reading() as connection:
        assert read_job(connection, job.id) == replace(job, num_crashes=0)
