"""What a training job's process is told, and what it leaves: one folder, one JSON file for each.

`job.json` is there before the process starts. It writes `started.json` as soon as it knows what the job comes to, and
`check_prompts.json` beside it; `training/` while it trains; `result.json` or `error.json` at its end. Every file is there whole or
not at all. Only one process works in a folder at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fettle.answering.check_prompts import CHECK_PROMPTS_FILE, read_check_prompts, write_check_prompts
from fettle.errors import disk_errors_explained
from fettle.files import write_atomically
from fettle.models.precision import Precision
from fettle.records import Prompt

_Record = TypeVar("_Record", bound=BaseModel)
MAX_EPOCHS, MAX_BATCH_SIZE, MAX_JOB_SEED = 50, 256, 2**31 - 1
MAX_LEARNING_RATE_MULTIPLIER = 500.0
"""Of a new job. No rate above 1 trains, and the highest that fits a base model is 2e-3 (`derived_learning_rate`): with a larger
multiplier it would be above 1 there. Larger models, whose rates are lower, do not train with 500 times what fits either."""
MIN_LEARNING_RATE_MULTIPLIER = 1e-4
"""Of a new job. Steps of a ten-thousandth of what fits leave a model as it was, so nobody needs less; and the rate is above
the least that a run takes (`RunSettings`), whatever the sizes of the base model and of the batch."""


class FileRecord(BaseModel):
    """What lies in a file: frozen, with no field but the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingJob(FileRecord):
    """`job.json`: what to train, and how. None: derived from the data."""

    training_file: Path
    """Chat rows, JSON Lines."""
    validation_file: Path | None = None
    model: str | None = None
    """The base model, as `resolve_model` takes it; None: the embedded one."""
    adapter: Path | None = None
    """The folder of an adapter of this base model that is trained further; None: a fresh one."""
    epochs: int | None = Field(default=None, ge=1, le=MAX_EPOCHS)
    batch_size: int | None = Field(default=None, ge=1, le=MAX_BATCH_SIZE)
    """Rows per optimiser step."""
    learning_rate_multiplier: float | None = Field(default=None, gt=0)
    """Of the rate that fits the base model and the batch size."""
    seed: int = Field(default=0, ge=0, le=MAX_JOB_SEED)
    precision: Precision = Precision.AUTO
    kept_epochs: int = Field(default=3, ge=0)
    """The weights of so many last epochs stay in `training/epochs`."""
    max_row_tokens: int | None = Field(default=None, ge=2)
    """Longer rows are cut at their end; None: at what the model takes."""


class Hyperparameters(FileRecord):
    """What a job is really trained with."""

    epochs: int
    batch_size: int
    learning_rate_multiplier: float


class RowCounts(FileRecord):
    """What became of a file's rows."""

    num_rows: int
    """That take part."""
    num_tokens: int
    """Of all rows of the file, as rendered, each counted once and no further than it is looked at."""
    num_truncated: int = 0
    """Of those that take part: cut at their end because they were too long."""
    num_skipped: int = 0
    """That take no part: nothing that could be trained is left of them."""
    num_partly_trained: int = 0
    """Of those that take part: one of their answers is not learned, or not as a whole (`TokenisedExample.num_untrained_turns`)."""


class TrainingStarted(FileRecord):
    """`started.json`: what a job comes to."""

    hyperparameters: Hyperparameters
    learning_rate: float
    """Peak, after the multiplier."""
    precision: Precision
    num_steps: int
    base_sha256: str
    """Of all that decides what the base model says."""
    template_sha256: str
    """Of its chat template."""
    max_tokens: int
    """What rows are cut at."""
    train: RowCounts
    valid: RowCounts | None
    """None: there is no validation file."""

    @property
    def num_trained_tokens(self) -> int:
        """What a job is said to have trained: rendered tokens of all epochs."""
        return self.train.num_tokens * self.hyperparameters.epochs


class TrainingFinished(FileRecord):
    """`result.json`: what a job has come to."""

    adapter: str
    """A PEFT folder, from the job's folder."""
    started: TrainingStarted
    num_trained_tokens: int
    seconds: float
    """Of steps and evaluations, all lives of the process together."""
    peak_memory_bytes: int


class TrainingFailed(FileRecord):
    """`error.json`: why a job has come to nothing."""

    code: str
    message: str
    """What is wrong and what to change, for the user; no path of this machine."""
    param: str | None = None
    """The field of the request that it is about."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The folder of one training job."""

    path: Path

    @property
    def training(self) -> Path:
        """Where the run keeps its events, its checkpoints and what comes of it."""
        return self.path / "training"

    @property
    def events(self) -> Path:
        """The run's event stream (`fettle.training.events`)."""
        return self.training / "events.jsonl"

    @property
    def is_there(self) -> bool:
        """Whether it says what to train."""
        return (self.path / "job.json").exists()

    def forget_remains(self) -> None:
        """Remove what a process went on writing after somebody had removed the folder: it is not whole."""
        if not self.is_there:
            shutil.rmtree(self.training, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Within it no other process works here; False: one does already."""
        with disk_errors_explained(self.path):
            file = (self.path / ".lock").open("a")
        with file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def write_job(self, job: TrainingJob) -> None:
        """Say what is to be trained."""
        self._write("job.json", job)

    def read_job(self) -> TrainingJob:
        """What is to be trained.

        Raises:
            ValidationError: The file is not as `TrainingJob` says.
        """
        return TrainingJob.model_validate_json((self.path / "job.json").read_bytes())

    def write_started(self, started: TrainingStarted) -> None:
        """Say what the job comes to."""
        self._write("started.json", started)

    def read_started(self) -> TrainingStarted | None:
        """What the job comes to; None: it is not known yet."""
        return self._read("started.json", TrainingStarted)

    def write_finished(self, finished: TrainingFinished) -> None:
        """Say that all is done."""
        self._write("result.json", finished)

    def read_finished(self) -> TrainingFinished | None:
        """What came of it; None: it is not done."""
        return self._read("result.json", TrainingFinished)

    def write_failed(self, failed: TrainingFailed) -> None:
        """Say that nothing comes of it."""
        self._write("error.json", failed)

    def read_failed(self) -> TrainingFailed | None:
        """Why nothing comes of it; None: nothing is known to be wrong."""
        return self._read("error.json", TrainingFailed)

    def forget_failure(self) -> None:
        """An earlier life's error is not this one's."""
        (self.path / "error.json").unlink(missing_ok=True)

    def write_check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Leave prompts on which a server shows that it answers as was trained."""
        write_check_prompts(self.path, prompts)

    @property
    def check_prompts(self) -> Path:
        """The file of these prompts."""
        return self.path / CHECK_PROMPTS_FILE

    def read_check_prompts(self) -> tuple[Prompt, ...]:
        """These prompts."""
        return read_check_prompts(self.path)

    def _write(self, name: str, record: BaseModel) -> None:
        write_atomically(self.path / name, record.model_dump_json(indent=1))

    def _read(self, name: str, kind: type[_Record]) -> _Record | None:
        with contextlib.suppress(FileNotFoundError):
            return kind.model_validate_json((self.path / name).read_bytes())
        return None
