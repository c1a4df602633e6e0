"""Why a job has failed, for its user: which error means what, and what they can change. No paths of this machine, no tracebacks."""

from __future__ import annotations

import re

from fettle.errors import ConfigError, DataError, DiskFullError, DivergedError, FettleError, ModelError, ResourceError
from fettle.jobs.job_folder import TrainingFailed
from fettle.jobs.training_rows import BadTrainingFileError, FileRole

_LINE = re.compile(r"^(training|validation)_file:(\d+)")
_FOLDERS = re.compile(r"(?<![\w/])/(?:[^\s/'\"]+/)+")


class DeletedModelError(ModelError):
    """The tuned model that a job should train further is gone.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The model `{name}`, which this job should train further, was deleted after the job was created"
        )


def failure_of(error: Exception) -> TrainingFailed:
    """What to tell the user of an error.

    >>> failure_of(DivergedError("the training loss is nan at step 3: training has diverged")).code
    'training_diverged'
    """
    match error:
        case BadTrainingFileError():
            return TrainingFailed(code=error.code, message=error.describe(), param=error.role.value)
        case DataError():
            is_validation = (error.where or "").startswith(FileRole.VALIDATION.value)
            param = FileRole.VALIDATION.value if is_validation else FileRole.TRAINING.value
            message = _LINE.sub(r"Line \2 of the \1 file", _without_folders(error.describe()))
            return TrainingFailed(code=f"invalid_{param}", message=message, param=param)
        case DivergedError():
            return _failed("training_diverged", error, "Use a smaller learning_rate_multiplier, or a larger batch_size")
        case DiskFullError():
            return _failed("disk_full", error, "Free some space on the server, and create the job again")
        case ResourceError():
            return _failed("out_of_memory", error, "Use a smaller base model, or shorter examples")
        case DeletedModelError():
            return _failed("model_not_available", error, "Create the job again with another model")
        case ModelError():
            return _failed("model_not_available", error, "Use another base model, or restore its files on the server")
        case ConfigError():
            return _failed("invalid_hyperparameters", error, error.remedy or "Change them")
        case _:
            message = "The job failed because of an error in the server; its log says more."
            return TrainingFailed(code="server_error", message=message)


def _failed(code: str, error: FettleError, remedy: str) -> TrainingFailed:
    problem = _without_folders(error.problem).rstrip(".")
    return TrainingFailed(code=code, message=f"{problem[:1].upper()}{problem[1:]}. {remedy}.")


def _without_folders(text: str) -> str:
    """A text in which files are called by their names alone.

    >>> _without_folders("No such file: '/home/me/model/config.json'")
    "No such file: 'config.json'"
    """
    return _FOLDERS.sub("", text)
