"""The process that estimates one job: `python -m fettle.jobs.estimate_process JOB`, a `TrainingJob` as JSON.

The last line of its standard output is an `EstimateOutcome` as JSON. Its standard input is its lifeline, as that of a training
process is. It may be ended at any moment, for nothing is kept of what it does.
"""

from __future__ import annotations

import signal
import sys
import traceback

from fettle.jobs.failures import failure_of
from fettle.jobs.job_estimate import EstimateOutcome
from fettle.jobs.job_folder import TrainingJob
from fettle.settings import keep_freed_memory, let_others_run
from fettle.training.lifeline import end_with_parent


def main() -> None:
    """Estimate the job of the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    let_others_run()
    keep_freed_memory()
    sys.stdout.write(f"\n{outcome_of(TrainingJob.model_validate_json(sys.argv[1])).model_dump_json()}\n")


def outcome_of(job: TrainingJob) -> EstimateOutcome:
    """The estimate of a job, or what it would fail with."""
    from fettle.jobs.estimate import estimate_job

    try:
        return EstimateOutcome(estimate=estimate_job(job), failed=None)
    except Exception as error:
        traceback.print_exc()  # for the log of whoever runs the server
        return EstimateOutcome(estimate=None, failed=failure_of(error))


if __name__ == "__main__":
    main()
