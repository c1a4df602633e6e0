"""A finished run, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fettle.errors import DivergedError
from fettle.models.strength import tuned_sha256
from fettle.report_records import LossPoint, TrainingCost
from fettle.training.checkpoint import Progress
from fettle.training.events import EventStream


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A finished run."""

    tuned: Path
    """What the kept step left: the PEFT folder of an adapter, or the folder of a model where all weights were trained."""
    sha256: str
    """Of its weights, as `tuned_sha256` says it."""
    loss_points: tuple[LossPoint, ...]
    best_step: int
    num_steps: int
    stopped_early: bool
    learning_rate: float
    num_trained_tokens: int
    num_processed_tokens: int
    seconds: float
    peak_memory_bytes: int
    """The most that its processes held together while they trained, the base model included."""
    planned: TrainingCost | None
    """What the run was expected to take, where it was planned."""


def cost_of(
    stream: EventStream, progress: Progress, *, num_processes: int, max_tokens: int, recomputes: bool
) -> TrainingCost:
    """What a run took, all its lives together."""
    return TrainingCost(
        seconds=sum(row.seconds for row in stream.events),
        peak_memory_bytes=progress.peak_memory_bytes,
        num_tokens=sum(row.num_tokens for row in stream.events),
        num_processes=num_processes,
        max_tokens=max_tokens,
        recomputes=recomputes,
        price_per_hour=None if stream.planned is None else stream.planned.price_per_hour,
    )


def result_of(stream: EventStream, progress: Progress, *, tuned: Path, learning_rate: float) -> TrainingResult:
    """The result of a run that has come to its end."""
    actual = stream.actual
    assert actual is not None, "a finished run has written it"
    points = [
        LossPoint(step=row.step, epoch=row.epoch, train_loss=row.train_loss, valid_loss=row.valid_loss)
        for row in stream.events
        if row.epoch_folder is None
    ]
    return TrainingResult(
        tuned=tuned,
        sha256=tuned_sha256(tuned),
        loss_points=tuple(points),
        best_step=progress.best_step,
        num_steps=progress.step,
        stopped_early=progress.stopped_early,
        learning_rate=learning_rate,
        num_trained_tokens=sum(row.num_trained_tokens for row in stream.events),
        num_processed_tokens=actual.num_tokens,
        seconds=actual.seconds,
        peak_memory_bytes=actual.peak_memory_bytes,
        planned=stream.planned,
    )


def require_finite(value: float, what: str, step: int) -> None:
    """Show that a loss or a norm is a finite number.

    Raises:
        DivergedError: It is not.
    """
    if not abs(value) < float("inf"):  # also true of NaN
        raise DivergedError(
            f"the {what} is {value} at step {step}: training has diverged",
            remedy="lower --learning-rate, or use --precision exact; nothing of this step was kept",
        )
