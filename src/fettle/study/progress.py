"""What a running study says of itself; the terminal, a page or a log show it as they like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fettle.training.events import TrainingEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How far one stage is."""

    name: str
    """What is being done, in words: `few_shot answers the validation split`."""
    num_done: int
    num_total: int
    note: str = ""
    """What else is worth seeing, such as the loss."""


class Listener(Protocol):
    """Receives what a study says of itself."""

    def on_stage(self, stage: Stage) -> None:
        """A stage has come further."""
        ...

    def on_message(self, text: str) -> None:
        """Something worth telling once."""
        ...


class SilentListener:
    """Says nothing."""

    def on_stage(self, stage: Stage) -> None:
        """Nothing."""

    def on_message(self, text: str) -> None:
        """Nothing."""


def training_listener(listener: Listener) -> Callable[[TrainingEvent], None]:
    """Turns training events into a stage with loss in its note."""
    latest: dict[str, float] = {}

    def on_event(event: TrainingEvent) -> None:
        if event.train_loss is not None:
            latest["loss"] = event.train_loss
        if event.valid_loss is not None:
            latest["validation"] = event.valid_loss
        note = ", ".join(f"{name} {value:.3f}" for name, value in latest.items())
        listener.on_stage(Stage(name="training", num_done=event.step, num_total=event.num_steps, note=note))

    return on_event
