"""Estimates jobs, each in a process of its own, one at a time: whoever answers requests neither loads a model nor measures."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress

from fettle.errors import BusyError, FettleError
from fettle.jobs.job_estimate import EstimateOutcome, JobEstimate
from fettle.jobs.job_folder import TrainingFailed, TrainingJob

_logger = logging.getLogger("fettle.estimates")
_RETRY_SECONDS = 10.0
_FAULT = TrainingFailed(
    code="server_error", message="The estimate failed because of an error in the server; its log says more."
)


class EstimateFailedError(FettleError):
    """There is no estimate, for what the job itself would fail with.

    Args:
        failed: Why.
    """

    def __init__(self, failed: TrainingFailed) -> None:
        self.failed = failed
        super().__init__(failed.message)


class Estimator:
    """Estimates one job at a time.

    Args:
        seconds: How long one may take.
    """

    def __init__(self, seconds: float = 300.0) -> None:
        self._seconds = seconds
        self._is_busy = False

    async def estimate(self, job: TrainingJob) -> JobEstimate:
        """What a job would take. Who cancels it ends the process too.

        Raises:
            BusyError: Another one is being estimated.
            EstimateFailedError: The job would fail, or could not be estimated in time.
        """
        if self._is_busy:
            raise BusyError(
                "another job is being estimated, and there is one estimate at a time",
                remedy="ask again a little later",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._is_busy = True
        try:
            return await self._measured(job)
        finally:
            self._is_busy = False

    async def _measured(self, job: TrainingJob) -> JobEstimate:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "fettle.jobs.estimate_process", job.model_dump_json()),
            stdin=asyncio.subprocess.PIPE,  # closes when this process ends, and the other one ends with it
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, log = await asyncio.wait_for(_read(process), self._seconds)
        except TimeoutError as error:
            message = (
                f"No step was measured within {self._seconds:g} seconds. Estimate a part of the file, or a smaller base model, or "
                "try again when less is going on."
            )
            raise EstimateFailedError(TrainingFailed(code="estimate_timeout", message=message)) from error
        finally:
            await _end(process)
        lines = out.strip().splitlines()
        outcome = EstimateOutcome.model_validate_json(lines[-1]) if process.returncode == 0 and lines else None
        if outcome is not None and outcome.estimate is not None:
            return outcome.estimate
        failed = _FAULT if outcome is None or outcome.failed is None else outcome.failed
        if failed.code == _FAULT.code:
            _logger.error("no estimate, exit code %s: %s", process.returncode, log.decode(errors="replace"))
        raise EstimateFailedError(failed)


async def _read(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """All that it writes, until it has ended; its standard input stays open meanwhile."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, log = await asyncio.gather(process.stdout.read(), process.stderr.read())
    await process.wait()
    return out, log


async def _end(process: asyncio.subprocess.Process) -> None:
    """Leave nothing behind, whatever has happened here."""
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
