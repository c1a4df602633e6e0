"""A training's event stream as the API tells it: one entry for each step, with what was measured after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fettle.training.events import TrainingEvent

COLUMNS = (
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
"""Of a results file; clients know the first five in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """What is known of one step. Losses in nats, means over trained tokens; accuracies 0 to 1."""

    step: int
    total_steps: int
    seconds: float
    train_loss: float
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_accuracy: float | None = None
    epoch_folder: str | None = None
    """Where the weights after this step lie, from the run's folder, where it ends an epoch."""

    @property
    def message(self) -> str:
        """The event in words that log-reading clients know."""
        parts = [f"training loss={self.train_loss:.2f}"]
        if self.valid_loss is not None:
            parts.append(f"validation loss={self.valid_loss:.2f}")
        if self.full_valid_loss is not None:
            parts.append(f"full validation loss={self.full_valid_loss:.2f}")
        return f"Step {self.step}/{self.total_steps}: {', '.join(parts)}"

    @property
    def metrics(self) -> dict[str, Any]:
        """What an event or a checkpoint shows of it, without what was not measured."""
        values = {
            "step": self.step,
            "train_loss": self.train_loss,
            "train_mean_token_accuracy": self.train_accuracy,
            "valid_loss": self.valid_loss,
            "valid_mean_token_accuracy": self.valid_accuracy,
            "full_valid_loss": self.full_valid_loss,
            "full_valid_mean_token_accuracy": self.full_valid_accuracy,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def row(self) -> list[Any]:
        """A line of the results file; None: an empty cell."""
        return [
            self.step,
            self.train_loss,
            self.train_accuracy,
            self.valid_loss,
            self.valid_accuracy,
            self.full_valid_loss,
            self.full_valid_accuracy,
        ]


def merged_steps(events: Sequence[TrainingEvent]) -> list[StepMetrics]:
    """One entry for each step of the stream; evaluations and checkpoints go to the step that they follow."""
    steps: list[StepMetrics] = []
    for event in events:
        if event.train_loss is not None:
            steps.append(
                StepMetrics(
                    step=event.step,
                    total_steps=event.num_steps,
                    seconds=event.seconds,
                    train_loss=event.train_loss,
                    train_accuracy=event.train_accuracy,
                )
            )
        elif steps:
            steps[-1] = _with(steps[-1], event)
    return steps


def thinned(steps: Iterable[StepMetrics], *, most: int) -> list[StepMetrics]:
    """Of very many steps one in k, and all after which something was measured, and the last."""
    kept = []
    for step in steps:
        every = -(-step.total_steps // most)
        has_more = step.valid_loss is not None or step.full_valid_loss is not None or step.epoch_folder is not None
        if step.step % every == 0 or has_more or step.step == step.total_steps:
            kept.append(step)
    return kept


def _with(step: StepMetrics, event: TrainingEvent) -> StepMetrics:
    seconds = step.seconds + event.seconds
    if event.epoch_folder is not None:
        return replace(step, epoch_folder=event.epoch_folder, seconds=seconds)
    step = replace(step, valid_loss=event.valid_loss, valid_accuracy=event.valid_accuracy, seconds=seconds)
    if event.is_full_evaluation:  # whoever reads the small ones alone sees these too
        return replace(step, full_valid_loss=event.valid_loss, full_valid_accuracy=event.valid_accuracy)
    return step
