"""The process that trains one job: `python -m fettle.jobs.training_process FOLDER`; what lies in the folder says `job_folder`.

It may be ended at any moment and started again: it goes on from its last checkpoint to the same result. Its standard input is its
lifeline, a pipe that whoever starts it holds and never writes to. SIGTERM pauses it: it writes a checkpoint after the step that it
is in. SIGINT is for whoever started it.

Exit codes: 0 the job is done (`result.json`), 2 it has failed (`error.json`), 75 it was paused, 76 another process works in the
folder; any other, a negative one included, says that the process was ended and may be started again.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import EXIT_BUSY, EXIT_PAUSED, EXIT_USER, TrainingPausedError
from fettle.jobs.failures import failure_of
from fettle.jobs.job_folder import JobFolder, TrainingFinished, TrainingJob
from fettle.settings import keep_freed_memory, let_others_run
from fettle.training.lifeline import end_with_parent

if TYPE_CHECKING:
    from fettle.jobs.rows import JobRows
    from fettle.models.load import LoadedModel
    from fettle.training.settings import TrainingSettings


class PauseSignal:
    """SIGTERM: taken up by the training loop while that runs; before and after it there is nothing to save."""

    def __init__(self) -> None:
        self._was_sent = self._is_waited_for = False
        signal.signal(signal.SIGTERM, self._take)

    @contextmanager
    def taken_up(self) -> Iterator[None]:
        """Within it `was_sent` is asked."""
        self._is_waited_for = True
        yield
        self._is_waited_for = False

    def was_sent(self) -> bool:
        """Whether a pause is wanted."""
        return self._was_sent

    def _take(self, *_: object) -> None:
        self._was_sent = True
        if not self._is_waited_for:
            os._exit(EXIT_PAUSED)


def main() -> None:
    """Train the job of a folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pause = PauseSignal()
    end_with_parent()
    let_others_run()
    keep_freed_memory()
    folder = JobFolder(Path(sys.argv[1]))
    with folder.locked() as is_ours:
        if not is_ours:
            sys.exit(EXIT_BUSY)
        if folder.read_finished() is not None:
            return
        folder.forget_failure()
        try:
            train_job(folder, pause)
        except TrainingPausedError:
            sys.exit(EXIT_PAUSED)
        except Exception as error:
            traceback.print_exc()  # for the log of whoever runs the server
            folder.write_failed(failure_of(error))
            sys.exit(EXIT_USER)


def train_job(folder: JobFolder, pause: PauseSignal) -> None:
    """Train the job of a folder, or go on where an earlier life was ended, and show that what came of it is at work.

    Raises:
        TrainingPausedError: A pause was wanted.
        FettleError: The job cannot be trained.
    """
    from fettle.jobs.prepared_job import prepare_job
    from fettle.training.loop import train

    job = folder.read_job()
    ready = prepare_job(job)
    folder.write_started(ready.started)
    folder.write_check_prompts(ready.train.check_prompts)
    with pause.taken_up():
        result = train(
            ready.loaded,
            ready.train.rows,
            ready.valid_rows,
            ready.settings,
            folder=folder.training,
            run_key=_run_key(job, ready.loaded, ready.settings),
            start_from=job.adapter,
            wants_pause=pause.was_sent,
        )
    _require_at_work(ready.loaded, result.tuned, ready.train)
    folder.write_finished(
        TrainingFinished(
            adapter=result.tuned.relative_to(folder.path).as_posix(),
            started=ready.started,
            num_trained_tokens=ready.started.num_trained_tokens,
            seconds=result.seconds,
            peak_memory_bytes=result.peak_memory_bytes,
        )
    )


def _run_key(job: TrainingJob, loaded: LoadedModel, settings: TrainingSettings) -> str:
    """A hash of everything that can change the result: with another one, nothing of what lies in the folder is gone on from."""
    from dataclasses import asdict

    from fettle.files import sha256_of_file, sha256_of_json

    files = [job.training_file, job.validation_file]
    files += sorted(job.adapter.glob("adapter_*")) if job.adapter is not None else []
    parts = {
        "files": [None if file is None else sha256_of_file(file) for file in files],
        "model": loaded.source.sha256(),
        "precision": loaded.precision.value,
        "max_row_tokens": job.max_row_tokens,
        "settings": asdict(settings),
    }
    return sha256_of_json(parts)


def _require_at_work(loaded: LoadedModel, adapter: Path, rows: JobRows) -> None:
    """Show that the adapter changes what the model says, and is answered with as it was trained.

    Raises:
        IntegrityError: It does not, or is not.
    """
    from fettle.answering.engines.plain import local_engine

    engine = local_engine(loaded, adapter=adapter)
    try:
        engine.require_adapter_active(rows.check_prompts)
        engine.require_as_trained(rows.check_prompts)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
