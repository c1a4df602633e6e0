"""Training events as stages of a study."""

from __future__ import annotations

from collections.abc import Callable

from fettle.progress import Listener, Stage
from fettle.training.events import TrainingEvent


def training_listener(listener: Listener, name: str = "training") -> Callable[[TrainingEvent], None]:
    """Turns training events into a stage with loss in its note."""
    latest: dict[str, float] = {}

    def on_event(event: TrainingEvent) -> None:
        if event.train_loss is not None:
            latest["loss"] = event.train_loss
        if event.valid_loss is not None:
            latest["validation"] = event.valid_loss
        note = ", ".join(f"{name} {value:.3f}" for name, value in latest.items())
        listener.on_stage(Stage(name=name, num_done=event.step, num_total=event.num_steps, note=note))

    return on_event
