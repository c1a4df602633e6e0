"""A training job that is ready to start: its model loaded, its files read, everything derived that was left open."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.jobs.hyperparameters import run_settings, used_hyperparameters
from fettle.jobs.job_folder import TrainingJob, TrainingStarted
from fettle.jobs.rows import JobRows, read_job_rows
from fettle.jobs.training_rows import FileRole
from fettle.models.load import LoadedModel, load_model
from fettle.models.precision import keep_choice
from fettle.models.resolve import resolve_model
from fettle.records import TokenisedExample
from fettle.settings import get_settings
from fettle.training.batches import num_steps_per_epoch
from fettle.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """What is known of a job before its first step."""

    loaded: LoadedModel
    train: JobRows
    valid: JobRows | None
    settings: TrainingSettings
    started: TrainingStarted

    @property
    def valid_rows(self) -> tuple[TokenisedExample, ...]:
        """None where there is no validation file."""
        return () if self.valid is None else self.valid.rows


def prepare_job(job: TrainingJob, *, least_rows: int = 1) -> PreparedJob:
    """Load the model and read the files.

    Args:
        job: What to train.
        least_rows: How many rows the training file must have; a job's file was counted when it came in.

    Raises:
        DataError: A file cannot be trained or evaluated on.
        ModelError: The base model cannot be loaded.
        ConfigError: The hyperparameters do not go together.
    """
    loaded = load_model(resolve_model(job.model), job.precision)
    keep_choice(get_settings().home)  # a job that goes on must be computed as it was
    max_tokens = min(loaded.max_tokens, job.max_row_tokens or loaded.max_tokens)
    train = read_job_rows(
        job.training_file, loaded.renderer, FileRole.TRAINING, max_tokens=max_tokens, least=least_rows
    )
    valid = None
    if job.validation_file is not None:
        valid = read_job_rows(job.validation_file, loaded.renderer, FileRole.VALIDATION, max_tokens=max_tokens)
    used = used_hyperparameters(job, train.counts.num_rows + train.counts.num_skipped)
    settings = run_settings(job, used, num_rows=train.counts.num_rows, num_parameters=loaded.model.num_parameters())
    assert settings.learning_rate is not None, "it was derived"
    started = TrainingStarted(
        hyperparameters=used,
        learning_rate=settings.learning_rate,
        precision=loaded.precision,
        num_steps=num_steps_per_epoch(train.counts.num_rows, used.batch_size) * used.epochs,
        base_sha256=loaded.source.sha256(),
        template_sha256=loaded.renderer.template.sha256,
        max_tokens=max_tokens,
        train=train.counts,
        valid=None if valid is None else valid.counts,
    )
    return PreparedJob(loaded=loaded, train=train, valid=valid, settings=settings, started=started)
