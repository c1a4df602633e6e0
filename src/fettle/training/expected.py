"""What a run is going to take, from one measured step: nothing of it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.report_records import TrainingCost
from fettle.training.batches import Batches
from fettle.training.evaluations import Evaluations
from fettle.training.helpers import as_launched, num_threads_of_each, with_threads
from fettle.training.memory import held_memory_bytes
from fettle.training.memory_plan import MemoryPlan, plan_memory
from fettle.training.settings import TrainingSettings
from fettle.training.sft import input_tokens
from fettle.training.shares import shares

_PASSES = 3
"""A step takes about as long as so many forward passes."""


def expected_cost(
    base: LoadedModel,
    train_rows: Sequence[TokenisedExample],
    valid_rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    *,
    start_from: Path | None = None,
    price_per_hour: float | None = None,
) -> TrainingCost:
    """Time and memory of all epochs and evaluations; early stopping may end a run sooner.

    Args:
        base: The base model as it is trained. It computes a few rows, and is given back as it was.
        train_rows: The training examples.
        valid_rows: What evaluations measure.
        settings: Of the run.
        start_from: The folder of the adapter that is trained further; None: a fresh one.
        price_per_hour: Of the machine, in the user's currency.

    Raises:
        ResourceError: The machine has not the memory for it.
    """
    settings = as_launched(settings)
    memory = plan_memory(base, train_rows, settings, start_from=start_from)
    step_seconds = _seconds_per_step(base, train_rows, settings, memory, start_from)
    steps_per_epoch = Batches(train_rows, settings.batch_size, settings.seed).steps_per_epoch
    row_seconds = step_seconds / _PASSES / (len(train_rows) / steps_per_epoch)
    num_evaluated = num_evaluated_rows(steps_per_epoch, valid_rows, settings)
    return TrainingCost(
        seconds=steps_per_epoch * settings.epochs * step_seconds + num_evaluated * row_seconds,
        peak_memory_bytes=max(memory.peak, held_memory_bytes(base.model.device)),
        num_tokens=sum(len(row.token_ids) for row in train_rows) * settings.epochs,
        num_processes=settings.processes,
        max_tokens=memory.max_tokens,
        recomputes=memory.recomputes,
        price_per_hour=price_per_hour,
    )


def num_evaluated_rows(steps_per_epoch: int, valid_rows: Sequence[TokenisedExample], settings: TrainingSettings) -> int:
    """How many rows all evaluations of a run measure together."""
    evaluations = Evaluations(valid_rows=tuple(valid_rows), steps_per_epoch=steps_per_epoch, settings=settings)
    due = (step for step in range(steps_per_epoch * settings.epochs + 1) if evaluations.is_due(step))
    return sum(len(evaluations.rows(step)) for step in due)


def _seconds_per_step(
    base: LoadedModel,
    rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    memory: MemoryPlan,
    start_from: Path | None,
) -> float:
    """Of one of the processes that take the step together, as if it were alone."""
    from fettle.training.accumulate import add_gradients
    from fettle.training.trainable import trainable

    batch = _typical_batch(rows, settings)
    share = max(shares([input_tokens(row) for row in batch], settings.processes), key=len)
    shared = [batch[index] for index in share]
    with with_threads(num_threads_of_each(settings.processes)):
        if base.division is not None:
            return _seconds_per_divided_step(base, shared, memory)
        measured = partial(
            add_gradients,
            base.model,
            max_tokens=memory.max_tokens,
            plainly=base.plain_reason is not None,
            recomputes=memory.recomputes,
        )
        measured_weights = trainable(base, settings, start_from=start_from)
        try:
            measured(batch[:1])  # warms the allocator up
            started = time.perf_counter()
            measured(shared)
            return time.perf_counter() - started
        finally:
            measured_weights.release()


def _seconds_per_divided_step(base: LoadedModel, rows: Sequence[TokenisedExample], memory: MemoryPlan) -> float:
    """By the forward pass of one share, for which the others lend their parts: a backward pass takes all processes at once."""
    from fettle.training.equal_calls import summed_loss_in_equal_calls

    measured = partial(
        summed_loss_in_equal_calls,
        base.model,
        max_tokens=memory.max_tokens,
        most=int,
        plainly=base.plain_reason is not None,
    )
    measured([rows[:1]])  # warms the allocator up
    started = time.perf_counter()
    measured([rows])
    return (time.perf_counter() - started) * (_PASSES + memory.recomputes)


def _typical_batch(rows: Sequence[TokenisedExample], settings: TrainingSettings) -> list[TokenisedExample]:
    """The batch of the first epoch with the median number of tokens: what its rows share, a batch of other rows might not."""
    batches = Batches(rows, settings.batch_size, settings.seed)
    num_full = max(1, batches.num_examples // settings.batch_size)
    return sorted(map(batches.at, range(num_full)), key=lambda batch: sum(len(row.token_ids) for row in batch))[
        num_full // 2
    ]
