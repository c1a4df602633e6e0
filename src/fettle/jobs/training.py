"""The main step of a fine-tuning job: a process of its own trains, and this one tells the store what it sees of it.

All that the training needs lies in the job's folder, and all that it says too (`fettle.jobs.training_process`). So whoever claims
the job next starts the process again, and it goes on from its last checkpoint; what was told before is not told twice.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

from fettle.errors import EXIT_BUSY, EXIT_PAUSED, disk_errors_explained
from fettle.jobs.failures import DeletedModelError
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters, folder_of_job
from fettle.jobs.held import HeldJob
from fettle.jobs.job_folder import JobFolder, TrainingJob
from fettle.jobs.outcome import fail_job
from fettle.jobs.publication import Publication
from fettle.jobs.validation import have_copies
from fettle.store.database import DatabaseAwayError, Store, now
from fettle.store.job_log import JobEvent, add_events
from fettle.store.jobs import Job, JobError, JobStatus, change_status, require_held, set_values
from fettle.store.models import NoSuchModelError, TunedModel, base_of, find_model, folder_of
from fettle.store.taught import TRAINING_COPY, VALIDATION_COPY

_logger = logging.getLogger("fettle.worker")
_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_WHILE_BUSY = 2.0
_MOST_CRASHES = 5
_KEPT_EPOCHS = 10
"""More than there are checkpoints: short epochs must not be gone before they were copied."""


class TrainingProcess:
    """One life of a job's training.

    Args:
        store: Where the job is.
        job: What is trained.
        held: The claim to it.
        organization_id: Part of the names of what comes of it.
    """

    def __init__(self, store: Store, job: Job, held: HeldJob, *, organization_id: str) -> None:
        self._store, self._job, self._held = store, job, held
        self._folder = JobFolder(folder_of_job(store.jobs, job.id))
        self._publication = Publication(store, job, held, organization_id=organization_id)

    def run(self, stops: threading.Event) -> None:
        """Train until the end, or until the job is paused or cancelled, or `stops` is set.

        Raises:
            LeaseLostError: Another worker has the job, or it was cancelled.
        """
        self._begin()
        try:
            if self._folder.read_finished() is None and not self._is_trained(stops):
                return
            self._publication.tell(is_over=True)
            result = self._folder.read_finished()
            assert result is not None, "the process has ended well"
            self._publication.succeed(result)
        finally:
            self._publication.keep_partial_results()

    def _is_trained(self, stops: threading.Event) -> bool:
        """Have one life of the training process; whether there is a result."""
        process = self._start()
        try:
            self._watch(process, stops)
        finally:
            _end(process)
        if process.returncode == EXIT_BUSY:
            # Of a worker that was thought dead: its process ends with it, or comes to the result.
            stops.wait(_SECONDS_WHILE_BUSY)
        return self._has_ended_well(process)

    def _begin(self) -> None:
        have_copies(self._store, self._job)
        self._folder.forget_remains()
        self._folder.write_job(self._training_job())
        started = JobEvent(key="started", message="Fine-tuning job started")
        with self._store.writing() as connection:
            if self._held.status is JobStatus.QUEUED:
                first = {} if self._job.started_at else {"started_at": now()}
                change_status(connection, self._job.id, from_=[JobStatus.QUEUED], to=JobStatus.RUNNING, **first)
            require_held(connection, self._held.lease, JobStatus.RUNNING)
            add_events(connection, self._job.id, started)
        self._held.renew()  # until then it would say `queued`, which asks a process to stop

    def _training_job(self) -> TrainingJob:
        request = FineTuningRequest.from_json(self._job.request)
        assert self._job.used is not None, "it was validated"
        used = Hyperparameters(**self._job.used)
        with self._store.reading() as connection:
            try:
                model = find_model(connection, self._job.project_id, request.continues or request.base)
            except NoSuchModelError as error:
                if request.continues is None:
                    raise
                raise DeletedModelError(request.continues) from error
            base = base_of(connection, model)
        return TrainingJob(
            training_file=self._folder.path / TRAINING_COPY,
            validation_file=self._folder.path / VALIDATION_COPY if self._job.validation_file else None,
            model=base.source,
            adapter=folder_of(self._store, model) if isinstance(model, TunedModel) else None,
            epochs=used.n_epochs,
            batch_size=used.batch_size,
            learning_rate_multiplier=used.learning_rate_multiplier,
            seed=request.seed,
            kept_epochs=_KEPT_EPOCHS,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        folder = self._folder.path
        with disk_errors_explained(folder), (folder / "process.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "fettle.jobs.training_process", str(folder)],
                stdin=subprocess.PIPE,  # closes when this process ends, and the other one ends with it
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _watch(self, process: subprocess.Popen[bytes], stops: threading.Event) -> None:
        """Tell what the process says until it has ended."""
        is_asked = False
        while process.poll() is None:
            status = self._held.status
            # Where somebody has removed the folder the next life begins anew, and tells what is new.
            if status is JobStatus.CANCELLED or not self._folder.is_there:
                process.kill()
                process.wait()
                break
            if not is_asked and (stops.is_set() or status is not JobStatus.RUNNING):
                process.send_signal(signal.SIGTERM)  # after the step it writes a checkpoint and ends
                is_asked = True
            if status is JobStatus.RUNNING:
                self._tell()
            try:
                process.wait(_SECONDS_BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                continue

    def _tell(self) -> None:
        try:
            self._publication.tell()
        except DatabaseAwayError as error:  # no reason to stop: it is told once the database answers
            _logger.warning("job %s: %s", self._job.id, error.describe())

    def _has_ended_well(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether there is a result. Otherwise the job has failed, or whoever claims it next goes on."""
        if self._held.status is not JobStatus.RUNNING or process.returncode in (EXIT_PAUSED, EXIT_BUSY):
            return False
        if (failure := self._folder.read_failed()) is not None:
            self._publication.tell(is_over=True)
            fail_job(self._store, self._held, JobError(code=failure.code, message=failure.message, param=failure.param))
            return False
        if process.returncode == 0 and self._folder.read_finished() is not None:
            return True
        self._count_crash(process.returncode)
        return False

    def _count_crash(self, code: int) -> None:
        """A process that dies by itself is started again, but not for ever."""
        num_crashes = self._job.num_crashes + 1
        if num_crashes < _MOST_CRASHES:
            with self._store.writing() as connection:
                set_values(connection, self._held.lease, num_crashes=num_crashes)
            return
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        message = (
            f"The training process ended {how} {num_crashes} times. If it was killed for memory, use a smaller base model, shorter "
            "examples or a smaller batch."
        )
        fail_job(self._store, self._held, JobError(code="server_error", message=message))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind, whatever has happened here."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.kill()
        process.wait()
