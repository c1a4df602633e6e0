"""What is sent to create a fine-tuning job, checked as far as the request alone allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictFloat, StrictInt

from fettle.jobs.fine_tuning import Hyperparameters
from fettle.jobs.job_folder import (
    MAX_BATCH_SIZE,
    MAX_EPOCHS,
    MAX_JOB_SEED,
    MAX_LEARNING_RATE_MULTIPLIER,
    MIN_LEARNING_RATE_MULTIPLIER,
)
from fettle.scoring.openai_graders.registry import read_grader
from fettle.server.errors import ApiError, invalid
from fettle.server.wire import Metadata, RequestBody, Text


def _auto_is_nothing(value: Any) -> Any:
    return None if value == "auto" else value


_AUTO = BeforeValidator(_auto_is_nothing)
_Epochs = Annotated[Annotated[StrictInt, Field(ge=1, le=MAX_EPOCHS)] | None, _AUTO]
_Batch = Annotated[Annotated[StrictInt, Field(ge=1, le=MAX_BATCH_SIZE)] | None, _AUTO]
_Rate = Annotated[  # a whole number is one, too
    StrictFloat, Field(ge=MIN_LEARNING_RATE_MULTIPLIER, le=MAX_LEARNING_RATE_MULTIPLIER)
]
_Multiplier = Annotated[_Rate | None, _AUTO]
_AtLeastOne = Annotated[Annotated[StrictInt, Field(ge=1)] | None, _AUTO]


class SupervisedHyperparameters(RequestBody):
    """Numbers, or the word `auto`, which is as good as nothing."""

    n_epochs: _Epochs = None
    batch_size: _Batch = None
    learning_rate_multiplier: _Multiplier = None

    def as_record(self) -> Hyperparameters:
        """The inside form."""
        return Hyperparameters(
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            learning_rate_multiplier=self.learning_rate_multiplier,
        )


class DpoHyperparameters(SupervisedHyperparameters):
    """Of preference training."""

    beta: Annotated[Annotated[StrictFloat, Field(gt=0, le=2)] | None, _AUTO] = None


class ReinforcementHyperparameters(SupervisedHyperparameters):
    """Of training by graders."""

    compute_multiplier: Annotated[Annotated[StrictFloat, Field(ge=1e-5, le=10)] | None, _AUTO] = None
    eval_interval: _AtLeastOne = None
    eval_samples: _AtLeastOne = None
    reasoning_effort: Annotated[Literal["default", "low", "medium", "high"] | None, _AUTO] = None


class Supervised(RequestBody):
    """Learning from wanted answers."""

    hyperparameters: SupervisedHyperparameters | None = None


class Dpo(RequestBody):
    """Learning from preferences."""

    hyperparameters: DpoHyperparameters | None = None


class Reinforcement(RequestBody):
    """Learning from graders."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters | None = None
    response_format: dict[str, Any] | None = None


class Method(RequestBody):
    """How a model is trained."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None


class Wandb(RequestBody):
    """A run that is shown on Weights & Biases."""

    project: Text
    name: Text | None = None
    entity: Text | None = None
    tags: tuple[Text, ...] = ()


class Integration(RequestBody):
    """Where a job's metrics are sent as well."""

    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(RequestBody):
    """The body of `POST /fine_tuning/jobs`."""

    model: Annotated[Text, Field(min_length=1, max_length=255)]
    training_file: Annotated[Text, Field(min_length=1, max_length=64)]
    validation_file: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    suffix: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_JOB_SEED)] | None = None
    metadata: Metadata | None = None
    method: Method | None = None
    integrations: list[Integration] | None = None
    hyperparameters: SupervisedHyperparameters | None = None
    """The older spelling of `method.supervised.hyperparameters`; beside it, what is given in one of them alone holds."""

    def supervised_hyperparameters(self) -> Hyperparameters:
        """What is asked for, by either spelling or by both.

        Raises:
            ApiError: The spellings contradict each other, another method is asked for, or something that this server does not do.
        """
        if self.integrations:
            message = "Weights & Biases is not configured on this server; leave `integrations` out."
            raise invalid(message, "integrations")
        method = self.method or Method(type="supervised")
        parts = {"supervised": method.supervised, "dpo": method.dpo, "reinforcement": method.reinforcement}
        for name, part in parts.items():
            if part is not None and name != method.type:
                message = f"`method.{name}` is given, and `method.type` is '{method.type}'."
                raise invalid(message, f"method.{name}")
        outer = (self.hyperparameters or SupervisedHyperparameters()).as_record()
        if method.type != "supervised":
            if outer != Hyperparameters():
                message = (
                    f"`hyperparameters` are those of the method 'supervised', and `method.type` is '{method.type}'."
                )
                raise invalid(f"{message} Give `method.{method.type}.hyperparameters` instead.", "hyperparameters")
            if method.type == "reinforcement" and method.reinforcement is None:
                message = "Missing required parameter: 'method.reinforcement'."
                raise ApiError(message, param="method.reinforcement", code="missing_required_parameter")
            if method.reinforcement is not None:
                read_grader(method.reinforcement.grader, "method.reinforcement.grader")
            message = f"The method '{method.type}' is not supported by this server yet; 'supervised' is."
            raise invalid(message, "method.type", "unsupported_value")
        inner = method.supervised.hyperparameters if method.supervised else None
        return _joined(outer, (inner or SupervisedHyperparameters()).as_record())


def _joined(outer: Hyperparameters, inner: Hyperparameters) -> Hyperparameters:
    """What both spellings say together.

    Raises:
        ApiError: They contradict each other.
    """
    given = asdict(outer) | {name: value for name, value in asdict(inner).items() if value is not None}
    for name, value in asdict(outer).items():
        if value is not None and value != given[name]:
            message = (
                f"`hyperparameters.{name}` is {value}, and `method.supervised.hyperparameters.{name}` is {given[name]}; "
                "give it once."
            )
            raise invalid(message, f"hyperparameters.{name}")
    return Hyperparameters(**given)
