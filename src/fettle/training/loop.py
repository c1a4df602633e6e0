"""The training loop: evaluate if due, save if due, step, log.

One loop for every algorithm and for every process of a run. A run is a function of its data, model and settings: killed anywhere
and started again it takes the same steps to the same weights, bit for bit on the same machine with as many processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import IntegrityError, TrainingPausedError, memory_errors_explained
from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.report_records import TrainingCost
from fettle.training.batches import Batches
from fettle.training.checkpoint import Progress, load_checkpoint, logged_before, save_checkpoint
from fettle.training.computing import Computing
from fettle.training.epochs import keep_epoch
from fettle.training.evaluations import Evaluations
from fettle.training.events import EventStream, EventWriter, TrainingEvent, read_events
from fettle.training.helpers import Job, as_launched, num_threads_of_each
from fettle.training.led_division import team_for
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from fettle.training.memory_plan import chosen_way
from fettle.training.result import TrainingResult, cost_of, require_finite, result_of
from fettle.training.settings import Keep, TrainingSettings, derived_learning_rate, learning_rate_at
from fettle.training.team import Team

if TYPE_CHECKING:
    import torch

_SHARE_OF_SAVING = 0.05
"""Checkpoints of whole models take seconds: no more than this share of a run goes into them."""
_CHEAP_SAVE_SECONDS = 0.5
_EVENTS = "events.jsonl"


def _never() -> bool:
    """A run that nobody pauses."""
    return False


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
    start_from: Path | None = None,
    wants_pause: Callable[[], bool] = _never,
) -> TrainingResult:
    """Train an adapter or all weights, or go on where an earlier call in `folder` was cut off.

    The base model is given back as it was. What the step that is kept left (`TrainingSettings.keep`) lies in `folder/adapter` or
    `folder/model`, even where no step was better than none. Under `torchrun` every process calls this with the same arguments;
    otherwise this one starts the others that the settings ask for, and ends them.

    Args:
        loaded: The base model.
        train_rows: What it learns from.
        valid_rows: What decides which step was the best; none: there is no evaluation, and the last step is kept.
        settings: Of the run; the number of processes may be another one where a run is continued.
        folder: For checkpoints, events and what comes of it.
        run_key: Says which run this is: hash of data, model and settings.
        on_event: Is told of every event.
        planned: What the run is expected to take, for its event stream; None: its memory is planned here.
        start_from: The folder of an adapter that is trained further, in the shape it has; None: a fresh one.
        wants_pause: Asked in every step and evaluation of the first process. Once it says so, the run stops after that step.

    Raises:
        TrainingPausedError: It was asked to stop. Everything up to its last step is in a checkpoint.
        DivergedError: A loss or gradient is not finite.
        IntegrityError: An adapter is on the model already, or its weights are not held as the method wants them.
        ModelError: `start_from` holds no adapter for this model.
        ResourceError: The machine's memory does not suffice, or one of several processes has ended.
        DiskFullError: No space for a checkpoint.
    """
    settings = as_launched(settings)
    max_tokens, recomputes = chosen_way(
        loaded,
        train_rows,
        settings,
        planned=planned,
        first=read_events(folder / _EVENTS).planned,
        start_from=start_from,
    )
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
        start_from=start_from,
    )
    with team_for(loaded, job) as team:
        return take_part(loaded, job, team, on_event=on_event, planned=planned, wants_pause=wants_pause)


def take_part(
    loaded: LoadedModel,
    job: Job,
    team: Team,
    *,
    on_event: Callable[[TrainingEvent], None] | None = None,
    planned: TrainingCost | None = None,
    wants_pause: Callable[[], bool] = _never,
) -> TrainingResult:
    """One process's part of a run; see `train`."""
    run = _Run(loaded, job, team, on_event, wants_pause)
    try:
        with memory_errors_explained("training"):
            run.restore(planned)
            while not run.is_over:
                if run.evaluation_is_due:
                    run.evaluate()
                if run.epoch_is_due:
                    run.keep_epoch()
                if run.save_is_due:
                    run.save()
                if not run.is_over:
                    run.step()
                if run.pause_is_due:
                    run.pause()
            return run.finish()
    finally:
        run.release()


class _Run:
    def __init__(
        self,
        loaded: LoadedModel,
        job: Job,
        team: Team,
        on_event: Callable[[TrainingEvent], None] | None,
        wants_pause: Callable[[], bool],
    ) -> None:
        from fettle.models.understood import require_understood
        from fettle.training.state import TrainedState
        from fettle.training.trainable import trainable

        forget_peak_memory(loaded.model.device)
        self._model = loaded.model
        self._job, self._settings, self._team = job, (settings := job.settings), team
        self._events_file = job.folder / _EVENTS
        self._events = EventWriter(self._events_file, on_event)
        self._wants_pause, self._is_to_pause = wants_pause, False
        self._batches = Batches(job.train_rows, settings.batch_size, settings.seed)
        self._steps_per_epoch = self._batches.steps_per_epoch
        self._num_steps = self._steps_per_epoch * settings.epochs
        self._evaluations = Evaluations(
            valid_rows=job.valid_rows, steps_per_epoch=self._steps_per_epoch, settings=settings
        )
        self._peak = settings.learning_rate or derived_learning_rate(self._model.num_parameters(), settings.method)
        if loaded.plain_reason is None:
            require_understood(self._model)
        self._computing = Computing(loaded=loaded, team=team, max_tokens=job.max_tokens, recomputes=job.recomputes)
        self._keeps_best = settings.keep is Keep.BEST and bool(job.valid_rows)
        self._trainable = trainable(loaded, settings, start_from=job.start_from)
        self._state = TrainedState(self._trainable.masters, learning_rate=self._peak, keeps_best=self._keeps_best)
        self._parameters = self._state.masters
        self._progress = Progress(run_key=job.run_key)
        self._last_saved, self._last_evaluated, self._last_kept_epoch = -1, -1, 0
        self._saved_at, self._save_seconds = time.perf_counter(), 0.0

    def restore(self, planned: TrainingCost | None) -> None:
        """Go on from the newest whole checkpoint of this run, and tell the listener what it had already logged."""
        self._team.require_same("what is trained", self._job.run_key)
        found = load_checkpoint(self._job.folder / "checkpoints", self._job.run_key)
        stream = read_events(self._events_file)
        if found is None or not self._state.is_in(found[1]):
            stream = EventStream()
        else:
            self._progress, tensors = found
            self._state.take_up(tensors)
            self._trainable.stepped()
            stream = logged_before(stream, self._progress)
            self._last_saved = self._progress.step
            self._last_evaluated, self._last_kept_epoch = stream.last_evaluation, stream.last_kept_epoch
        self._team.require_same("where the run stands", (self._progress, self._last_evaluated))
        if self._team.leads:  # all have read the file
            self._events.restart(replace(stream, planned=stream.planned or planned))

    @property
    def is_over(self) -> bool:
        """No step is left to take, and what is due after the last one is done."""
        done = self._progress.step >= self._num_steps or self._progress.stopped_early
        return self._progress.is_finished or (done and not self.evaluation_is_due and not self.epoch_is_due)

    @property
    def evaluation_is_due(self) -> bool:
        step = self._progress.step
        return self._last_evaluated != step and self._evaluations.is_due(step)

    @property
    def epoch_is_due(self) -> bool:
        """Whether the weights are to be kept as they are at the end of an epoch."""
        step = self._progress.step
        is_end = step > 0 and step % self._steps_per_epoch == 0
        return self._settings.kept_epochs > 0 and is_end and self._last_kept_epoch != step

    @property
    def save_is_due(self) -> bool:
        step = self._progress.step
        due = step % self._settings.checkpoint_steps == 0 or self._last_evaluated == step
        is_cheap = self._save_seconds < max(
            _CHEAP_SAVE_SECONDS, _SHARE_OF_SAVING * (time.perf_counter() - self._saved_at)
        )
        return self._team.leads and due and is_cheap and self._last_saved != step

    @property
    def pause_is_due(self) -> bool:
        """Whether the run was asked to stop, and has anything left to do."""
        return self._is_to_pause and not self.is_over

    def evaluate(self) -> None:
        """Measure the validation loss, keep the weights if it is the lowest so far, and decide whether to stop."""
        started = time.perf_counter()
        step = self._progress.step
        *sums, held = self._team.sums(
            *self._computing.summed_loss(self._evaluations.rows(step)), peak_memory_bytes(self._model.device)
        )
        total, num_tokens, num_right = sums
        loss = total / num_tokens
        require_finite(loss, "validation loss", step)
        self._last_evaluated = step
        is_full = self._evaluations.is_full(step)
        if self._keeps_best and is_full and step > 0:  # the loss before training is shown, but never what is kept
            self._keep_if_best(loss)
        self._note_memory(held)
        self._team.require_same("the weights", [float(master.detach().sum()) for master in self._parameters.values()])
        event = replace(self._event(started), valid_loss=loss, valid_accuracy=num_right / num_tokens)
        self._log(replace(event, is_full_evaluation=is_full))

    def _note_memory(self, held: float) -> None:
        peak = max(self._progress.peak_memory_bytes, int(held))
        self._progress = replace(self._progress, peak_memory_bytes=peak)

    def _keep_if_best(self, loss: float) -> None:
        best = self._progress.best_valid_loss
        if best is None or loss < best:
            self._state.note_best()
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
        batch = self._batches.at(step)
        self._state.optimiser.zero_grad(set_to_none=False)  # an adapter's gradients are views of one tensor
        total, num_trained, num_right, held, num_wishes = self._team.sums(
            *self._computing.add_gradients(batch), peak_memory_bytes(self._model.device), float(self._wants_pause())
        )
        self._note_memory(held)
        self._is_to_pause = num_wishes > 0  # all processes learn of it in the same step
        self._team.add_up(self._gradients())
        for parameter in self._parameters.values():
            if parameter.grad is not None:
                parameter.grad.div_(num_trained)  # the one division: sums above, a mean below
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._settings.max_grad_norm))
        require_finite(total, "training loss", step)
        require_finite(norm, "gradient norm", step)
        if norm == 0.0 and total > 0.0:
            raise IntegrityError(f"no gradient reached what is trained at step {step}", remedy="report this")
        rate = learning_rate_at(
            step,
            num_steps=self._num_steps,
            peak=self._peak,
            warmup_fraction=self._settings.warmup_fraction,
            schedule=self._settings.schedule,
        )
        for group in self._state.optimiser.param_groups:
            group["lr"] = rate
        self._state.optimiser.step()
        self._trainable.stepped()
        self._progress = replace(self._progress, step=step + 1)
        event = replace(
            self._event(started),
            train_loss=total / num_trained,
            train_accuracy=num_right / num_trained,
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

    def keep_epoch(self) -> None:
        """Write the weights as they are now; only then is it said that they are there."""
        started = time.perf_counter()
        self._last_kept_epoch = self._progress.step
        if self._team.leads:
            name = keep_epoch(
                self._job.folder, self._progress.step, self._trainable.save, num_kept=self._settings.kept_epochs
            )
            self._log(replace(self._event(started), epoch_folder=name))

    def save(self) -> None:
        """Write a checkpoint."""
        started = time.perf_counter()
        progress = replace(self._progress, num_events=self._events.num_events)
        save_checkpoint(self._job.folder / "checkpoints", progress, self._state.tensors())
        self._last_saved, self._saved_at = self._progress.step, time.perf_counter()
        self._save_seconds = self._saved_at - started

    def pause(self) -> None:
        """Stop, with a checkpoint of this very step however long it takes.

        Raises:
            TrainingPausedError: Always.
        """
        if self._team.leads and self._last_saved != self._progress.step:
            self.save()
        raise TrainingPausedError(
            f"the training was stopped on request after step {self._progress.step} of {self._num_steps}",
            remedy="start it again: it goes on from there",
        )

    def finish(self) -> TrainingResult:
        """Write the weights that are kept and sum up the events."""
        self._state.restore_best()
        self._trainable.stepped()
        if not self._keeps_best:
            self._progress = replace(self._progress, best_step=self._progress.step)
        if self._team.leads:
            self._trainable.save(self._trainable.place(self._job.folder))
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

    def _event(self, started: float) -> TrainingEvent:
        """Of what began then, with nothing measured yet."""
        return TrainingEvent(
            step=self._progress.step,
            num_steps=self._num_steps,
            epoch=self._progress.step / self._steps_per_epoch,
            seconds=time.perf_counter() - started,
        )

    def _log(self, event: TrainingEvent) -> None:
        if self._team.leads:
            self._events.log(event)
