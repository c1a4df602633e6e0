"""What a job is going to take, said before it is created: it is prepared as it would be, and one step of it is measured."""

from __future__ import annotations

import time

from fettle.errors import memory_errors_explained
from fettle.jobs.job_estimate import JobEstimate
from fettle.jobs.job_folder import TrainingJob
from fettle.jobs.prepared_job import prepare_job
from fettle.jobs.training_rows import LEAST_TRAINING_ROWS, FileRole
from fettle.training.expected import expected_cost


def estimate_job(job: TrainingJob) -> JobEstimate:
    """Prepare a job and measure one step. Nothing is kept of either.

    Raises:
        FettleError: What the job would fail with.
    """
    began = time.perf_counter()
    ready = prepare_job(job, least_rows=LEAST_TRAINING_ROWS)
    seconds_to_prepare = time.perf_counter() - began
    with memory_errors_explained("measuring one training step"):
        cost = expected_cost(ready.loaded, ready.train.rows, ready.valid_rows, ready.settings, start_from=job.adapter)
    said = {FileRole.TRAINING: ready.train.warnings, FileRole.VALIDATION: ready.valid.warnings if ready.valid else ()}
    return JobEstimate(
        started=ready.started,
        seconds=seconds_to_prepare + cost.seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
        max_tokens_at_once=cost.max_tokens,
        recomputes=cost.recomputes,
        warnings=tuple(f"{role.value}: {text}" for role, texts in said.items() for text in texts),
    )
