"""The event stream of a run: what was planned, each step and evaluation, and what the run took in the end.

One JSON line each: `{"plan": {...}}` first, where there was a plan, and `{"actual": {...}}` last, once the run is finished. Files
of versions that wrote neither are read as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fettle.files import append_json_lines, peek_json_lines, write_json_lines
from fettle.report_records import TrainingCost

_PLAN, _ACTUAL = "plan", "actual"


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
    train_accuracy: float | None = None
    """Share of the step's trained tokens that the model gave the highest probability, 0 to 1; None on an evaluation."""
    valid_loss: float | None = None
    """Mean validation loss, nats; None on a step."""
    valid_accuracy: float | None = None
    is_full_evaluation: bool = False
    """Whether all validation rows took part in an evaluation."""
    epoch_folder: str | None = None
    """Where the weights as they are after this epoch lie now, from the run's folder; None: this event is about a step or an
    evaluation."""
    learning_rate: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """What is in the stream of one run."""

    planned: TrainingCost | None = None
    """None: nobody planned the run, or an older version wrote the stream."""
    events: tuple[TrainingEvent, ...] = ()
    actual: TrainingCost | None = None
    """None: the run is not finished, or an older version wrote the stream."""

    @property
    def last_evaluation(self) -> int:
        """The steps that were done at the last one; -1: there was none."""
        return max((event.step for event in self.events if event.valid_loss is not None), default=-1)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of the file."""
        return [
            *([] if self.planned is None else [{_PLAN: asdict(self.planned)}]),
            *(asdict(event) for event in self.events),
            *([] if self.actual is None else [{_ACTUAL: asdict(self.actual)}]),
        ]

    @property
    def last_kept_epoch(self) -> int:
        """The steps that were done when weights were last kept at the end of an epoch; 0: they never were."""
        return max((event.step for event in self.events if event.epoch_folder is not None), default=0)

    def first(self, num_events: int) -> EventStream:
        """Without what came after so many events, the end of the run included."""
        return EventStream(planned=self.planned, events=self.events[:num_events])

    def up_to(self, step: int) -> EventStream:
        """Without what came after that step, the end of the run included."""
        return self.first(sum(event.step <= step for event in self.events))


def read_events(file: Path) -> EventStream:
    """The stream in a file; an empty one where there is no file. A line cut by a kill is left out."""
    planned = actual = None
    events = []
    for row in peek_json_lines(file):
        if _PLAN in row:
            planned = TrainingCost(**row[_PLAN])
        elif _ACTUAL in row:
            actual = TrainingCost(**row[_ACTUAL])
        else:
            events.append(TrainingEvent(**row))
    return EventStream(planned=planned, events=tuple(events), actual=actual)


class EventWriter:
    """Writes a run's stream, and tells a listener of every event.

    Args:
        file: The stream.
        on_event: The listener.
    """

    def __init__(self, file: Path, on_event: Callable[[TrainingEvent], None] | None) -> None:
        self._file, self._on_event = file, on_event
        self.num_events = 0
        """How many are in the file."""

    def restart(self, stream: EventStream) -> None:
        """Go on from what is known of the run's earlier lives; the listener is told of their events first."""
        write_json_lines(self._file, stream.rows)
        self.num_events = len(stream.events)
        for event in stream.events:
            self._announce(event)

    def log(self, event: TrainingEvent) -> None:
        """Append an event."""
        append_json_lines(self._file, [asdict(event)])
        self.num_events += 1
        self._announce(event)

    def finish(self, actual: TrainingCost) -> None:
        """Append what the run took."""
        append_json_lines(self._file, [{_ACTUAL: asdict(actual)}])

    def _announce(self, event: TrainingEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
