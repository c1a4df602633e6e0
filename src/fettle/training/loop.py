"""The training loop: evaluate if due, save if due, step, log.

One loop for every algorithm and for every process of a run. A run is a function of its data, model and settings: killed anywhere
and started again it takes the same steps to the same weights, bit for bit on the same machine with as many processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import IntegrityError, memory_errors_explained
from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.report_records import TrainingCost
from fettle.training.batches import batch_at, num_steps_per_epoch
from fettle.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from fettle.training.computing import Computing
from fettle.training.events import EventStream, EventWriter, TrainingEvent, read_events
from fettle.training.helpers import Job, as_launched, num_threads_of_each
from fettle.training.led_division import team_for
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from fettle.training.memory_plan import plan_memory
from fettle.training.result import TrainingResult, cost_of, result_of
from fettle.training.settings import TrainingSettings, derived_learning_rate, learning_rate_at
from fettle.training.team import Team

if TYPE_CHECKING:
    import torch

_SHARE_OF_SAVING = 0.05
"""Checkpoints of whole models take seconds: no more than this share of a run goes into them."""
_CHEAP_SAVE_SECONDS = 0.5
_EVENTS = "events.jsonl"


def train(
    loaded: LoadedModel,
    train_rows: Sequence[TokenisedExample],
    valid_rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    *,
    folder: Path,
    run_key: str,
    on_event: Callable[[TrainingEvent], None] | None = None,
    planned: TrainingCost | None = None,
) -> TrainingResult:
    """Train an adapter or all weights, or go on where an earlier call in `folder` was cut off.

    The base model is given back as it was. What the trained step with the lowest validation loss left lies in `folder/adapter` or
    `folder/model`, even where no step was better than none. Under `torchrun` every process calls this with the same arguments;
    otherwise this one starts the others that the settings ask for, and ends them.

    Args:
        loaded: The base model.
        train_rows: What it learns from.
        valid_rows: What decides which step was the best.
        settings: Of the run; the number of processes may be another one where a run is continued.
        folder: For checkpoints, events and what comes of it.
        run_key: Says which run this is: hash of data, model and settings.
        on_event: Is told of every event.
        planned: What the run is expected to take, for its event stream; None: its memory is planned here.

    Raises:
        IntegrityError: A loss or gradient is not finite, an adapter is on the model already, or its weights are not held as the
            method wants them.
        ResourceError: The machine's memory does not suffice, or one of several processes has ended.
        DiskFullError: No space for a checkpoint.
    """
    settings = as_launched(settings)
    max_tokens, recomputes = _way(loaded, train_rows, settings, planned, read_events(folder / _EVENTS).planned)
    job = Job(
        source=loaded.source,
        precision=loaded.precision,
        base_weights=loaded.base_weights,
        train_rows=tuple(train_rows),
        valid_rows=tuple(valid_rows),
        settings=settings,
        folder=folder,
        run_key=run_key,
        max_tokens=max_tokens,
        recomputes=recomputes,
        num_threads=num_threads_of_each(settings.processes),
    )
    with team_for(loaded, job) as team:
        return take_part(loaded, job, team, on_event=on_event, planned=planned)


def _way(
    loaded: LoadedModel,
    rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    planned: TrainingCost | None,
    first: TrainingCost | None,
) -> tuple[int, bool]:
    """The tokens that are run at once, and whether layers are computed again: as planned, else as the memory wants it.

    A run that goes on runs no more at once than when it began, so that it goes on bit for bit.
    """
    if planned is not None and planned.max_tokens is not None:
        max_tokens, recomputes = planned.max_tokens, planned.recomputes
    else:
        with memory_errors_explained("planning the training"):
            plan = plan_memory(loaded, rows, settings)
        max_tokens, recomputes = plan.max_tokens, plan.recomputes
    begun_with = None if first is None or settings.micro_batch_tokens is not None else first.max_tokens
    return min(max_tokens, begun_with or max_tokens), recomputes


def take_part(
    loaded: LoadedModel,
    job: Job,
    team: Team,
    *,
    on_event: Callable[[TrainingEvent], None] | None = None,
    planned: TrainingCost | None = None,
) -> TrainingResult:
    """One process's part of a run; see `train`."""
    run = _Run(loaded, job, team, on_event)
    try:
        with memory_errors_explained("training"):
            run.restore(planned)
            while not run.is_over:
                if run.evaluation_is_due:
                    run.evaluate()
                if run.save_is_due:
                    run.save()
                if not run.is_over:
                    run.step()
            return run.finish()
    finally:
        run.release()


class _Run:
    def __init__(
        self, loaded: LoadedModel, job: Job, team: Team, on_event: Callable[[TrainingEvent], None] | None
    ) -> None:
        import torch

        from fettle.models.understood import require_understood
        from fettle.training.trainable import trainable

        forget_peak_memory(loaded.model.device)
        self._model = loaded.model
        self._job, self._settings, self._team = job, (settings := job.settings), team
        self._events_file = job.folder / _EVENTS
        self._events = EventWriter(self._events_file, on_event)
        self._steps_per_epoch = num_steps_per_epoch(len(job.train_rows), settings.batch_size)
        self._num_steps = self._steps_per_epoch * settings.epochs
        self._peak = settings.learning_rate or derived_learning_rate(self._model.num_parameters(), settings.method)
        if loaded.plain_reason is None:
            require_understood(self._model)
        self._computing = Computing(loaded=loaded, team=team, max_tokens=job.max_tokens, recomputes=job.recomputes)
        self._trainable = trainable(loaded, settings)
        self._parameters = self._trainable.masters
        self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=self._peak, weight_decay=0.0, fused=True)
        self._progress = Progress(run_key=job.run_key)
        self._last_saved = -1
        self._saved_at, self._save_seconds = time.perf_counter(), 0.0
        self._last_evaluated = -1

    def restore(self, planned: TrainingCost | None) -> None:
        """Go on from the newest whole checkpoint of this run, and tell the listener what it had already logged."""
        self._team.require_same("what is trained", self._job.run_key)
        found = load_checkpoint(self._job.folder / "checkpoints", self._job.run_key)
        stream = read_events(self._events_file)
        if found is None or any(f"now.{name}" not in found[1] for name in self._parameters):  # or of an older version
            stream = EventStream()
        else:
            self._take_up(*found)
            # Steps after the checkpoint are taken again, and so are their events.
            stream = stream if self._progress.is_finished else stream.up_to(self._progress.step)
            self._last_saved, self._last_evaluated = self._progress.step, stream.last_evaluation
        self._team.require_same("where the run stands", (self._progress, self._last_evaluated))
        if self._team.leads:  # all have read the file
            self._events.restart(replace(stream, planned=stream.planned or planned))

    def _take_up(self, progress: Progress, tensors: Mapping[str, torch.Tensor]) -> None:
        import torch

        self._progress = progress
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"now.{name}"])
                self._best[name] = tensors[f"best.{name}"].to(parameter.device)
                state = {
                    key: tensors[f"adam.{key}.{name}"].to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"adam.{key}.{name}" in tensors
                }
                if state:
                    self._optimiser.state[parameter] = state
        self._trainable.stepped()

    @property
    def is_over(self) -> bool:
        """No step is left to take, and the last evaluation is done."""
        done = self._progress.step >= self._num_steps or self._progress.stopped_early
        return self._progress.is_finished or (done and self._last_evaluated == self._progress.step)

    @property
    def evaluation_is_due(self) -> bool:
        """Before the first step, then evenly over each epoch to the last step."""
        step = self._progress.step
        num_due, num_due_before = (
            at * self._settings.evals_per_epoch // self._steps_per_epoch for at in (step, step - 1)
        )
        return num_due > num_due_before and self._last_evaluated != step

    @property
    def save_is_due(self) -> bool:
        step = self._progress.step
        due = step % self._settings.checkpoint_steps == 0 or self._last_evaluated == step
        is_cheap = self._save_seconds < max(
            _CHEAP_SAVE_SECONDS, _SHARE_OF_SAVING * (time.perf_counter() - self._saved_at)
        )
        return self._team.leads and due and is_cheap and self._last_saved != step

    def evaluate(self) -> None:
        """Measure the validation loss, keep the weights if it is the lowest so far, and decide whether to stop."""
        started = time.perf_counter()
        total, num_tokens = self._computing.summed_loss(self._job.valid_rows)
        total, num_tokens, held = self._team.sums(total, num_tokens, peak_memory_bytes(self._model.device))
        loss = total / num_tokens
        _require_finite(loss, "validation loss", self._progress.step)
        self._last_evaluated = self._progress.step
        if self._progress.step > 0:  # the loss before training is shown, but a run gives the best that it trained
            self._keep_if_best(loss)
        peak = max(self._progress.peak_memory_bytes, int(held))
        self._progress = replace(self._progress, peak_memory_bytes=peak)
        self._team.require_same("the weights", [float(master.detach().sum()) for master in self._parameters.values()])
        self._log(self._event(time.perf_counter() - started, valid_loss=loss))

    def _keep_if_best(self, loss: float) -> None:
        best = self._progress.best_valid_loss
        if best is None or loss < best:
            self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            self._progress = replace(
                self._progress, best_step=self._progress.step, best_valid_loss=loss, evals_since_best=0
            )
            return
        waited = self._progress.evals_since_best + 1
        self._progress = replace(
            self._progress,
            evals_since_best=waited,
            stopped_early=waited >= self._settings.patience and self._progress.step < self._num_steps,
        )

    def step(self) -> None:
        """One optimiser step."""
        import torch

        started = time.perf_counter()
        step = self._progress.step
        indices = batch_at(
            step, num_examples=len(self._job.train_rows), batch_size=self._settings.batch_size, seed=self._settings.seed
        )
        batch = [self._job.train_rows[index] for index in indices]
        self._optimiser.zero_grad(set_to_none=False)  # an adapter's gradients are views of one tensor
        total, num_trained = self._team.sums(*self._computing.add_gradients(batch))
        self._team.add_up(self._gradients())
        for parameter in self._parameters.values():
            if parameter.grad is not None:
                parameter.grad.div_(num_trained)  # the one division: sums above, a mean below
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_grad_norm))
        _require_finite(total, "training loss", step)
        _require_finite(norm, "gradient norm", step)
        if norm == 0.0 and total > 0.0:
            raise IntegrityError(f"no gradient reached what is trained at step {step}", remedy="report this")
        rate = learning_rate_at(
            step,
            num_steps=self._num_steps,
            peak=self._peak,
            warmup_fraction=self._settings.warmup_fraction,
            schedule=self._settings.schedule,
        )
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._trainable.stepped()
        self._progress = replace(self._progress, step=step + 1)
        event = self._event(
            time.perf_counter() - started,
            train_loss=total / num_trained,
            num_tokens=sum(len(example.token_ids) for example in batch),
            num_trained_tokens=int(num_trained),
        )
        self._log(replace(event, learning_rate=rate, grad_norm=norm))

    def _gradients(self) -> list[torch.Tensor]:
        """Those of all parameters; a process that had nothing to do has zeros."""
        import torch

        if self._team.size > 1:
            for parameter in self._parameters.values():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"now.{name}": parameter for name, parameter in self._parameters.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for (name, _), parameter in zip(
            self._parameters.items(), self._optimiser.param_groups[0]["params"], strict=True
        ):
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        started = time.perf_counter()
        save_checkpoint(self._job.folder / "checkpoints", self._progress, tensors)
        self._last_saved, self._saved_at = self._progress.step, time.perf_counter()
        self._save_seconds = self._saved_at - started

    def finish(self) -> TrainingResult:
        """Write the best weights and sum up the events."""
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._best[name])
        self._trainable.stepped()
        if self._team.leads:
            self._trainable.save(self._job.folder)
            if not self._progress.is_finished:
                self._progress = replace(self._progress, is_finished=True)
                self.save()
            stream = read_events(self._events_file)
            if stream.actual is None:
                self._events.finish(
                    cost_of(
                        stream,
                        self._progress,
                        num_processes=self._team.size,
                        max_tokens=self._job.max_tokens,
                        recomputes=self._job.recomputes,
                    )
                )
        self._team.wait()
        return result_of(
            read_events(self._events_file),
            self._progress,
            tuned=self._trainable.place(self._job.folder),
            learning_rate=self._peak,
        )

    def release(self) -> None:
        """Give the base model back as it was."""
        self._trainable.release()

    def _event(
        self,
        seconds: float,
        *,
        train_loss: float | None = None,
        valid_loss: float | None = None,
        num_tokens: int = 0,
        num_trained_tokens: int = 0,
    ) -> TrainingEvent:
        return TrainingEvent(
            step=self._progress.step,
            num_steps=self._num_steps,
            epoch=self._progress.step / self._steps_per_epoch,
            seconds=seconds,
            train_loss=train_loss,
            valid_loss=valid_loss,
            num_tokens=num_tokens,
            num_trained_tokens=num_trained_tokens,
        )

    def _log(self, event: TrainingEvent) -> None:
        if self._team.leads:
            self._events.log(event)


def _require_finite(value: float, what: str, step: int) -> None:
    if not abs(value) < float("inf"):  # also true of NaN
        raise IntegrityError(
            f"the {what} is {value} at step {step}: training has diverged",
            remedy="lower --learning-rate, or use --precision exact; nothing of this step was kept",
        )
