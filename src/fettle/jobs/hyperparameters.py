"""The settings of a job's run: what the user gave, and what is derived where nothing was given."""

from __future__ import annotations

from fettle.errors import ConfigError
from fettle.jobs.job_folder import MAX_BATCH_SIZE, Hyperparameters, TrainingJob
from fettle.training.batches import num_steps_per_epoch
from fettle.training.settings import Keep, TrainingSettings, derived_learning_rate, scaled_learning_rate

_ROWS_OF_A_BATCH = 500
"""A batch is 0.2 % of the rows."""
_FEWEST_ROWS, _MOST_ROWS, _SEEN_ROWS, _MOST_SEEN_ROWS = 34, 8333, 100, 25_000
_EPOCHS, _MOST_EPOCHS = 3, 25
_QUICK_VALID_ROWS = 8
_STEPS_OF_AN_EVALUATION, _FEWEST_EVALUATIONS, _MOST_EVALUATIONS = 10, 2, 10


def derived_epochs(num_rows: int) -> int:
    """Passes over so many rows: 3; more where they are few, fewer where they are very many, as the hosted service chooses them.

    >>> [derived_epochs(num_rows) for num_rows in (2, 10, 33, 34, 8333, 8334, 30_000)]
    [25, 10, 3, 3, 3, 2, 1]
    """
    if num_rows < _FEWEST_ROWS:
        return min(_MOST_EPOCHS, _SEEN_ROWS // num_rows)
    return _EPOCHS if num_rows <= _MOST_ROWS else max(1, _MOST_SEEN_ROWS // num_rows)


def derived_batch_size(num_rows: int) -> int:
    """Rows per step: about 0.2 % of them, 1 to 256.

    >>> [derived_batch_size(num_rows) for num_rows in (10, 1_000, 10_000, 1_000_000)]
    [1, 2, 20, 256]
    """
    return min(MAX_BATCH_SIZE, max(1, round(num_rows / _ROWS_OF_A_BATCH)))


def used_hyperparameters(job: TrainingJob, num_rows: int) -> Hyperparameters:
    """What a job is trained with, given how many rows take part.

    >>> used_hyperparameters(TrainingJob(training_file="a.jsonl", epochs=2), 20)
    Hyperparameters(epochs=2, batch_size=1, learning_rate_multiplier=1.0)
    """
    return Hyperparameters(
        epochs=job.epochs or derived_epochs(num_rows),
        batch_size=job.batch_size or derived_batch_size(num_rows),
        learning_rate_multiplier=job.learning_rate_multiplier or 1.0,
    )


def run_settings(job: TrainingJob, used: Hyperparameters, *, num_rows: int, num_parameters: int) -> TrainingSettings:
    """The settings of a job's run: an adapter, the last step kept, small evaluations within epochs.

    Args:
        job: What was asked for.
        used: The hyperparameters.
        num_rows: Of the training file, that take part.
        num_parameters: Of the base model.

    Raises:
        ConfigError: The multiplier makes a learning rate that cannot be.
    """
    fitting_rate = scaled_learning_rate(derived_learning_rate(num_parameters), used.batch_size)
    rate = fitting_rate * used.learning_rate_multiplier
    if rate > 1:
        raise ConfigError(
            f"a learning_rate_multiplier of {used.learning_rate_multiplier:g} makes a learning rate of {rate:g}, and none above 1 "
            "can train anything",
            remedy=f"Use a learning_rate_multiplier below {1 / fitting_rate:.0f}; 1 is what fits the model",
        )
    num_steps = num_steps_per_epoch(num_rows, used.batch_size)
    num_evaluations = max(_FEWEST_EVALUATIONS, min(_MOST_EVALUATIONS, num_steps // _STEPS_OF_AN_EVALUATION))
    return TrainingSettings(
        epochs=used.epochs,
        batch_size=used.batch_size,
        learning_rate=rate,
        evals_per_epoch=min(num_evaluations, num_steps),
        quick_valid_rows=_QUICK_VALID_ROWS,
        evaluates_untrained=False,
        keep=Keep.LAST,
        kept_epochs=job.kept_epochs,
        seed=job.seed,
    )
