"""Leases: one worker at a time, and another one after it has died."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update

from fettle.jobs.control import cancel_job, create_job, pause_job, resume_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.store.database import Store
from fettle.store.job_log import JobEvent, add_events, list_events
from fettle.store.jobs import (
    Job,
    JobStatus,
    Lease,
    LeaseLostError,
    change_status,
    claim,
    list_jobs,
    read_job,
    release,
    renew,
    require_held,
)
from fettle.store.keys import ensure_project
from fettle.store.pages import PageRequest, UnknownPageError
from fettle.store.tables import jobs

REQUEST = FineTuningRequest(base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters())


def new_job(store: Store, *, metadata: dict[str, str] | None = None) -> Job:
    with store.writing() as connection:
        project = ensure_project(connection, "default")
        return create_job(
            connection, project_id=project.id, model="tiny", request=REQUEST, training_file="file-1",
            validation_file=None, metadata=metadata,
        )  # fmt: skip


def claimed(store: Store, *, owner: str = "one", seconds: float = 60.0) -> Lease | None:
    with store.writing() as connection:
        return claim(connection, statuses=[JobStatus.VALIDATING_FILES], owner=owner, seconds=seconds)


def let_run_out(store: Store, job: Job) -> None:
    with store.writing() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(lease_expires_at=1.0))


def status_of(store: Store, job: Job) -> JobStatus:
    with store.reading() as connection:
        return read_job(connection, job.id).status


def test_a_job_is_claimed_by_one_worker(store: Store) -> None:
    job = new_job(store)
    first, second = claimed(store), claimed(store, owner="two")
    assert first == Lease(job.id, 1)
    assert second is None


def test_of_many_workers_that_claim_at_once_each_gets_another_job(store: Store) -> None:
    made = {new_job(store).id for _ in range(6)}
    found: list[str] = []

    def work(owner: str) -> None:
        while len(found) < len(made):
            lease = claimed(store, owner=owner)
            if lease is not None:
                found.append(lease.job_id)

    threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(made)


def test_jobs_are_claimed_in_the_order_in_which_they_came(store: Store) -> None:
    made = [new_job(store).id for _ in range(3)]
    leases = [claimed(store) for _ in made]
    assert [lease.job_id for lease in leases if lease] == made


def test_a_dead_workers_job_is_taken_over_and_the_dead_one_can_write_nothing_more(store: Store) -> None:
    job = new_job(store)
    dead = claimed(store)
    assert dead is not None
    let_run_out(store, job)
    alive = claimed(store, owner="two")
    assert alive == Lease(job.id, 2)
    for write in (
        lambda c: renew(c, dead, seconds=5),
        lambda c: require_held(c, dead, JobStatus.VALIDATING_FILES),
    ):
        with pytest.raises(LeaseLostError), store.writing() as connection:
            write(connection)
    with store.writing() as connection:
        release(connection, dead)  # changes nothing
        assert renew(connection, alive, seconds=5) is JobStatus.VALIDATING_FILES
    assert claimed(store, owner="three") is None


def test_a_claim_that_is_given_back_can_be_taken_at_once(store: Store) -> None:
    new_job(store)
    lease = claimed(store)
    assert lease is not None
    with store.writing() as connection:
        release(connection, lease)
    assert claimed(store, owner="two") is not None


def test_what_is_told_after_a_cancellation_is_refused(store: Store) -> None:
    job = new_job(store)
    lease = claimed(store)
    assert lease is not None
    with store.writing() as connection:
        assert cancel_job(connection, job)
    with store.writing() as connection:
        assert renew(connection, lease, seconds=5) is JobStatus.CANCELLED
    with pytest.raises(LeaseLostError), store.writing() as connection:
        require_held(connection, lease, JobStatus.RUNNING)


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    job = new_job(store)

    def cut_off() -> None:
        with store.writing() as connection:
            change_status(connection, job.id, from_=[JobStatus.VALIDATING_FILES], to=JobStatus.QUEUED)
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        cut_off()
    assert status_of(store, job) is JobStatus.VALIDATING_FILES


def test_pause_and_resume_are_for_running_and_paused_jobs_alone(store: Store) -> None:
    job = new_job(store)
    with store.writing() as connection:
        assert not pause_job(connection, job)
        assert not resume_job(connection, job)
        change_status(connection, job.id, from_=[JobStatus.VALIDATING_FILES], to=JobStatus.RUNNING)
        assert pause_job(connection, job)
        assert not pause_job(connection, job)
        assert resume_job(connection, job)
    assert status_of(store, job) is JobStatus.QUEUED


def test_final_states_never_change(store: Store) -> None:
    job = new_job(store)
    with store.writing() as connection:
        change_status(connection, job.id, from_=[JobStatus.VALIDATING_FILES], to=JobStatus.SUCCEEDED)
        assert not cancel_job(connection, read_job(connection, job.id))
    assert status_of(store, job) is JobStatus.SUCCEEDED


def test_an_event_with_a_key_that_was_told_is_not_told_again(store: Store) -> None:
    job = new_job(store)
    with store.writing() as connection:
        assert add_events(connection, job.id, *(JobEvent(key=f"step-{n}", message=f"Step {n}") for n in (1, 2))) == 2
        assert add_events(connection, job.id, *(JobEvent(key=f"step-{n}", message=f"Step {n}") for n in (2, 3))) == 1
        found = list_events(connection, job.id, PageRequest(limit=10))
    assert [event.message for event in found.items][:3] == ["Step 3", "Step 2", "Step 1"]


def test_pages_of_one_second_neither_repeat_nor_lose_a_job(store: Store) -> None:
    made = [new_job(store) for _ in range(7)]
    seen: list[str] = []
    after = None
    while True:
        with store.reading() as connection:
            page = list_jobs(connection, made[0].project_id, PageRequest(limit=3, after=after))
        seen += [job.id for job in page.items]
        if not page.has_more:
            break
        after = seen[-1]
        new_job(store)  # a new one comes first, where nobody looks any more
    assert seen == [job.id for job in reversed(made)]


def test_a_page_after_something_unknown_is_refused(store: Store) -> None:
    job = new_job(store)
    with pytest.raises(UnknownPageError, match="ftjob-nothing"), store.reading() as connection:
        list_jobs(connection, job.project_id, PageRequest(limit=3, after="ftjob-nothing"))


def test_jobs_are_found_by_all_their_metadata(store: Store) -> None:
    with_both = new_job(store, metadata={"team": "support", 'odd "key"': "x"})
    new_job(store, metadata={"team": "sales"})
    without = new_job(store)

    def found(**options: object) -> list[str]:
        with store.reading() as connection:
            page = list_jobs(connection, without.project_id, PageRequest(limit=9), **options)  # type: ignore[arg-type]
        return [job.id for job in page.items]

    assert found(metadata={"team": "support"}) == [with_both.id]
    assert found(metadata={"team": "support", 'odd "key"': "x"}) == [with_both.id]
    assert found(metadata={"team": "support", "more": "x"}) == []
    assert found(without_metadata=True) == [without.id]
