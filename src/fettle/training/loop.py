"""The training loop: evaluate if due, save if due, step, log.

One loop for every algorithm. A run is a function of its data, model and settings: killed anywhere and started again it takes
the same steps to the same weights, bit for bit on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fettle.errors import IntegrityError, memory_errors_explained
from fettle.files import append_json_lines, read_json_lines, write_json_lines
from fettle.models.load import LoadedModel
from fettle.records import TokenisedExample
from fettle.report_records import LossPoint
from fettle.training.batches import batch_at, num_steps_per_epoch
from fettle.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from fettle.training.memory import forget_peak_memory, peak_memory_bytes
from fettle.training.settings import TrainingSettings, derived_learning_rate, learning_rate_at

_SHARE_OF_SAVING = 0.05
"""Checkpoints of whole models take seconds: no more than this share of a run goes into them."""
_CHEAP_SAVE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingEvent:
    """One line of the event stream; everything that shows progress reads these."""

    step: int
    """Steps done."""
    num_steps: int
    epoch: float
    seconds: float
    """Wall time of this step or evaluation."""
    num_tokens: int = 0
    """Tokens of the step's examples, padding excluded, shared prefixes counted in each."""
    num_trained_tokens: int = 0
    train_loss: float | None = None
    """Mean loss of the step's trained tokens, nats; None on an evaluation."""
    valid_loss: float | None = None
    """Mean validation loss, nats; None on a step."""
    learning_rate: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """A finished run."""

    tuned: Path
    """What the best step left: the PEFT folder of an adapter, or the folder of a model where all weights were trained."""
    loss_points: tuple[LossPoint, ...]
    best_step: int
    num_steps: int
    stopped_early: bool
    learning_rate: float
    num_trained_tokens: int
    num_processed_tokens: int
    seconds: float
    peak_memory_bytes: int
    """The most that the process held while it trained, the base model included."""


def train(
    loaded: LoadedModel,
    train_rows: Sequence[TokenisedExample],
    valid_rows: Sequence[TokenisedExample],
    settings: TrainingSettings,
    *,
    folder: Path,
    run_key: str,
    on_event: Callable[[TrainingEvent], None] | None = None,
) -> TrainingResult:
    """Train an adapter or all weights, or go on where an earlier call in `folder` was cut off.

    The base model is given back as it was. What the trained step with the lowest validation loss left lies in `folder/adapter` or
    `folder/model`, even where no step was better than none.

    Raises:
        IntegrityError: A loss or gradient is not finite, an adapter is on the model already, or its weights are not held as the
            method wants them.
        ResourceError: The machine's memory does not suffice.
        DiskFullError: No space for a checkpoint.
    """
    run = _Run(loaded, train_rows, valid_rows, settings, folder, run_key, on_event)
    try:
        with memory_errors_explained("training"):
            run.restore()
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
        self,
        loaded: LoadedModel,
        train_rows: Sequence[TokenisedExample],
        valid_rows: Sequence[TokenisedExample],
        settings: TrainingSettings,
        folder: Path,
        run_key: str,
        on_event: Callable[[TrainingEvent], None] | None,
    ) -> None:
        import torch

        from fettle.models.understood import require_understood
        from fettle.training.trainable import trainable

        self._plainly = loaded.plain_reason is not None
        forget_peak_memory(loaded.model.device)
        self._model = loaded.model
        self._train_rows, self._valid_rows, self._settings = train_rows, valid_rows, settings
        self._folder, self._on_event = folder, on_event
        self._events_file = folder / "events.jsonl"
        self._steps_per_epoch = num_steps_per_epoch(len(train_rows), settings.batch_size)
        self._num_steps = self._steps_per_epoch * settings.epochs
        self._peak = settings.learning_rate or derived_learning_rate(self._model.num_parameters(), settings.method)
        if not self._plainly:
            require_understood(self._model)
        self._trainable = trainable(loaded, settings)
        self._parameters = self._trainable.masters
        self._best = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=self._peak, weight_decay=0.0, fused=True)
        self._progress = Progress(run_key=run_key)
        self._last_saved = -1
        self._saved_at, self._save_seconds = time.perf_counter(), 0.0
        self._last_evaluated = -1

    def restore(self) -> None:
        """Go on from the newest whole checkpoint of this run, and tell the listener what it had already logged."""
        import torch

        found = load_checkpoint(self._folder / "checkpoints", self._progress.run_key)
        events = read_json_lines(self._events_file)
        if found is None or any(f"now.{name}" not in found[1] for name in self._parameters):  # or of an older version
            write_json_lines(self._events_file, [])
            return
        self._progress, tensors = found
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
        # Steps after the checkpoint are taken again, and so are their events.
        kept = [row for row in events if row["step"] <= self._progress.step]
        write_json_lines(self._events_file, kept)
        self._last_saved = self._progress.step
        evaluated = [row["step"] for row in kept if row["valid_loss"] is not None]
        self._last_evaluated = evaluated[-1] if evaluated else -1
        for row in kept:
            self._announce(TrainingEvent(**row))

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
        return due and is_cheap and self._last_saved != step

    def evaluate(self) -> None:
        """Measure the validation loss, keep the weights if it is the lowest so far, and decide whether to stop."""
        from fettle.training.accumulate import mean_loss

        started = time.perf_counter()
        loss = mean_loss(
            self._model,
            self._valid_rows,
            batch_size=32,
            max_tokens=self._settings.micro_batch_tokens,
            plainly=self._plainly,
        )
        _require_finite(loss, "validation loss", self._progress.step)
        self._last_evaluated = self._progress.step
        if self._progress.step > 0:  # the loss before training is shown, but a run gives the best that it trained
            self._keep_if_best(loss)
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

        from fettle.training.accumulate import add_gradients

        started = time.perf_counter()
        step = self._progress.step
        indices = batch_at(
            step, num_examples=len(self._train_rows), batch_size=self._settings.batch_size, seed=self._settings.seed
        )
        batch = [self._train_rows[index] for index in indices]
        self._optimiser.zero_grad(set_to_none=False)  # an adapter's gradients are views of one tensor
        total, num_trained = add_gradients(
            self._model, batch, max_tokens=self._settings.micro_batch_tokens, plainly=self._plainly
        )
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
            num_trained_tokens=num_trained,
        )
        self._log(replace(event, learning_rate=rate, grad_norm=norm))

    def save(self) -> None:
        """Write a checkpoint."""
        peak = max(self._progress.peak_memory_bytes, peak_memory_bytes(self._model.device))
        self._progress = replace(self._progress, peak_memory_bytes=peak)
        tensors = {f"now.{name}": parameter for name, parameter in self._parameters.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        for (name, _), parameter in zip(
            self._parameters.items(), self._optimiser.param_groups[0]["params"], strict=True
        ):
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        started = time.perf_counter()
        save_checkpoint(self._folder / "checkpoints", self._progress, tensors)
        self._last_saved, self._saved_at = self._progress.step, time.perf_counter()
        self._save_seconds = self._saved_at - started

    def finish(self) -> TrainingResult:
        """Write the best weights and sum up the events."""
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._best[name])
        self._trainable.stepped()
        tuned = self._trainable.save(self._folder)
        if not self._progress.is_finished:
            self._progress = replace(self._progress, is_finished=True)
            self.save()
        rows = [TrainingEvent(**row) for row in read_json_lines(self._events_file)]
        return TrainingResult(
            tuned=tuned,
            loss_points=tuple(
                LossPoint(step=row.step, epoch=row.epoch, train_loss=row.train_loss, valid_loss=row.valid_loss)
                for row in rows
            ),
            best_step=self._progress.best_step,
            num_steps=self._progress.step,
            stopped_early=self._progress.stopped_early,
            learning_rate=self._peak,
            num_trained_tokens=sum(row.num_trained_tokens for row in rows),
            num_processed_tokens=sum(row.num_tokens for row in rows),
            seconds=sum(row.seconds for row in rows),
            peak_memory_bytes=self._progress.peak_memory_bytes,
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

    def _announce(self, event: TrainingEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _log(self, event: TrainingEvent) -> None:
        append_json_lines(self._events_file, [asdict(event)])
        self._announce(event)


def _require_finite(value: float, what: str, step: int) -> None:
    if not abs(value) < float("inf"):  # also true of NaN
        raise IntegrityError(
            f"the {what} is {value} at step {step}: training has diverged",
            remedy="lower --learning-rate, or use --precision exact; nothing of this step was kept",
        )
