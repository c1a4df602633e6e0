"""A job that this process has claimed: the claim is renewed in the background, and what users did meanwhile is known."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from fettle.errors import FettleError
from fettle.store import jobs
from fettle.store.database import Store
from fettle.store.jobs import JobStatus, Lease, LeaseLostError

_logger = logging.getLogger("fettle.worker")
_RENEWALS_PER_LEASE = 4
_MOST_SECONDS_BETWEEN = 1.0


class HeldJob:
    """Renews a claim until it is left, and gives it back then.

    Args:
        store: Where the job is.
        lease: The claim.
        status: Of the job when it was claimed.
        seconds: How long a renewal holds.
    """

    def __init__(self, store: Store, lease: Lease, status: JobStatus, *, seconds: float) -> None:
        self._store, self.lease, self._status, self._seconds = store, lease, status, seconds
        self._is_lost, self._leaves, self._renewing = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._renew, name=f"holds {lease.job_id}", daemon=True)

    def __enter__(self) -> HeldJob:
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Give the claim back, so that the job can be claimed at once where it is not over."""
        self._leaves.set()
        self._thread.join()
        if not self._is_lost.is_set():
            with self._store.writing() as connection:
                jobs.release(connection, self.lease)

    @property
    def status(self) -> JobStatus:
        """The job's, as of the last renewal.

        Raises:
            LeaseLostError: Another worker has the job.
        """
        if self._is_lost.is_set():
            raise LeaseLostError(f"the claim to job {self.lease.job_id} is lost")
        return self._status

    def renew(self) -> JobStatus:
        """Keep the claim; the job's status now.

        Raises:
            LeaseLostError: Another worker has the job.
            DatabaseAwayError: The database does not answer.
        """
        with self._renewing:  # what was read last is what is remembered
            try:
                with self._store.writing() as connection:
                    self._status = jobs.renew(connection, self.lease, seconds=self._seconds)
            except LeaseLostError:
                self._is_lost.set()
                raise
            return self._status

    def _renew(self) -> None:
        pause = min(_MOST_SECONDS_BETWEEN, self._seconds / _RENEWALS_PER_LEASE)
        while not self._leaves.wait(pause):
            try:
                self.renew()
            except LeaseLostError:
                return
            except (
                FettleError
            ) as error:  # once the claim has run out, somebody else may have the job: the next try tells
                _logger.warning("job %s: %s", self.lease.job_id, error.describe())
            except Exception:  # a thread that ended here would have the claim run out while the work goes on
                _logger.exception("job %s: its claim was not renewed", self.lease.job_id)
