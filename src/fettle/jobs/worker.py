"""A worker: claims jobs and does them, one training and one run of an eval at a time; files are read and indexed meanwhile.

Any number of workers share a store. One that is killed leaves its claim to run out; then another goes on with the job.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fettle.errors import FettleError
from fettle.jobs.eval_run import EvalRun
from fettle.jobs.failures import failure_of
from fettle.jobs.held import HeldJob
from fettle.jobs.outcome import fail_job
from fettle.jobs.signs import SignsOfLife
from fettle.jobs.taking_in import StopsWhenAsked, TakingIn
from fettle.jobs.tidying import tidy_job, tidy_jobs
from fettle.jobs.training import TrainingProcess
from fettle.jobs.validation import validate_job
from fettle.retrieval.embedders.registry import embedder_by_name
from fettle.retrieval.vector_stores import empty_expired_indexes
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.store.database import DatabaseAwayError, Store
from fettle.store.files import remove_abandoned_contents, remove_expired_files
from fettle.store.jobs import Job, JobError, JobKind, JobStatus, LeaseLostError, claim, read_job
from fettle.store.traffic import remove_expired
from fettle.store.uploads import expire_uploads

_logger = logging.getLogger("fettle.worker")
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_SWEEPS = 60.0
_SECONDS_AFTER_FAULT = 10.0
_SWEEPS: tuple[Callable[[Store], object], ...] = (
    remove_expired,
    remove_expired_files,
    expire_uploads,
    empty_expired_indexes,
    remove_abandoned_contents,
    tidy_jobs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker works."""

    lease_seconds: float = 15.0
    """How long a claim holds unless it is renewed."""
    organization_id: str = "org-fettle"
    """Part of the names of tuned models."""


class Worker:
    """Does jobs until it is told to stop.

    Args:
        store: Where the jobs are.
        settings: How it works.
    """

    def __init__(self, store: Store, settings: WorkerSettings) -> None:
        self._store, self._settings = store, settings
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._code_runner = BubblewrapRunner()
        self._stops = threading.Event()

    def run(self) -> None:
        """Work until `stop` is called; a training that runs then is brought to a checkpoint."""
        lanes = [
            threading.Thread(target=self._reads_files, name="reads files"),
            threading.Thread(target=self._evaluates, name="evaluates"),
            threading.Thread(target=self._takes_in_files, name="takes in files"),
            threading.Thread(target=self._sweeps, name="sweeps"),
        ]
        with SignsOfLife(self._store, self._name):
            for lane in lanes:
                lane.start()
            self._trains()
            for lane in lanes:
                lane.join()

    def stop(self) -> None:
        """Claim nothing more, and bring what runs to a point from which it can go on."""
        self._stops.set()

    def _reads_files(self) -> None:
        self._work([JobStatus.VALIDATING_FILES], lambda job, held: validate_job(self._store, job, held))

    def _evaluates(self) -> None:
        def evaluate(job: Job, held: HeldJob) -> None:
            EvalRun(self._store, job, held, code_runner=self._code_runner).run(self._stops)

        self._work([JobStatus.RUNNING, JobStatus.QUEUED], evaluate, kind=JobKind.EVAL_RUN)

    def _takes_in_files(self) -> None:
        taking_in = TakingIn(self._store, embedder_by_name, StopsWhenAsked(self._stops))
        while not self._stops.is_set():
            try:
                pause = 0.0 if taking_in.do_next() else _SECONDS_BETWEEN_LOOKS
            except FettleError as error:  # the database or the embedder's endpoint does not answer: it may again
                _logger.warning("%s", error.describe())
                pause = _SECONDS_AFTER_FAULT
            except Exception:  # the files still wait
                _logger.exception("a fault of ours")
                pause = _SECONDS_AFTER_FAULT
            self._stops.wait(pause)

    def _trains(self) -> None:
        def train(job: Job, held: HeldJob) -> None:
            organization = self._settings.organization_id
            TrainingProcess(self._store, job, held, organization_id=organization).run(self._stops)

        self._work([JobStatus.RUNNING, JobStatus.QUEUED], train)

    def _work(
        self,
        statuses: Collection[JobStatus],
        do: Callable[[Job, HeldJob], None],
        *,
        kind: JobKind = JobKind.FINE_TUNING,
    ) -> None:
        while not self._stops.is_set():
            try:
                is_idle = not self._do_next(statuses, do, kind)
            except FettleError as error:  # the database does not answer: it may again
                _logger.warning("%s", error.describe())
                is_idle = True
            except Exception:  # a worker whose lane has ended would look alive and do nothing
                _logger.exception("a fault of ours")
                is_idle = True
            if is_idle:
                self._stops.wait(_SECONDS_BETWEEN_LOOKS)

    def _do_next(self, statuses: Collection[JobStatus], do: Callable[[Job, HeldJob], None], kind: JobKind) -> bool:
        """Do the oldest job that waits; False: none does."""
        seconds = self._settings.lease_seconds
        with self._store.writing() as connection:
            lease = claim(connection, statuses=statuses, owner=self._name, seconds=seconds, kind=kind)
            if lease is None:
                return False
            job = read_job(connection, lease.job_id)
        _logger.info("job %s: claimed as %s", job.id, job.status.value)
        with HeldJob(self._store, lease, job.status, seconds=seconds) as held:
            try:
                do(job, held)
            except LeaseLostError:
                _logger.info("job %s: left, it is not ours any more or is over", job.id)
            except DatabaseAwayError:  # no fault of the job's: whoever claims it next goes on
                raise
            except FettleError as error:
                _logger.error("job %s: %s", job.id, error.describe())
                self._fail(job, held, error)
            except Exception as error:
                _logger.exception("job %s: a fault of ours", job.id)
                self._fail(job, held, error)
        tidy_job(self._store, job.id)
        return True

    def _fail(self, job: Job, held: HeldJob, error: Exception) -> None:
        with self._store.reading() as connection:
            status = read_job(connection, job.id).status
        if status.is_final:
            return
        try:
            fail_job(self._store, held, _reason(job, error), status=status)
        except LeaseLostError:
            _logger.info("job %s: cancelled or claimed by another worker meanwhile", job.id)

    def _sweeps(self) -> None:
        while True:
            sweep(self._store)
            if self._stops.wait(_SECONDS_BETWEEN_SWEEPS):
                return


def _reason(job: Job, error: Exception) -> JobError:
    if job.kind is JobKind.EVAL_RUN and isinstance(error, FettleError):
        return JobError(code="server_error", message=error.describe())
    failure = failure_of(error)
    return JobError(code=failure.code, message=failure.message, param=failure.param)


def sweep(store: Store, parts: Sequence[Callable[[Store], object]] = _SWEEPS) -> None:
    """Delete whatever has had its time. A part that fails does not stop the others: what was promised to go goes.

    Args:
        store: Where it is.
        parts: Each deletes one kind of thing.
    """
    for part in parts:
        try:
            part(store)
        except FettleError as error:
            _logger.warning("%s", error.describe())
        except Exception:
            _logger.exception("a fault of ours")
