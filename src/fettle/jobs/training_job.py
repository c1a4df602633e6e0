"""What a worker and a training process tell each other, by files in the job's folder.

`job.json` says what to train. The process answers with `started.json` and `training/events.jsonl` while it trains, and with
`result.json` or `failure.json` at its end. It ends with `EXIT_PAUSED` where it was asked to stop, and with `EXIT_BUSY` where an
earlier one is still in the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from fettle.files import write_atomically
from fettle.models.precision import Precision

_T = TypeVar("_T")

EXIT_PAUSED, EXIT_BUSY = 75, 76
_JOB, _STARTED, _RESULT, _FAILURE = "job.json", "started.json", "result.json", "failure.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What is to be trained."""

    training_file: Path
    """Chat rows that were found valid."""
    validation_file: Path | None
    base: str
    """The base model, as `models.resolve.resolve_model` takes it."""
    continues: Path | None
    """Folder of the adapter that training goes on from; None: a fresh one."""
    epochs: int
    batch_size: int
    learning_rate_multiplier: float
    """Of the rate that is derived for the model and the batch."""
    seed: int
    kept_epochs: int
    """How many of the last epochs leave a model behind."""
    precision: Precision = Precision.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStarted:
    """What is known once the rows are tokens."""

    base_sha256: str
    """Of all that decides what the base model says."""
    template_sha256: str
    """Of its chat template."""
    num_steps: int
    num_truncated: int
    """Training rows that were cut to the model's context."""
    num_skipped: int
    """Training rows of which nothing was left to learn."""
    max_tokens: int
    """The model's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJobResult:
    """What was trained."""

    tuned: Path
    """Folder of the adapter."""
    num_steps: int
    num_trained_tokens: int
    """Rendered tokens of the training file, after truncation, times epochs."""
    learning_rate: float
    """Peak."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFailure:
    """Why nothing was trained."""

    code: str
    message: str
    param: str | None = None


def write_training_job(folder: Path, job: TrainingJob) -> None:
    """Say what to train."""
    write_atomically(folder / _JOB, TypeAdapter(TrainingJob).dump_json(job))


def read_training_job(folder: Path) -> TrainingJob:
    """What to train."""
    return TypeAdapter(TrainingJob).validate_json((folder / _JOB).read_bytes())


def write_started(folder: Path, started: TrainingStarted) -> None:
    """Say what the rows have become."""
    write_atomically(folder / _STARTED, TypeAdapter(TrainingStarted).dump_json(started))


def read_started(folder: Path) -> TrainingStarted | None:
    """What the rows have become; None: nobody has read them yet."""
    return _read(folder / _STARTED, TrainingStarted)


def write_result(folder: Path, result: TrainingJobResult) -> None:
    """Say what was trained."""
    write_atomically(folder / _RESULT, TypeAdapter(TrainingJobResult).dump_json(result))


def read_result(folder: Path) -> TrainingJobResult | None:
    """What was trained; None: nothing yet."""
    return _read(folder / _RESULT, TrainingJobResult)


def write_failure(folder: Path, failure: TrainingFailure) -> None:
    """Say why nothing was trained."""
    write_atomically(folder / _FAILURE, TypeAdapter(TrainingFailure).dump_json(failure))


def read_failure(folder: Path) -> TrainingFailure | None:
    """Why nothing was trained; None: no reason is known."""
    return _read(folder / _FAILURE, TrainingFailure)


def _read(file: Path, kind: type[_T]) -> _T | None:
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
