"""Runs of evals go on where a dead worker left them, and stop when they are told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from fettle.jobs.control import cancel_job
from fettle.jobs.eval_progress import RunProgress
from fettle.jobs.eval_run import EvalRun
from fettle.jobs.held import HeldJob
from fettle.scoring.sandbox.code_runner import CodeCall, CodeOutcome
from fettle.store.database import Store, now
from fettle.store.evals import StoredEval, add_eval, list_items, remove_eval
from fettle.store.ids import new_id
from fettle.store.jobs import Job, JobKind, JobStatus, LeaseLostError, add_job, claim, read_job
from fettle.store.keys import ensure_project
from fettle.store.pages import PageRequest
from fettle.store.tables import eval_items, jobs

NUM_ROWS = 40
CODE = {"type": "python", "name": "even", "source": "def grade(sample, item):\n    return 0.0"}


class KilledError(BaseException):
    """Ends a worker where it stands, as a kill does."""


class Grading:
    """Grades in this process: 1 for even numbers. Does something before its n-th batch."""

    def __init__(self, before: dict[int, Any] | None = None) -> None:
        self.before, self.num_batches, self.graded = before or {}, 0, list[int]()

    def unavailable_because(self) -> str | None:
        return None

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        self.before.get(self.num_batches, lambda: None)()
        self.num_batches += 1
        self.graded += [call.item["n"] for call in calls]
        return tuple(CodeOutcome(value=float(call.item["n"] % 2 == 0)) for call in calls)


def new_run(store: Store) -> Job:
    rows = [{"item": {"n": number}, "sample": {"output_text": str(number)}} for number in range(NUM_ROWS)]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    with store.writing() as connection:
        project = ensure_project(connection, "default")
        made = StoredEval(
            id=new_id("eval_"), project_id=project.id, name="even", created_at=now(), metadata=None, criteria=[CODE],
            data_source={"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
        )  # fmt: skip
        run = Job(
            id=new_id("evalrun_"), project_id=project.id, kind=JobKind.EVAL_RUN, status=JobStatus.QUEUED, model="",
            created_at=now(), request={"name": "run", "data_source": source}, eval_id=made.id,
        )  # fmt: skip
        add_eval(connection, made)
        add_job(connection, run)
    return run


def work(store: Store, grading: Grading, stops: threading.Event | None = None) -> None:
    with store.writing() as connection:
        statuses = [JobStatus.QUEUED, JobStatus.RUNNING]
        lease = claim(connection, statuses=statuses, owner="test", seconds=60, kind=JobKind.EVAL_RUN)
        assert lease is not None
        job = read_job(connection, lease.job_id)
    with HeldJob(store, lease, job.status, seconds=60) as held:
        EvalRun(store, job, held, code_runner=grading).run(stops or threading.Event())


def raise_killed() -> None:
    raise KilledError


def stored(store: Store, run: Job) -> Job:
    with store.reading() as connection:
        return read_job(connection, run.id)


def test_a_run_goes_on_after_a_kill_and_does_no_item_twice(store: Store) -> None:
    run = new_run(store)
    killed = Grading({2: raise_killed})
    with pytest.raises(KilledError):
        work(store, killed)
    assert stored(store, run).status is JobStatus.RUNNING
    second = Grading()
    work(store, second)
    done = stored(store, run)
    assert done.status is JobStatus.SUCCEEDED
    assert killed.graded + second.graded == list(range(NUM_ROWS))
    progress = RunProgress.from_json(done.used or {})
    assert (progress.num_items, progress.num_passed, progress.num_failed) == (NUM_ROWS, NUM_ROWS // 2, NUM_ROWS // 2)
    assert [(counts.passed, counts.failed) for counts in progress.criteria] == [(NUM_ROWS // 2, NUM_ROWS // 2)]
    with store.reading() as connection:
        items = list_items(connection, run.id, PageRequest(limit=100, newest_first=False)).items
    assert [item.position for item in items] == list(range(NUM_ROWS))


def test_a_worker_that_stops_leaves_the_run_to_the_next_one(store: Store) -> None:
    run, stops = new_run(store), threading.Event()
    first = Grading({1: stops.set})
    work(store, first, stops)
    assert stored(store, run).status is JobStatus.RUNNING
    assert stored(store, run).num_crashes == 0
    work(store, second := Grading())
    assert stored(store, run).status is JobStatus.SUCCEEDED
    assert len(second.graded) == NUM_ROWS - 16, "the batch in which it was stopped is done again, and was not kept"


def test_a_cancelled_run_keeps_what_was_done_and_is_never_completed(store: Store) -> None:
    run = new_run(store)

    def cancel() -> None:
        with store.writing() as connection:
            assert cancel_job(connection, read_job(connection, run.id))

    with pytest.raises(LeaseLostError):
        work(store, Grading({1: cancel}))
    assert stored(store, run).status is JobStatus.CANCELLED
    with store.reading() as connection:
        assert len(list_items(connection, run.id, PageRequest(limit=100)).items) == 16


def test_a_deleted_eval_takes_the_run_from_its_worker(store: Store) -> None:
    run = new_run(store)

    def delete() -> None:
        with store.writing() as connection:
            remove_eval(connection, run.eval_id or "")

    with pytest.raises(LeaseLostError):
        work(store, Grading({1: delete}))
    with store.reading() as connection:
        assert connection.execute(select(eval_items)).all() == []
        assert connection.execute(select(jobs)).all() == []


def test_a_run_that_kills_its_workers_fails_in_the_end(store: Store) -> None:
    run = new_run(store)
    for _ in range(1 + 5):  # the first has read the rows, and so has come further
        with pytest.raises(KilledError):
            work(store, Grading({0: raise_killed}))
        with store.writing() as connection:
            connection.execute(update(jobs).values(lease_expires_at=None))
    work(store, Grading())
    failed = stored(store, run)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert "5 times" in failed.error.message
